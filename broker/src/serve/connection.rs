//! One client's connection: bytes in, answers out, descriptors along with them, and bounds for all.

use super::input::{Input, Said};
use super::pending::Asker;
use super::process::{Named, named_by};
use crate::audit::record::Wire;
use crate::startup::listener::Accepted;
use crate::sys::descriptors::{holds_descriptors, receive, send};
use memcr_protocol::client::{Answer, ServerFrame};
use memcr_protocol::code::Failure;
use memcr_protocol::frame::{FrameError, encode};
use memcr_protocol::legacy::{LegacyError, Reply, Request};
use memcr_protocol::subject::{NO_ID, Peer, PeerKind};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, UnixCredentials, getsockopt, shutdown, sockopt};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes read at once.
const CHUNK: usize = 8 * 1024;
/// Descriptors that may wait for the rest of their frame; a frame has one.
const MAX_DESCRIPTORS: usize = 4;
/// Requests of one connection under way at once; further ones are not read yet.
const MAX_UNDER_WAY: usize = 64;
/// Unread output with which no further request is read, and progress is no longer told.
const ENOUGH_OUTPUT: usize = 16 * 1024;
/// Unread output with which the client is disconnected.
const TOO_MUCH_OUTPUT: usize = 16 * 1024 * 1024;
/// How long a client may say nothing at first, or read nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client of the original may take to say more once it has an answer. Its own program sends the second
/// command at once or never; one that waits for the end of the connection shall not wait for long.
const SECOND_COMMAND: Duration = Duration::from_secs(3);
/// What the kernel says for a user that has no id in our user namespace.
const UNKNOWN_USER: u32 = 65_534;

/// How far the client is.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// It has not said hello.
    Greeting,
    /// The launcher is asked who it is.
    Identifying,
    /// It may ask.
    Ready(Rc<Asker>),
    /// It is told its last, and then disconnected.
    Parting,
}

/// Why a client is disconnected with a word.
#[derive(Debug, Error)]
pub(crate) enum Violation {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the message came with more descriptors than it may")]
    TooManyDescriptors,
    #[error("the message came with a descriptor that is not a pidfd")]
    ForeignDescriptor,
    #[error("the first message must be a hello")]
    NoHello,
    #[error("a second hello")]
    SecondHello,
    #[error("protocol version {0} is not known here; this is version {here}", here = memcr_protocol::client::VERSION)]
    Version(u16),
    #[error("{0}")]
    Legacy(#[from] LegacyError),
    #[error("the connection ended in the middle of a request")]
    CutOff,
}

/// What reading brought.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Bytes; there may be requests.
    Bytes,
    /// Nothing now.
    Nothing,
    /// The client sends no more.
    End,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// A process that the kernel names.
    Unix(UnixCredentials),
    /// This address; the launcher names its user.
    Tcp { address: SocketAddr, uid: Option<u32> },
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    origin: Origin,
    pub(crate) stage: Stage,
    /// Requests not yet answered.
    pub(crate) under_way: usize,
    /// What epoll watches for; `None` once the client is gone, which epoll would tell for ever.
    pub(crate) watched: Option<EpollFlags>,
    input: Input,
    pidfds: VecDeque<OwnedFd>,
    foreign: Vec<OwnedFd>,
    output: VecDeque<u8>,
    no_more_input: bool,
    /// Since when it has said nothing, or read nothing; `None` while all is well.
    waiting_since: Option<Instant>,
    /// How long that may last.
    patience: Duration,
    /// When something went over it last.
    active: Instant,
}

impl Connection {
    /// A client that was accepted.
    ///
    /// # Errors
    /// What the kernel says when asked who it is.
    pub(crate) fn accepted(client: Accepted) -> io::Result<Self> {
        match client.address {
            None => Self::new(client.socket),
            Some(address) => Ok(Self::of(client.socket, Origin::Tcp { address, uid: None })),
        }
    }

