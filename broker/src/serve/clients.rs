//! Accepting, reading, answering and parting with clients.

use super::Server;
use super::admission::Admission;
use super::connection::{Connection, Incoming, Stage, Violation};
use super::event_loop::{Token, ending};
use super::input::Said;
use super::pending::Asker;
use super::requests::no_socket;
use crate::audit::record::{Client, Event, TurnedAway, Violation as ViolationRecord};
use crate::error::{Attempt, BrokerError};
use memcr_protocol::client::{Answer, ClientFrame, ServerFrame, VERSION};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::Job;
use memcr_protocol::subject::Peer;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::fmt::Display;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Clients accepted in one turn: others have a turn too.
const ACCEPTED_AT_ONCE: usize = 64;
/// Reads from one client in one turn, and frames taken from it.
const READS_AT_ONCE: usize = 8;
const FRAMES_AT_ONCE: usize = 16;
/// How long nobody is accepted when there are no descriptors left.
const PAUSE: Duration = Duration::from_secs(1);
/// What clients are told to do about it.
const LATER: &str = "try again later";
/// Why a client makes room for another.
const IDLE: &str = "this connection was idle the longest and makes room for another; connect again";

impl Server {
    /// Takes a client that was not accepted but made here.
    ///
    /// # Errors
    /// [`BrokerError`] when it can't be watched.
    pub(crate) fn adopt(&mut self, client: UnixStream) -> Result<(), BrokerError> {
        let id = self.new_id();
        let connection = Connection::new(client).attempt("name", "a client")?;
        self.watch(&connection, Token::Connection(id), EpollFlags::empty())?;
        self.connections.insert(id, connection);
        self.ready.insert(id);
        Ok(())
    }

    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let Some(listener) = &self.listener else { return };
            // each further client might bring more of them
            if self.closer.unclosed() >= self.limits.unclosed {
                self.pause_accepting("too many descriptors of clients can't be closed");
                return;
            }
            let client = match listener.accept(number) {
                Ok(client) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if has_hung_up(&error) => continue,
                Err(error) => {
                    self.pause_accepting(error);
                    return;
                }
            };
            match Connection::accepted(client) {
                Ok(connection) => self.admit(connection),
                Err(error) => debug!("name a client: {error}"),
            }
        }
    }

    fn pause_accepting(&mut self, cause: impl Display) {
        warn!("accept a client: {cause}; no client is accepted for {} s", PAUSE.as_secs());
        self.accept_again = Some(Instant::now() + PAUSE);
        self.watch_listener(EpollFlags::empty());
    }

    fn admit(&mut self, connection: Connection) {
        let uid = connection.uid();
        if self.has_too_many_unclosed(uid) {
            self.refuse(connection, &unclosed(uid));
            return;
        }
        if !self.makes_room(uid) {
            self.refuse(connection, &full(uid));
            return;
        }
        let id = self.new_id();
        match self.watch(&connection, Token::Connection(id), EpollFlags::empty()) {
            Ok(()) => {
                self.connections.insert(id, connection);
                self.ready.insert(id);
            }
            Err(error) => self.refuse(connection, &error.to_string()),
        }
    }

    /// Whether there is room for a connection of this user, if need be in the place of an idle one.
    fn makes_room(&mut self, uid: u32) -> bool {
        match self.limits.admit(uid, &self.connections) {
            Admission::Welcome => true,
            Admission::InPlaceOf(idle) => {
                self.dismiss(idle, IDLE);
                true
            }
            Admission::Refused => false,
        }
    }

    /// A client over TCP takes one of its user's places once it has a name. False if there is none, and it is gone.
    fn moves_in(&mut self, id: u64) -> bool {
        let Some(connection) = self.connections.remove(&id) else { return false };
        let uid = connection.uid();
        let has_room = self.makes_room(uid);
        self.connections.insert(id, connection);
        if !has_room {
            // what it asked for already is on record, and answered by that
            self.end_kept(id, Failure::new(Code::Limit, full(uid)));
            if let Some(asker) = self.connections.get(&id).map(Connection::asker_so_far) {
                self.record_turned_away(&asker, &full(uid));
            }
            self.dismiss(id, &full(uid));
        }
        has_room
    }

    /// Whether so many descriptors from this user can't be closed that no more are taken.
    fn has_too_many_unclosed(&self, uid: u32) -> bool {
        uid != 0 && self.closer.unclosed_of(uid) >= self.limits.unclosed_per_user
    }

    /// Turns away a client that was not admitted, with a word and on record.
    fn refuse(&mut self, mut connection: Connection, why: &str) {
        debug!("a client of user {} is turned away: {why}", connection.uid());
        self.record_turned_away(&connection.asker(None), why);
        connection.send_last(Failure::new(Code::Limit, why));
        self.close_all(connection);
    }

    fn record_turned_away(&mut self, asker: &Asker, why: &str) {
        let client = Client::of(&asker.peer, asker.looked_up, asker.address);
        self.audit.record(Event::ClientTurnedAway(TurnedAway { client, message: why }));
    }

    /// Parts with a client that can't stay, with a word.
    pub(super) fn dismiss(&mut self, id: u64, why: &str) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        debug!("a client of user {} can't stay: {why}", connection.uid());
        connection.send_last(Failure::new(Code::Limit, why));
        self.part(id);
    }

    pub(super) fn connection_ready(&mut self, id: u64, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
            && connection.watched.take().is_some()
        {
            // epoll would tell it for ever. What the client asked for before it went is done nevertheless.
            let _ = self.epoll.delete(&*connection);
        }
        if events.contains(EpollFlags::EPOLLOUT) && !connection.flush() {
            self.part(id);
            return;
        }
        self.ready.insert(id);
    }

    /// Reads and does what a client asks, as far as it doesn't have to wait; parts with it when all is done.
    pub(super) fn attend(&mut self, id: u64) {
        let mut frames = FRAMES_AT_ONCE;
        for _ in 0..READS_AT_ONCE {
            if !self.take_frames(id, &mut frames) {
                return;
            }
            if frames == 0 {
                self.ready.insert(id);
                break;
            }
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if !connection.wanted().contains(EpollFlags::EPOLLIN) {
                break;
            }
            let uid = connection.uid();
            if self.has_too_many_unclosed(uid) {
                self.dismiss(id, &unclosed(uid));
                return;
            }
            let Some(connection) = self.connections.get_mut(&id) else { return };
            match connection.read() {
                Ok(Incoming::Bytes) => {}
                Ok(Incoming::Nothing) => break,
                Ok(Incoming::End) => {
                    if let Some(violation) = connection.violation_at_end() {
                        self.violated(id, &violation);
                    }
                    break;
                }
                Err(violation) => {
                    self.violated(id, &violation);
                    break;
                }
            }
        }
        self.settle(id);
    }

    /// False if the connection is gone. Takes `left` frames at most.
    fn take_frames(&mut self, id: u64, left: &mut usize) -> bool {
        while *left > 0 {
            *left -= 1;
            let Some(connection) = self.connections.get_mut(&id) else { return false };
            let said = connection.next_said();
            #[cfg(feature = "drill")]
            if matches!(said, Ok(Some(_))) {
                self.drill(id);
            }
            let Some(connection) = self.connections.get_mut(&id) else { return false };
            match said {
                Ok(None) => return true,
                Ok(Some(Said::Legacy(request, wire))) => self.legacy_asked(id, request, wire),
                Ok(Some(Said::Frame(ClientFrame::Hello { version }))) => self.greet(id, version),
                Ok(Some(Said::Frame(ClientFrame::Request { id: number, request }))) => {
                    match &connection.stage {
                        Stage::Ready(asker) => {
                            let asker = Rc::clone(asker);
                            connection.under_way += 1;
                            self.request(id, number, request, asker);
                        }
                        Stage::Greeting | Stage::Identifying | Stage::Parting => {
                            self.violated(id, &Violation::NoHello);
                        }
                    }
                }
                Err(violation) => self.violated(id, &violation),
            }
        }
        true
    }

    /// Watches for what the connection now waits for, or parts with it.
    fn settle(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_done() {
            self.part(id);
            return;
        }
        let wanted = connection.wanted();
        match connection.watched {
            // gone, with requests left that were not read yet
            None => {
                if wanted.contains(EpollFlags::EPOLLIN) {
                    self.ready.insert(id);
                }
            }
            Some(watched) if watched == wanted => {}
            Some(_) => {
                connection.watched = Some(wanted);
                let mut event = EpollEvent::new(wanted, Token::Connection(id).encode());
                if let Err(cause) = self.epoll.modify(&*connection, &mut event) {
                    warn!("watch a client: {cause}");
                    self.part(id);
                }
            }
        }
    }

    fn greet(&mut self, id: u64, version: u16) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !matches!(connection.stage, Stage::Greeting) {
            self.violated(id, &Violation::SecondHello);
            return;
        }
        if version != VERSION {
            self.violated(id, &Violation::Version(version));
            return;
        }
        connection.heard();
        let server = concat!("memcr ", env!("CARGO_PKG_VERSION")).to_owned();
        connection.send(&ServerFrame::Hello { version: VERSION, server });
        if let Err(failure) = self.name_client(id) {
            warn!("a client is disconnected: {failure}");
            self.part(id);
        }
    }

    /// Has the launcher name a client, if it can; [`Server::identified`] goes on.
    pub(super) fn name_client(&mut self, id: u64) -> Result<(), Failure> {
        let ticket = self.new_id();
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        if !connection.can_be_named() {
            connection.stage = Stage::Ready(Rc::new(connection.asker(None)));
            return Ok(());
        }
        let client = connection.duplicate().map_err(|cause| no_socket(&cause))?;
        let Some(launcher) = &mut self.launcher else { return Err(ending()) };
        connection.stage = Stage::Identifying;
        self.identifying.insert(ticket, id);
        let sent = launcher.send(&Job::Identify { ticket }, vec![client]);
        self.launcher_sent(sent);
        Ok(())
    }

    /// The launcher has named the client behind `ticket`.
    pub(super) fn identified(&mut self, ticket: u64, peer: Option<Peer>) {
        let id = self.identifying.remove(&ticket);
        let Some((id, connection)) = id.and_then(|id| Some((id, self.connections.get_mut(&id)?))) else {
            // it is gone
            return;
        };
        connection.identify(peer);
        if !connection.is_over_tcp() || self.moves_in(id) {
            self.ready.insert(id);
            self.serve_kept(id);
        }
    }

    /// Answers a request for good.
    pub(super) fn reply(&mut self, id: u64, number: u32, answer: Answer) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.under_way = connection.under_way.saturating_sub(1);
        if connection.send(&ServerFrame::Answer { id: number, answer }) {
            self.ready.insert(id);
        } else {
            self.part(id);
        }
    }

    /// Answers a request, with more to come. What a slow client can do without is left out.
    pub(super) fn reply_more(&mut self, id: u64, number: u32, answer: Answer) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let optional = matches!(answer, Answer::Progress { .. });
        let frame = ServerFrame::Answer { id: number, answer };
        let alive = if optional { connection.send_if_read(&frame) } else { connection.send(&frame) };
        if alive {
            self.ready.insert(id);
        } else {
            self.part(id);
        }
    }

    /// Says what is wrong, and parts as soon as the client has read it.
    fn violated(&mut self, id: u64, violation: &Violation) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let message = violation.to_string();
        let asker = connection.asker_so_far();
        let client = Client::of(&asker.peer, asker.looked_up, asker.address);
        let wire = connection.wire();
        self.audit.record(Event::ProtocolViolation(ViolationRecord { client, wire, message: &message }));
        connection.stage = Stage::Parting;
        for descriptor in connection.take_foreign() {
            self.closer.close(connection.uid(), descriptor);
        }
        connection.send_last(Failure::new(Code::Protocol, message));
    }

    /// Closes a connection. What it asked for goes on.
    pub(super) fn part(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            if connection.watched.is_some() {
                // duplicates of the socket would keep it watched
                let _ = self.epoll.delete(&connection);
            }
            self.close_all(connection);
        }
    }

    fn close_all(&self, connection: Connection) {
        let uid = connection.uid();
        for descriptor in connection.part() {
            self.closer.close(uid, descriptor);
        }
    }
}

/// Whether a client was gone before it was accepted: over TCP accept(2) may tell that in many words.
fn has_hung_up(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

fn full(uid: u32) -> String {
    format!("user {uid}, or the daemon, has as many connections as it may, and none is idle; {LATER}")
}

fn unclosed(uid: u32) -> String {
    format!(
        "too many descriptors that clients of user {uid} sent can't be closed: whoever serves them keeps them open"
    )
}
