//! What is ready, whose turn it is, and how the daemon ends.

use super::{Server, Sleeper, Stopping};
use crate::audit::record::{Event, Stop};
use crate::error::{Attempt, BrokerError};
use crate::startup::listener::Listener;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::worker::WorkerCommand;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tracing::info;

/// Events taken at once.
const EVENTS: usize = 64;
/// How often clients are looked at that keep us waiting, while there are any.
const SWEEP: u16 = 1000;
/// Why a client that keeps us waiting is disconnected.
const OVERDUE: &str = "this client said nothing at first, or read nothing, for 30 s; connect again";
/// Why it ends that must not go on.
const FAULT: &str = "a fault of its own";
/// How long clients may take to read their last answers when the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Who is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    /// The listener's socket with this number.
    Listener(usize),
    Launcher,
    Worker(u64),
    Connection(u64),
    Outside(u64),
}

impl Token {
    /// As epoll keeps it: the number above three bits that tell the kind.
    pub(super) fn encode(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Listener(number) => u64::try_from(number).unwrap_or_default() << 3 | 1,
            Self::Launcher => 2,
            Self::Worker(ticket) => ticket << 3 | 3,
            Self::Connection(id) => id << 3 | 4,
            Self::Outside(number) => number << 3 | 5,
        }
    }

    fn decode(token: u64) -> Option<Self> {
        match (token & 7, token >> 3) {
            (0, _) => Some(Self::Signals),
            (1, number) => usize::try_from(number).ok().map(Self::Listener),
            (2, _) => Some(Self::Launcher),
            (3, ticket) => Some(Self::Worker(ticket)),
            (4, id) => Some(Self::Connection(id)),
            (5, number) => Some(Self::Outside(number)),
            _ => None,
        }
    }
}

/// What a turn brought that is somebody else's to deal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A signal asks for the end.
    Signal,
    /// What was given to `watch_outside` with this number is ready.
    Outside(u64),
    /// A sleep ended badly, though nobody had requested anything.
    BadEnd(Failure),
}