    /// A new client on a UNIX socket.
    ///
    /// # Errors
    /// What the kernel says when asked who it is.
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = socket.into();
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        Ok(Self::of(socket, Origin::Unix(credentials)))
    }

    fn of(socket: OwnedFd, origin: Origin) -> Self {
        Self {
            socket,
            origin,
            stage: Stage::Greeting,
            under_way: 0,
            watched: Some(EpollFlags::empty()),
            input: Input::new(),
            pidfds: VecDeque::new(),
            foreign: Vec::new(),
            output: VecDeque::new(),
            no_more_input: false,
            waiting_since: Some(Instant::now()),
            patience: PATIENCE,
            active: Instant::now(),
        }
    }

    /// Its user, as of connect(). All that came over TCP and have no name yet are the unknown user.
    pub(crate) fn uid(&self) -> u32 {
        match self.origin {
            Origin::Unix(credentials) => credentials.uid(),
            Origin::Tcp { uid, .. } => uid.unwrap_or(UNKNOWN_USER),
        }
    }

    /// Whether it came over TCP.
    pub(crate) fn is_over_tcp(&self) -> bool {
        matches!(self.origin, Origin::Tcp { .. })
    }

    /// Whether the launcher can look it up: over a UNIX socket if its process has a number here.
    pub(crate) fn can_be_named(&self) -> bool {
        match self.origin {
            Origin::Unix(credentials) => credentials.pid() != 0,
            Origin::Tcp { .. } => true,
        }
    }

    /// The launcher has looked it up: now it may ask. `None` if it couldn't.
    pub(crate) fn identify(&mut self, found: Option<Peer>) {
        if let (Origin::Tcp { uid, .. }, Some(peer)) = (&mut self.origin, &found) {
            *uid = Some(peer.uid);
        }
        self.stage = Stage::Ready(Rc::new(self.asker(found)));
    }

    /// It, as the launcher looked it up: `None` if it couldn't, or wasn't asked. It is known if the kernel can
    /// name its user and process here (kernel-facts 9), over TCP its user, or if it is known to be anonymous.
    pub(crate) fn asker(&self, found: Option<Peer>) -> Asker {
        let looked_up = found.is_some();
        match self.origin {
            Origin::Unix(credentials) => {
                let known = looked_up && credentials.uid() != UNKNOWN_USER && credentials.pid() != 0;
                let peer = found.unwrap_or_else(|| Peer {
                    kind: PeerKind::Process,
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                    groups: Vec::new(),
                    pid: credentials.pid(),
                    executable: None,
                    cgroup: None,
                    namespaces: None,
                });
                Asker { peer, known, looked_up, address: None }
            }
            Origin::Tcp { address, .. } => {
                let peer = found.unwrap_or_else(|| Peer::by_socket(NO_ID));
                let known = looked_up && peer.uid != UNKNOWN_USER;
                Asker { peer, known, looked_up, address: Some(address) }
            }
        }
    }

    /// It, as far as it is known by now.
    pub(crate) fn asker_so_far(&self) -> Rc<Asker> {
        match &self.stage {
            Stage::Ready(asker) => Rc::clone(asker),
            Stage::Greeting | Stage::Identifying | Stage::Parting => Rc::new(self.asker(None)),
        }
    }

    /// Reads once.
    ///
    /// # Errors
    /// A [`Violation`] by its descriptors.
    pub(crate) fn read(&mut self) -> Result<Incoming, Violation> {
        let (mut chunk, mut descriptors) = ([0; CHUNK], Vec::new());
        let received = match receive(self.socket.as_fd(), &mut chunk, &mut descriptors) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Incoming::Nothing),
            Err(_) => return Ok(self.end_input()),
            Ok(received) => received,
        };
        for descriptor in descriptors {
            match named_by(descriptor.as_fd()) {
                Named::Nothing => self.foreign.push(descriptor),
                _ => self.pidfds.push_back(descriptor),
            }
        }
        let bytes = chunk.get(..received.length).unwrap_or_default();
        self.input.push(bytes);
        if received.control_cut || self.pidfds.len() + self.foreign.len() > MAX_DESCRIPTORS {
            return Err(Violation::TooManyDescriptors);
        }
        if !self.foreign.is_empty() {
            return Err(Violation::ForeignDescriptor);
        }
        if bytes.is_empty() {
            return Ok(self.end_input());
        }
        self.active = Instant::now();
        Ok(Incoming::Bytes)
    }

    fn end_input(&mut self) -> Incoming {
        self.no_more_input = true;
        Incoming::End
    }

    /// The next whole thing that the client says, unless it has to wait with it.
    ///
    /// # Errors
    /// A [`Violation`] by its bytes.
    pub(crate) fn next_said(&mut self) -> Result<Option<Said>, Violation> {
        if self.must_wait() { Ok(None) } else { self.input.next() }
    }

    /// What is wrong with what was said when nothing more comes.
    pub(crate) fn violation_at_end(&mut self) -> Option<Violation> {
        self.input.end()
    }

    /// What the client speaks, as far as that is known.
    pub(crate) fn wire(&self) -> Option<Wire> {
        self.input.wire()
    }

    /// Keeps a request of a client of the original until it is known who that is.
    pub(crate) fn keep(&mut self, request: Request, wire: Wire) {
        if let Some(legacy) = self.input.as_legacy() {
            legacy.keep(request, wire);
        }
    }

    /// Gives it back.
    pub(crate) fn take_kept(&mut self) -> Option<(Request, Wire)> {
        self.input.as_legacy()?.take_kept()
    }

    /// The pidfd that came with the frame.
    pub(crate) fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.pidfds.pop_front()
    }

    /// A duplicate of its socket, by which others see for themselves who it is.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// The time of silence that counts is over.
    pub(crate) fn heard(&mut self) {
        self.waiting_since = None;
    }

    /// Answers a client of the original, which may then say one thing more.
    pub(crate) fn send_reply(&mut self, reply: Reply) -> bool {
        self.output.extend(reply.encode());
        let alive = self.flush();
        if self.input.as_legacy().is_none_or(|legacy| legacy.is_last()) {
            self.stage = Stage::Parting;
        } else {
            (self.waiting_since, self.patience) = (Some(Instant::now()), SECOND_COMMAND);
        }
        alive
    }

    /// Says why the connection ends, in the client's own words.
    pub(crate) fn send_last(&mut self, failure: Failure) -> bool {
        match self.input.as_legacy() {
            Some(legacy) if legacy.is_waited_for() => self.send_reply(Reply::Failed),
            // it has all its answers
            Some(_) => true,
            None => self.send(&ServerFrame::Answer { id: 0, answer: Answer::Failed(failure) }),
        }
    }

    /// Sends a frame, now or when the client reads. False if it is to be disconnected.
    pub(crate) fn send(&mut self, frame: &ServerFrame) -> bool {
        match encode(frame) {
            Ok(bytes) => self.output.extend(bytes),
            Err(cause) => {
                tracing::error!("encode an answer: {cause}");
                return false;
            }
        }
        self.output.len() <= TOO_MUCH_OUTPUT && self.flush()
    }

    /// Sends a frame that may as well be lost, if the client keeps up and has a word for it.
    pub(crate) fn send_if_read(&mut self, frame: &ServerFrame) -> bool {
        self.input.is_legacy() || self.output.len() >= ENOUGH_OUTPUT || self.send(frame)
    }

    /// Sends what is queued, as far as the client reads. False if it is gone.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            let (first, _) = self.output.as_slices();
            match send(self.socket.as_fd(), first, &[]) {
                Ok(sent) => {
                    self.output.drain(..sent);
                    self.waiting_since = None;
                    self.active = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting_since.get_or_insert_with(Instant::now);
                    return true;
                }
                Err(_) => {
                    // nobody is there to read it, ever
                    self.output.clear();
                    return false;
                }
            }
        }
        self.output.shrink_to(ENOUGH_OUTPUT);
        true
    }

    /// Bytes of its answers that wait here for it to read.
    pub(crate) fn unread(&self) -> usize {
        self.output.len()
    }

    /// Whether everything was sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Whether there is nothing more to do for it.
    pub(crate) fn is_done(&self) -> bool {
        let parting = matches!(self.stage, Stage::Parting);
        // a client may close its sending half and wait for its answers
        let silent = self.no_more_input && self.under_way == 0 && !matches!(self.stage, Stage::Identifying);
        (parting || silent) && self.output.is_empty()
    }

    /// Whether it has kept us waiting for too long.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) > self.patience)
    }

    /// Since when nothing went over it, if nothing is under way for it either.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.under_way == 0).then_some(self.active)
    }

    /// Whether time is running for it.
    pub(crate) fn is_timed(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// What epoll should watch for.
    pub(crate) fn wanted(&self) -> EpollFlags {
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, !self.no_more_input && !self.must_wait());
        wanted.set(EpollFlags::EPOLLOUT, !self.output.is_empty());
        wanted
    }

    fn must_wait(&self) -> bool {
        // to the original one command comes after the other
        let most_under_way = if self.input.is_legacy() { 1 } else { MAX_UNDER_WAY };
        matches!(self.stage, Stage::Identifying | Stage::Parting)
            || self.under_way >= most_under_way
            || self.output.len() >= ENOUGH_OUTPUT
    }

    /// Takes the descriptors that should not have been sent.
    pub(crate) fn take_foreign(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.foreign)
    }

    /// Hangs up. What comes back is to be closed where nobody waits for it: foreign descriptors, and the
    /// socket if there are descriptors in it that nobody read, which are closed with it.
    pub(crate) fn part(mut self) -> Vec<OwnedFd> {
        let mut rest = self.take_foreign();
        // nothing more can come in, and the client sees the end; fails if it is gone
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if holds_descriptors(self.socket.as_fd()) {
            rest.push(self.socket);
        }
        rest
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
impl Connection {
    /// A client as if it were of this user.
    pub(crate) fn of_user(socket: impl Into<OwnedFd>, uid: u32) -> io::Result<Self> {
        let credentials = libc::ucred { pid: 7, uid, gid: uid };
        Ok(Self::of(socket.into(), Origin::Unix(credentials.into())))
    }
}

#[cfg(test)]
mod tests;
