//! What each request means, and which are refused at once.
//!
//! Whether a client may put a process to sleep or wake it is for the worker to decide. Here that is
//! decided which concerns the daemon's own table only: lists, states, and requests that it shows to
//! be pointless.

use super::admission::Limits;
use super::channel::Channel;
use super::event_loop::{Token, ending};
use super::pending::{Asker, Checkpoint, Pending, Restore, denial};
use super::process::{Named, has_exited, named_by};
use super::target::Target;
use super::{Server, Sleeper};
use crate::audit::record::Wire;
use memcr_protocol::client::{Answer, Completion, Request};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::{Job, SleepOptions};
use memcr_protocol::report::Entry;
use memcr_protocol::subject::{Action, TargetFacts};
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

/// Entries of a list that count for little, whoever reads it or not.
const FEW: usize = 16;

/// Name of the rule that denies clients which the kernel can't name here.
pub(super) const UNKNOWN_PEER: &str = "client unknown here";

impl Server {
    /// Does what a client asks, or sets about it.
    pub(super) fn request(&mut self, connection: u64, id: u32, request: Request, asker: Rc<Asker>) {
        let action = match &request {
            Request::Checkpoint(_) => Action::Checkpoint,
            Request::Restore => Action::Restore,
            Request::List => Action::List,
            Request::Status => Action::Status,
        };
        self.last_request += 1;
        let number = self.last_request;
        let known = asker.known;
        let since = Instant::now();
        let wire = Wire::Framed;
        let mut pending = Pending { number, connection, id, wire, asker, action, pid: 0, since };
        let target = if action == Action::List { Ok(None) } else { self.target_of(connection).map(Some) };
        if let Ok(Some((_, pid))) = &target {
            pending.pid = *pid;
        }
        if !known {
            self.deny(&pending, None, UNKNOWN_PEER);
        } else if self.stopping.is_some() {
            self.conclude(&pending, None, None, Err(ending()));
        } else {
            match target {
                Err(failure) => self.conclude(&pending, None, None, Err(failure)),
                Ok(Some((pidfd, _))) => self.serve(pending, request, pidfd),
                Ok(None) => self.list(&pending),
            }
        }
    }

    /// Does what is asked about the process of `pidfd`.
    pub(super) fn serve(&mut self, pending: Pending, request: Request, pidfd: OwnedFd) {
        let touches = matches!(request, Request::Checkpoint(_) | Request::Restore);
        if let Some(failure) = touches.then(|| self.record_beginning(&pending).err()).flatten() {
            return self.conclude(&pending, None, None, Err(failure));
        }
        match request {
            Request::Checkpoint(options) => match self.client_socket(pending.connection) {
                Ok(client) => self.checkpoint(Checkpoint { pending, options, pidfd, client }),
                Err(failure) => self.conclude(&pending, None, None, Err(failure)),
            },
            Request::Restore => match self.client_socket(pending.connection) {
                Ok(client) => self.restore(Restore { pending, client }, pidfd),
                Err(failure) => self.conclude(&pending, None, None, Err(failure)),
            },
            Request::Status => self.status(pending, pidfd),
            Request::List => self.list(&pending),
        }
    }

    /// The pidfd that came with the request, and the pid it stands for.
    fn target_of(&mut self, connection: u64) -> Result<(OwnedFd, i32), Failure> {
        let pidfd = self.connections.get_mut(&connection).and_then(super::connection::Connection::take_pidfd);
        let pidfd = pidfd.ok_or_else(|| Failure::new(Code::Protocol, "no pidfd came with the request"))?;
        let pid = process_of(&pidfd)?;
        Ok((pidfd, pid))
    }

    pub(super) fn client_socket(&self, connection: u64) -> Result<OwnedFd, Failure> {
        let duplicate = self.connections.get(&connection).map(super::connection::Connection::duplicate);
        duplicate.unwrap_or(Err(io::ErrorKind::NotConnected.into())).map_err(|cause| no_socket(&cause))
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let pid = checkpoint.pending.pid;
        if let Some(failure) = self.refusal_of(pid) {
            self.conclude(&checkpoint.pending, None, None, Err(failure));
            return;
        }
        if !self.by_pid.contains_key(&pid) {
            self.start(checkpoint);
            return;
        }
        self.checkpoint_again(checkpoint);
    }

