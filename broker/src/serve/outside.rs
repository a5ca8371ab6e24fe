//! Requests about processes that are not in the table: as far as this daemon goes, neither asleep nor on their way
//! there. What may be told of them is decided by their facts, of which the launcher must name the program.

use super::Server;
use super::lookups::{Lookup, no_duplicate};
use super::pending::{Pending, not_asleep};
use super::process::{Public, public_facts};
use memcr_protocol::client::Request;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::report::{Entry, State};
use memcr_protocol::subject::{Action, TargetFacts};
use std::os::fd::{AsFd, OwnedFd};

/// A request that waits for the launcher to name the program of its process.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) pending: Pending,
    pub(super) pidfd: OwnedFd,
}

impl Server {
    /// Asks the launcher; [`Server::program_named`] goes on.
    pub(super) fn ask_outside(&mut self, pending: Pending, pidfd: OwnedFd) {
        self.look_up(Lookup::Program(Outside { pending, pidfd }));
    }

    /// The same for the process of a ticket, whose worker has said its last word.
    pub(super) fn ask_outside_again(&mut self, ticket: u64, pending: Pending) {
        let Some(sleeper) = self.sleepers.get(&ticket) else { return };
        match sleeper.pidfd.try_clone() {
            Ok(pidfd) => self.ask_outside(pending, pidfd),
            Err(cause) => self.conclude(&pending, None, None, Err(no_duplicate(&cause))),
        }
    }

    /// The launcher has named the program behind `ticket`, or has found none.
    pub(super) fn program_named(&mut self, ticket: u64, executable: Option<String>, may_be_guarded: bool) {
        let Some(Lookup::Program(Outside { pending, pidfd })) = self.looked_up(ticket) else { return };
        if pending.action == Action::Restore && self.has_come_in(pending.pid) {
            self.serve(pending, Request::Restore, pidfd);
            return;
        }
        let Some(Public { mut facts, tracer }) = public_facts(pending.pid, pidfd.as_fd()) else {
            let failure = format!("process {} has exited, or is hidden from the daemon", pending.pid);
            self.conclude(&pending, None, None, Err(Failure::new(Code::NoSuchProcess, failure)));
            return;
        };
        facts.executable = executable.unwrap_or_default();
        let decision = self.policy.decide(&pending.asker.peer, pending.action, &facts);
        if !decision.allowed {
            self.deny(&pending, Some(&facts), &decision.rule);
        } else if pending.action == Action::Status {
            self.listed(&pending, Some(&facts), Some(&decision.rule), vec![running(&facts)]);
        } else {
            let failure = why_not_woken(facts.pid, tracer, may_be_guarded);
            self.conclude(&pending, Some(&facts), Some(&decision.rule), Err(failure));
        }
    }

    /// Whether a process of this number has come into the table since the launcher was asked about it.
    fn has_come_in(&self, pid: i32) -> bool {
        let sleeper = self.by_pid.get(&pid).and_then(|ticket| self.sleepers.get(ticket));
        sleeper.is_some_and(|sleeper| !sleeper.target.is_ending())
    }
}

/// The answer to a restore of a process that doesn't sleep here. Clients take "not asleep" for as good as woken:
/// it is not said of one that may sleep elsewhere.
fn why_not_woken(pid: i32, tracer: Option<i32>, may_be_guarded: bool) -> Failure {
    match tracer {
        Some(tracer) => Failure::new(
            Code::Busy,
            format!(
                "process {pid} is not asleep here, but process {tracer} traces it (0: one that can't be seen from \
                 here) and may have put it to sleep; ask there"
            ),
        ),
        None if may_be_guarded => Failure::new(
            Code::TargetRefused,
            format!(
                "process {pid} is not asleep here, but has a userfaultfd, or more descriptors than can be looked at: \
                 it may have been asleep when another memcr was killed. If it doesn't run, it waits for memory that \
                 nobody has any more, and must be ended"
            ),
        ),
        None => not_asleep(pid),
    }
}

fn running(facts: &TargetFacts) -> Entry {
    Entry {
        pid: facts.pid,
        uid: facts.uids[1],
        executable: facts.executable.clone(),
        state: State::Running,
        since_seconds: 0,
        sleep: None,
    }
}
