//! One connection to a daemon: a UNIX stream socket, frames both ways, every wait bounded.

use crate::Error;
use memcr_protocol::client::{
    Answer, CheckpointOptions, ClientFrame, Completion, Request, ServerFrame, VERSION,
};
use memcr_protocol::frame::{self, Assembler};
use memcr_protocol::report::{Entry, SleepReport, State, WakeReport};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a daemon may say nothing before the caller gets [`Error::Silent`].
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub state: State,
    /// Bytes done.
    pub done: u64,
    /// Bytes to do, as far as known.
    pub total: u64,
}

/// A connection to a daemon; its requests are answered one after the other.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    assembler: Assembler,
    patience: Duration,
    last_id: u32,
    server: String,
}

impl Connection {
    /// Connects to the daemon that listens at `path`, and agrees on a version with it.
    ///
    /// # Errors
    /// [`Error::Connect`] if nobody answers there, [`Error::Version`] if it is of another version.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        Self::connect_within(path, DEFAULT_PATIENCE)
    }

    /// As [`Connection::connect`], with a `patience` of the caller's: how long the daemon may say
    /// nothing, then and with every later request.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_within(path: &Path, patience: Duration) -> Result<Self, Error> {
        let stream = connect_stream(path, patience)
            .map_err(|cause| Error::Connect { path: path.to_owned(), cause: cause.into() })?;
        let mut connection =
            Self { stream, assembler: Assembler::new(), patience, last_id: 0, server: String::new() };
        connection.shake_hands()?;
        Ok(connection)
    }

    /// Name and version of the daemon, as it says.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Puts the process of `target`, a pidfd, to sleep; returns once it sleeps.
    ///
    /// # Errors
    /// [`Error::Failed`] when the daemon refuses or fails, with its code; the process runs on
    /// then, unless the code says that it is asleep or lost. Others when the connection fails.
    pub fn checkpoint(
        &mut self,
        target: &OwnedFd,
        options: CheckpointOptions,
        progress: impl FnMut(Progress),
    ) -> Result<SleepReport, Error> {
        match self.ask(Request::Checkpoint(options), Some(target.as_fd()), progress)?.0 {
            Completion::Asleep(report) => Ok(report),
            Completion::Awake(_) | Completion::Listed => {
                Err(Error::Unexpected("another request's completion"))
            }
        }
    }

    /// Wakes the process of `target`, a pidfd; returns once it runs.
    ///
    /// # Errors
    /// As [`Connection::checkpoint`]; the process sleeps on unless the code says that it is lost.
    pub fn restore(&mut self, target: &OwnedFd, progress: impl FnMut(Progress)) -> Result<WakeReport, Error> {
        match self.ask(Request::Restore, Some(target.as_fd()), progress)?.0 {
            Completion::Awake(report) => Ok(report),
            Completion::Asleep(_) | Completion::Listed => {
                Err(Error::Unexpected("another request's completion"))
            }
        }
    }

    /// All targets that this client may see.
    ///
    /// # Errors
    /// [`Error::Failed`] when the daemon refuses, others when the connection fails.
    pub fn list(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(self.ask(Request::List, None, |_| {})?.1)
    }

    /// The state of the process of `target`, a pidfd.
    ///
    /// # Errors
    /// As [`Connection::list`].
    pub fn status(&mut self, target: &OwnedFd) -> Result<Entry, Error> {
        let (_, entries) = self.ask(Request::Status, Some(target.as_fd()), |_| {})?;
        entries.into_iter().next().ok_or(Error::Unexpected("no state"))
    }

    fn shake_hands(&mut self) -> Result<(), Error> {
        self.send(&ClientFrame::Hello { version: VERSION }, None)?;
        match self.receive()? {
            ServerFrame::Hello { version, server } if version == VERSION => {
                self.server = server;
                Ok(())
            }
            ServerFrame::Hello { version, .. } => Err(Error::Version { theirs: version, ours: VERSION }),
            ServerFrame::Answer { answer: Answer::Failed(failure), .. } => Err(Error::Failed(failure)),
            ServerFrame::Answer { .. } => Err(Error::Unexpected("an answer before the hello")),
        }
    }

    /// Sends one request and takes its answers up to the last.
    fn ask(
        &mut self,
        request: Request,
        target: Option<BorrowedFd<'_>>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Completion, Vec<Entry>), Error> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let asked = self.last_id;
        self.send(&ClientFrame::Request { id: asked, request }, target)?;
        let mut entries = Vec::new();
        loop {
            let (id, answer) = match self.receive()? {
                ServerFrame::Answer { id, answer } => (id, answer),
                ServerFrame::Hello { .. } => return Err(Error::Unexpected("a second hello")),
            };
            match answer {
                // id 0: the connection itself failed
                Answer::Failed(failure) if id == 0 => return Err(Error::Failed(failure)),
                // the rest of a request that was given up
                _ if id != asked => {}
                Answer::Progress { state, done, total } => progress(Progress { state, done, total }),
                Answer::Entry(entry) => entries.push(entry),
                Answer::Done(completion) => return Ok((completion, entries)),
                Answer::Failed(failure) => return Err(Error::Failed(failure)),
            }
        }
    }

    /// Sends one frame; the descriptor goes with its first bytes.
    fn send(&mut self, message: &ClientFrame, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let bytes = frame::encode(message)?;
        let numbers: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let mut rights = vec![ControlMessage::ScmRights(&numbers)];
        rights.retain(|_| !numbers.is_empty());
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let slice = [IoSlice::new(left)];
            let socket = self.stream.as_raw_fd();
            match sendmsg::<()>(socket, &slice, &rights, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(sent) => {
                    rights.clear();
                    left = left.get(sent..).unwrap_or_default();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Error::Silent { patience: self.patience }),
                // it may have said why before it closed
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(self.last_words()),
                Err(cause) => return Err(Error::Transfer { operation: "send to", cause: cause.into() }),
            }
        }
        Ok(())
    }

    /// What a daemon that closed the connection had sent before.
    fn last_words(&mut self) -> Error {
        match self.receive() {
            Ok(ServerFrame::Answer { answer: Answer::Failed(failure), .. }) => Error::Failed(failure),
            Ok(_) => Error::Closed,
            Err(error) => error,
        }
    }

    fn receive(&mut self) -> Result<ServerFrame, Error> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.assembler.next_message()? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::Closed),
                Ok(length) => self.assembler.push(buffer.get(..length).unwrap_or_default()),
                Err(cause) => match cause.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(Error::Silent { patience: self.patience });
                    }
                    io::ErrorKind::ConnectionReset => return Err(Error::Closed),
                    _ => return Err(Error::Transfer { operation: "receive from", cause }),
                },
            }
        }
    }
}

/// A connected stream socket on which no call waits longer than `patience`, connect() included
/// (which waits as long as the daemon's queue is full).
fn connect_stream(path: &Path, patience: Duration) -> Result<UnixStream, Errno> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit =
        TimeVal::new(patience.as_secs().try_into().unwrap_or(i64::MAX), patience.subsec_micros().into());
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}
