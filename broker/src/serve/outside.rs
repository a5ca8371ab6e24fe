//! Requests about processes that are not in the table: neither asleep nor on their way there. What may be
//! told of them is decided by their facts, of which the launcher must name the program.

use super::Server;
use super::event_loop::ending;
use super::pending::{Pending, not_asleep};
use super::process::public_facts;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::Job;
use memcr_protocol::report::{Entry, State};
use memcr_protocol::subject::{Action, TargetFacts};
use std::os::fd::{AsFd, OwnedFd};

/// A request that waits for the launcher to name the program of its process.
#[derive(Debug)]
pub(super) struct Outside {
    pending: Pending,
    pidfd: OwnedFd,
}

impl Server {
    /// Asks the launcher; [`Server::program_named`] goes on.
    pub(super) fn ask_outside(&mut self, pending: Pending, pidfd: OwnedFd) {
        let duplicate = match pidfd.try_clone() {
            Ok(duplicate) => duplicate,
            Err(cause) => {
                let failure = Failure::new(Code::Limit, format!("duplicate the pidfd: {cause}"));
                self.conclude(&pending, None, None, Err(failure));
                return;
            }
        };
        let ticket = self.new_id();
        let Some(launcher) = &mut self.launcher else {
            self.conclude(&pending, None, None, Err(ending()));
            return;
        };
        let sent = launcher.send(&Job::NameProgram { ticket }, vec![duplicate]);
        self.naming.insert(ticket, Outside { pending, pidfd });
        self.launcher_sent(sent);
    }

    /// The launcher has named the program behind `ticket`, or has found none.
    pub(super) fn program_named(&mut self, ticket: u64, executable: Option<String>) {
        let Some(Outside { pending, pidfd }) = self.naming.remove(&ticket) else { return };
        let Some(mut facts) = public_facts(pending.pid, pidfd.as_fd()) else {
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
            self.conclude(&pending, Some(&facts), Some(&decision.rule), Err(not_asleep(facts.pid)));
        }
    }

    /// The launcher is gone and names nothing any more.
    pub(super) fn forget_outside_requests(&mut self) {
        for (_, Outside { pending, .. }) in std::mem::take(&mut self.naming) {
            self.conclude(&pending, None, None, Err(ending()));
        }
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
