//! What launcher and workers report, and what follows from it.

use super::Server;
use super::channel::ChannelError;
use super::event_loop::Token;
use super::pending::Pending;
use super::records::log_checksum;
use super::target::{Effect, Target};
use crate::audit::record::{BadEnd, Event, Target as Named, Times, Wire, Woken, WorkerReplaced};
use memcr_protocol::client::{Answer, Completion};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::{Ending, LauncherReport};
use memcr_protocol::subject::TargetFacts;
use memcr_protocol::worker::{WorkerCommand, WorkerEvent};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::OwnedFd;
use tracing::{debug, error, info, warn};

/// Messages taken from one channel in one turn: others have a turn too.
const AT_ONCE: usize = 64;

impl Server {
    pub(super) fn launcher_ready(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(launcher) = &mut self.launcher else { return };
            if launcher.is_behind() {
                let sent = launcher.flush();
                self.launcher_sent(sent);
            }
            let Some(launcher) = &self.launcher else { return };
            let mut descriptors = Vec::new();
            match launcher.receive_with(&mut self.buffer, &mut descriptors) {
                Ok(Some(report)) => self.launcher_reports(report, descriptors),
                Ok(None) => return,
                Err(cause) => self.launcher_lost(&cause),
            }
        }
    }

    /// Watches for room if a job had to be queued.
    pub(super) fn launcher_sent(&mut self, sent: Result<(), ChannelError>) {
        match (sent, &self.launcher) {
            (Ok(()), Some(launcher)) => {
                let mut flags = EpollFlags::EPOLLIN;
                flags.set(EpollFlags::EPOLLOUT, launcher.is_behind());
                let mut event = EpollEvent::new(flags, Token::Launcher.encode());
                if let Err(cause) = self.epoll.modify(launcher, &mut event) {
                    error!("watch the launcher: {cause}");
                }
            }
            (Ok(()), None) => {}
            (Err(cause), _) => self.launcher_lost(&cause),
        }
    }

    fn launcher_reports(&mut self, report: LauncherReport, descriptors: Vec<OwnedFd>) {
        match report {
            LauncherReport::Identified { ticket, peer } => self.identified(ticket, peer),
            LauncherReport::Started { ticket, worker } => {
                if let Some(sleeper) = self.sleepers.get_mut(&ticket) {
                    sleeper.worker = Some(worker);
                }
            }
            LauncherReport::Succeeded { ticket, worker } => self.succeeded(ticket, worker),
            LauncherReport::Ended { ticket, ending } => {
                // what the worker said last may not have been read yet; it says nothing more
                while self.worker_ready(ticket) {}
                self.ended(ticket, ending);
            }
            LauncherReport::ProgramNamed { ticket, executable, may_be_guarded } => {
                self.program_named(ticket, executable, may_be_guarded);
            }
            LauncherReport::TargetFound { ticket, found } => self.target_found(ticket, found, descriptors),
            LauncherReport::PolicyReloaded(text) => self.policy_reloaded(&text),
            LauncherReport::PolicyKept { reason } => self.policy_kept(&reason),
            LauncherReport::SetupFailed { reason } => error!("the launcher ends: {reason}"),
            LauncherReport::Ready { .. } => warn!("the launcher reports its setup a second time"),
        }
    }

    /// Without its launcher the daemon can't go on. Workers restore their targets all the same.
    fn launcher_lost(&mut self, cause: &ChannelError) {
        if let Some(launcher) = self.launcher.take() {
            error!("the launcher (process {}) is lost: {cause}", self.launcher_pid);
            let _ = self.epoll.delete(&launcher);
            self.stop("the launcher is lost");
            self.forget_unnamed();
            // workers that are gone already reported by nobody but their channel
            let gone = self.sleepers.iter().filter(|(_, sleeper)| sleeper.control.is_none());
            for ticket in gone.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
                self.ended_unreported(ticket);
            }
        }
    }

    /// Whether there may be more to read.
    pub(super) fn worker_ready(&mut self, ticket: u64) -> bool {
        for _ in 0..AT_ONCE {
            let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return false };
            let Some(control) = &mut sleeper.control else { return false };
            let message = match control.flush() {
                Ok(()) | Err(ChannelError::Closed) => control.receive::<WorkerEvent>(&mut self.buffer),
                Err(cause) => Err(cause),
            };
            match message {
                Ok(Some(event)) => {
                    if let WorkerEvent::Subjects { target, .. } = &event {
                        let asked = sleeper.target.pid();
                        if target.pid != asked {
                            warn!("the worker of process {asked} looks at process {}", target.pid);
                        }
                    }
                    let effects = sleeper.target.event(event, &self.policy);
                    self.apply(ticket, effects);
                }
                Ok(None) => {
                    self.watch_worker(ticket);
                    return false;
                }
                Err(cause) => {
                    self.worker_silent(ticket, &cause);
                    return false;
                }
            }
        }
        true
    }

    /// The worker says nothing more, or nothing that makes sense. Closing our end makes it restore and end.
    fn worker_silent(&mut self, ticket: u64, cause: &ChannelError) {
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        if let Some(control) = sleeper.control.take() {
            match cause {
                ChannelError::Closed => debug!("the worker of process {} hung up", sleeper.target.pid()),
                _ => error!("the worker of process {}: {cause}", sleeper.target.pid()),
            }
            let _ = self.epoll.delete(&control);
        }
        if self.launcher.is_none() {
            self.ended_unreported(ticket);
        }
    }

    /// Sends a command to a worker.
    pub(super) fn command(&mut self, ticket: u64, command: &WorkerCommand, descriptors: Vec<OwnedFd>) {
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        let Some(control) = &mut sleeper.control else { return };
        if let Err(cause) = control.send(command, descriptors) {
            // its last words are still to be read; then its end is noticed
            debug!("command the worker of process {}: {cause}", sleeper.target.pid());
        }
        self.watch_worker(ticket);
    }

    fn watch_worker(&mut self, ticket: u64) {
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        let Some(control) = &sleeper.control else { return };
        if control.is_behind() != sleeper.watched_for_room {
            sleeper.watched_for_room = control.is_behind();
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, sleeper.watched_for_room);
            let mut event = EpollEvent::new(flags, Token::Worker(ticket).encode());
            if let Err(cause) = self.epoll.modify(control, &mut event) {
                error!("watch the worker of process {}: {cause}", sleeper.target.pid());
            }
        }
    }

    fn succeeded(&mut self, ticket: u64, worker: i32) {
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        warn!(
            "the worker of process {} died while it slept; worker {worker} restores it",
            sleeper.target.pid()
        );
        sleeper.worker = Some(worker);
        sleeper.target.replaced();
        let target = Named::of(sleeper.target.pid(), sleeper.target.facts());
        self.audit.record(Event::WorkerReplaced(WorkerReplaced { target, worker }));
    }

    /// The launcher is gone and so is the worker: nobody else will tell how it ended.
    fn ended_unreported(&mut self, ticket: u64) {
        let freed = self.sleepers.get(&ticket).is_some_and(|sleeper| sleeper.target.is_freed());
        self.ended(ticket, if freed { Ending::DiedAsleep } else { Ending::DiedUnharmed });
    }

    fn ended(&mut self, ticket: u64, ending: Ending) {
        let Some(sleeper) = self.sleepers.get_mut(&ticket) else { return };
        debug!("the worker of process {} has ended: {ending:?}", sleeper.target.pid());
        let (effects, waiting) = sleeper.target.ended(ending, &self.policy);
        self.apply(ticket, effects);
        if let Some(sleeper) = self.sleepers.remove(&ticket) {
            if let Some(control) = &sleeper.control {
                // the worker's end may live on in a process that is just ending
                let _ = self.epoll.delete(control);
            }
            self.by_pid.remove(&sleeper.target.pid());
        }
        self.start_next(waiting);
    }

    /// Does what the state of a target asks for.
    pub(super) fn apply(&mut self, ticket: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer { pending, rule, outcome } => {
                    self.record_outcome(&pending, Some(ticket), None, rule.as_deref(), &outcome);
                    self.answer(&pending, outcome);
                }
                Effect::Outside(pending) => self.ask_outside_again(ticket, pending),
                Effect::Progress { connection, id, state, done, total } => {
                    self.reply_more(connection, id, Answer::Progress { state, done, total });
                }
                Effect::Order { ticket: order, client } => {
                    self.command(ticket, &WorkerCommand::Restore { ticket: order }, vec![client]);
                }
                Effect::Failed(failure) => self.record_bad_end(ticket, failure),
                Effect::SleepsOn(failure) => {
                    let Some(sleeper) = self.sleepers.get(&ticket) else { continue };
                    warn!("process {} sleeps on: {failure}", sleeper.target.pid());
                    self.audit.record(Event::RestoreFailed(bad_end(&sleeper.target, &failure)));
                }
                Effect::Woken(report) => {
                    let Some(sleeper) = self.sleepers.get(&ticket) else { continue };
                    let target = &sleeper.target;
                    info!("process {} runs again", target.pid());
                    log_checksum(target.pid(), "woken", report.checksum);
                    self.audit.record(Event::Woken(Woken {
                        target: Named::of(target.pid(), target.facts()),
                        bytes: report.restored,
                        pages: report.pages,
                        checksum: report.checksum,
                        times: Times::total(report.restore_micros).wake(&report),
                    }));
                }
            }
        }
    }

    fn record_bad_end(&mut self, ticket: u64, failure: Failure) {
        let Some(sleeper) = self.sleepers.get(&ticket) else { return };
        let target = &sleeper.target;
        let bad_end = bad_end(target, &failure);
        let event = if failure.code == Code::TargetLost {
            warn!("process {} is lost: {failure}", target.pid());
            Event::TargetLost(bad_end)
        } else {
            warn!("the sleep of process {} has ended: {failure}", target.pid());
            Event::SleepFailed(bad_end)
        };
        self.audit.record(event);
        self.bad_ends.push(failure);
    }

    /// Records and answers a request about which no worker is asked.
    pub(super) fn conclude(
        &mut self,
        pending: &Pending,
        facts: Option<&TargetFacts>,
        rule: Option<&str>,
        outcome: Result<Completion, Failure>,
    ) {
        self.record_outcome(pending, None, facts, rule, &outcome);
        self.answer(pending, outcome);
    }

    pub(super) fn answer(&mut self, pending: &Pending, outcome: Result<Completion, Failure>) {
        match pending.wire {
            Wire::Framed => {}
            Wire::V1 | Wire::V2 => return self.reply_legacy(pending, &outcome),
        }
        let answer = match outcome {
            Ok(completion) => Answer::Done(completion),
            Err(failure) => Answer::Failed(failure),
        };
        self.reply(pending.connection, pending.id, answer);
    }
}

fn bad_end<'a>(target: &'a Target, failure: &'a Failure) -> BadEnd<'a> {
    BadEnd {
        target: Named::of(target.pid(), target.facts()),
        guard: target.guard().map(memcr_protocol::report::Guard::name),
        code: failure.code.name(),
        message: &failure.message,
    }
}