    /// A checkpoint of a process with a number of which there is a worker.
    fn checkpoint_again(&mut self, checkpoint: Checkpoint) {
        let Some(ticket) = self.by_pid.get(&checkpoint.pending.pid).copied() else { return };
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        let another = has_exited(sleeper.pidfd.as_fd()) && !has_exited(checkpoint.pidfd.as_fd());
        let effects = sleeper.target.ask_checkpoint(checkpoint, another, &self.policy);
        self.apply(ticket, effects);
    }

    /// What is never put to sleep, whoever asks.
    pub(super) fn refusal_of(&self, pid: i32) -> Option<Failure> {
        let own = u32::try_from(pid).is_ok_and(|pid| pid == self.own_pid)
            || pid == self.launcher_pid
            || self.sleepers.values().any(|sleeper| sleeper.worker == Some(pid));
        if pid == 1 {
            Some(Failure::new(Code::TargetRefused, "process 1 is never put to sleep: the system needs it"))
        } else if own {
            Some(Failure::new(Code::TargetRefused, format!("process {pid} is one of memcr's own")))
        } else {
            None
        }
    }

    /// Starts the first of those who waited for a worker to end; the others wait for this one.
    pub(super) fn start_next(&mut self, waiting: VecDeque<Checkpoint>) {
        for checkpoint in waiting {
            if self.by_pid.contains_key(&checkpoint.pending.pid) {
                self.checkpoint_again(checkpoint);
            } else {
                self.start(checkpoint);
            }
        }
    }

    /// Has the launcher fork a worker for it.
    fn start(&mut self, checkpoint: Checkpoint) {
        let uid = checkpoint.pending.asker.peer.uid;
        if !self.limits.admits_target(uid, self.sleepers.values().map(|sleeper| sleeper.owner)) {
            let message = format!(
                "{} processes sleep already, as many as the daemon or user {uid} may have; wake some",
                self.sleepers.len()
            );
            let failure = Failure::new(Code::Limit, message);
            self.conclude(&checkpoint.pending, None, None, Err(failure));
            return;
        }
        if let Err((pending, failure)) = self.try_start(checkpoint) {
            self.conclude(&pending, None, None, Err(failure));
        }
    }

    fn try_start(&mut self, checkpoint: Checkpoint) -> Result<(), (Pending, Failure)> {
        let Checkpoint { pending, options, pidfd, client } = checkpoint;
        let lacking = |what: &str, cause: io::Error| Failure::new(Code::Limit, format!("{what}: {cause}"));
        let Some(directory) = self.directories.find(options.directory.as_deref()) else {
            let name = options.directory.unwrap_or_default();
            let message = format!("{name:?} is not one of the daemon's image directories");
            return Err((pending, Failure::new(Code::Protocol, message)));
        };
        let made = Channel::pair().map_err(|cause| lacking("make a control channel", cause.into()));
        let made = made.and_then(|(control, worker)| {
            let target = pidfd.try_clone().map_err(|cause| lacking("duplicate the pidfd", cause))?;
            let directory = directory.try_clone_to_owned();
            let directory = directory.map_err(|cause| lacking("duplicate the image directory", cause))?;
            Ok((control, vec![worker, client, target, directory]))
        });
        let (control, descriptors) = match made {
            Ok(made) => made,
            Err(failure) => return Err((pending, failure)),
        };
        let ticket = self.new_id();
        if let Err(cause) = self.watch(&control, Token::Worker(ticket), EpollFlags::EPOLLIN) {
            return Err((pending, Failure::new(Code::Limit, cause.to_string())));
        }
        let Some(launcher) = &mut self.launcher else {
            return Err((pending, ending()));
        };
        let compression = options.compression.unwrap_or(self.defaults.compression);
        let options = SleepOptions { compression, ..self.defaults };
        let sent = launcher.send(&Job::Sleep { ticket, options }, descriptors);
        self.by_pid.insert(pending.pid, ticket);
        let owner = pending.asker.peer.uid;
        let target = Target::new(pending);
        let control = Some(control);
        let sleeper = Sleeper { target, owner, control, watched_for_room: false, pidfd, worker: None };
        self.sleepers.insert(ticket, sleeper);
        self.launcher_sent(sent);
        Ok(())
    }