impl Server {
    /// Serves as `act` says, until that ends.
    ///
    /// # Errors
    /// Those of `act`; [`BrokerError::Fault`] after a mistake of our own (a panic): what we know may be wrong then. That is put
    /// on record; every worker restores its target when it sees that we are gone.
    pub(crate) fn run<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        catch_unwind(AssertUnwindSafe(|| act(self))).unwrap_or_else(|_| {
            self.audit.record(Event::Stop(Stop { reason: FAULT }));
            Err(BrokerError::Fault)
        })
    }

    /// Waits until something is ready, and deals with it.
    ///
    /// # Errors
    /// [`BrokerError`] when waiting itself fails.
    pub(crate) fn turn(&mut self) -> Result<Vec<Turn>, BrokerError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, self.timeout()) {
            Err(Errno::EINTR) => 0,
            other => other.attempt("wait for", "events")?,
        };
        let mut turns = Vec::new();
        for event in events.iter().take(count) {
            match Token::decode(event.data()) {
                Some(Token::Signals) => self.read_signals(&mut turns),
                Some(Token::Listener(number)) => self.accept(number),
                Some(Token::Launcher) => self.launcher_ready(),
                Some(Token::Worker(ticket)) => {
                    // epoll tells again if there is more
                    self.worker_ready(ticket);
                }
                Some(Token::Connection(id)) => self.connection_ready(id, event.events()),
                Some(Token::Outside(number)) => turns.push(Turn::Outside(number)),
                None => {}
            }
        }
        self.sweep();
        // those that come to be ready meanwhile wait for the next turn: a busy client keeps nobody from theirs
        for id in std::mem::take(&mut self.ready) {
            self.attend(id);
        }
        turns.extend(self.bad_ends.drain(..).map(Turn::BadEnd));
        Ok(turns)
    }

    /// Ends: no new clients, every target woken.
    pub(crate) fn stop(&mut self, reason: &'static str) {
        if self.stopping.is_some() {
            return;
        }
        info!("ending: {reason}; waking {} processes", self.sleepers.len());
        self.stopping = Some(Stopping { reason, idle_since: None });
        self.service_manager.stopping();
        if let Some(listener) = self.listener.take() {
            listener.remove();
        }
        self.forget_lookups();
        let tickets: Vec<_> = self.sleepers.keys().copied().collect();
        for ticket in tickets {
            let waiting = self.sleepers.get_mut(&ticket).map(|sleeper| sleeper.target.take_waiting());
            for checkpoint in waiting.into_iter().flatten() {
                self.conclude(&checkpoint.pending, None, None, Err(ending()));
            }
            self.command(ticket, &WorkerCommand::Wake, Vec::new());
        }
    }

    /// Whether it has ended: every worker is gone, and clients had time to read their answers. Leaves
    /// the last record.
    pub(crate) fn has_ended(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        if !self.sleepers.is_empty() {
            return false;
        }
        let idle_since = *stopping.idle_since.get_or_insert_with(Instant::now);
        if idle_since.elapsed() < LAST_WORDS && self.connections.values().any(|client| !client.is_flushed()) {
            return false;
        }
        let reason = stopping.reason;
        self.audit.record(Event::Stop(Stop { reason }));
        true
    }

    /// Whether the launcher is gone; then the daemon ends by itself.
    pub(crate) fn has_lost_its_launcher(&self) -> bool {
        self.launcher.is_none()
    }

    fn timeout(&self) -> EpollTimeout {
        let ending = self.stopping.is_some() && self.sleepers.is_empty();
        let timed = self.accept_again.is_some() || self.connections.values().any(|client| client.is_timed());
        let overdue = self.next_overdue().map(|time| time.saturating_duration_since(Instant::now()));
        let sweep = Duration::from_millis(SWEEP.into());
        if !self.ready.is_empty() {
            EpollTimeout::ZERO
        } else if ending {
            EpollTimeout::from(50_u16)
        } else if let Some(time) = overdue.filter(|time| !timed || *time < sweep) {
            // never too early, which would turn the loop for nothing
            EpollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
        } else if timed {
            EpollTimeout::from(SWEEP)
        } else {
            EpollTimeout::NONE
        }
    }

    fn read_signals(&mut self, turns: &mut Vec<Turn>) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGUSR1) => self.reopen_audit_log(),
                // one shot ends by it
                Some(Signal::SIGHUP) if self.listener.is_some() => self.reload_policy(),
                Some(_) | None => turns.push(Turn::Signal),
            }
        }
    }

    /// Parts with clients that keep us waiting, and accepts again after a pause.
    fn sweep(&mut self) {
        let now = Instant::now();
        let overdue = self.connections.iter().filter(|(_, client)| client.is_overdue(now)).map(|(id, _)| *id);
        for id in overdue.collect::<Vec<_>>() {
            self.dismiss(id, OVERDUE);
        }
        self.give_up_overdue(now);
        if self.accept_again.is_some_and(|again| again <= now) {
            self.accept_again = None;
            self.watch_listener(EpollFlags::EPOLLIN);
        }
    }

    /// How long a restore may take, if that is limited.
    fn limit(&self) -> Option<Duration> {
        self.defaults.limit_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn next_overdue(&self) -> Option<Instant> {
        let limit = self.limit()?;
        self.sleepers.values().filter_map(|sleeper| sleeper.target.next_overdue(limit)).min()
    }

    /// Answers restores that take too long.
    fn give_up_overdue(&mut self, now: Instant) {
        let Some(limit) = self.limit() else { return };
        let is_over = |sleeper: &Sleeper| sleeper.target.next_overdue(limit).is_some_and(|due| due <= now);
        let over = self.sleepers.iter().filter(|(_, sleeper)| is_over(sleeper)).map(|(ticket, _)| *ticket);
        for ticket in over.collect::<Vec<_>>() {
            let Some(sleeper) = self.sleepers.get_mut(&ticket) else { continue };
            let effects = sleeper.target.give_up_waiting(limit, now, &self.policy);
            self.apply(ticket, effects);
        }
    }

    pub(super) fn watch_listener(&mut self, flags: EpollFlags) {
        for (number, socket) in self.listener.iter().flat_map(Listener::sockets).enumerate() {
            let mut event = EpollEvent::new(flags, Token::Listener(number).encode());
            if let Err(cause) = self.epoll.modify(socket, &mut event) {
                tracing::error!("watch the listening socket: {cause}");
            }
        }
    }
}

/// What is answered while the daemon ends.
pub(super) fn ending() -> Failure {
    Failure::new(Code::Aborted, "the daemon is ending")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_epoll() {
        for token in [
            Token::Signals,
            Token::Listener(0),
            Token::Listener(1),
            Token::Launcher,
            Token::Worker(9),
            Token::Connection(7),
            Token::Outside(1),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}