    fn restore(&mut self, restore: Restore, pidfd: OwnedFd) {
        let ticket = self.by_pid.get(&restore.pending.pid).copied();
        let sleeper = ticket.and_then(|ticket| Some((ticket, self.sleepers.get_mut(&ticket)?)));
        match sleeper {
            // one that died and whose number went to another does not sleep
            Some((ticket, sleeper)) if !has_exited(sleeper.pidfd.as_fd()) || has_exited(pidfd.as_fd()) => {
                let effects = sleeper.target.ask_restore(restore, &self.policy);
                self.apply(ticket, effects);
            }
            Some(_) | None => self.ask_outside(restore.pending, pidfd),
        }
    }

    fn status(&mut self, pending: Pending, pidfd: OwnedFd) {
        let sleeper = self.by_pid.get(&pending.pid).and_then(|ticket| self.sleepers.get(ticket));
        let known = sleeper
            .filter(|sleeper| !has_exited(sleeper.pidfd.as_fd()) || has_exited(pidfd.as_fd()))
            .and_then(|sleeper| Some((sleeper.target.entry()?, sleeper.target.facts()?.clone())));
        let Some((entry, facts)) = known else {
            self.ask_outside(pending, pidfd);
            return;
        };
        let decision = self.policy.decide(&pending.asker.peer, Action::Status, &facts);
        if decision.allowed {
            self.listed(&pending, Some(&facts), Some(&decision.rule), vec![entry]);
        } else {
            self.deny(&pending, Some(&facts), &decision.rule);
        }
    }

    fn list(&mut self, pending: &Pending) {
        let visible = |sleeper: &Sleeper| {
            let decision = self.policy.decide(&pending.asker.peer, Action::List, sleeper.target.facts()?);
            if decision.allowed { sleeper.target.entry() } else { None }
        };
        let mut entries: Vec<_> = self.sleepers.values().filter_map(visible).collect();
        entries.sort_by_key(|entry| entry.pid);
        self.listed(pending, None, None, entries);
    }

    pub(super) fn listed(
        &mut self,
        pending: &Pending,
        facts: Option<&TargetFacts>,
        rule: Option<&str>,
        entries: Vec<Entry>,
    ) {
        if entries.len() > FEW && self.reads_too_little(pending.connection) {
            let message =
                "clients of this user leave too many answers unread for so long a list; read them first";
            return self.conclude(pending, facts, rule, Err(Failure::new(Code::Limit, message)));
        }
        if let Err(failure) = self.record_listing(pending, facts, rule, entries.len()) {
            return self.answer(pending, Err(failure));
        }
        for entry in entries {
            self.reply_more(pending.connection, pending.id, Answer::Entry(entry));
        }
        self.reply(pending.connection, pending.id, Answer::Done(Completion::Listed));
    }

    fn reads_too_little(&self, connection: u64) -> bool {
        let connection = self.connections.get(&connection);
        connection.is_some_and(|client| Limits::has_too_much_unread(client.uid(), &self.connections))
    }

    pub(super) fn deny(&mut self, pending: &Pending, facts: Option<&TargetFacts>, rule: &str) {
        let failure = denial(pending.action, pending.pid, rule);
        self.conclude(pending, facts, Some(rule), Err(failure));
    }
}

pub(super) fn no_socket(cause: &io::Error) -> Failure {
    Failure::new(Code::Limit, format!("duplicate the client's socket: {cause}"))
}

/// The process that a pidfd stands for.
pub(super) fn process_of(pidfd: &OwnedFd) -> Result<i32, Failure> {
    match named_by(pidfd.as_fd()) {
        Named::Process(pid) => Ok(pid),
        Named::Gone => Err(Failure::new(Code::NoSuchProcess, "the process has exited")),
        Named::Invisible => Err(Failure::new(
            Code::NoSuchProcess,
            "the process is not visible to the daemon: it lives in another pid namespace",
        )),
        Named::Thread => Err(Failure::new(Code::Protocol, "the pidfd is one of a thread, not of a process")),
        Named::Nothing => Err(Failure::new(Code::Protocol, "the descriptor that came along is not a pidfd")),
    }
}
