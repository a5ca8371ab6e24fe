//! One connection to a daemon: a UNIX stream socket, frames both ways, every wait bounded.

use crate::socket::Socket;
use crate::{Error, Location};
use memcr_protocol::client::{
    Answer, CheckpointOptions, ClientFrame, Completion, Request, ServerFrame, VERSION,
};
use memcr_protocol::frame::{self, Assembler};
use memcr_protocol::report::{Entry, SleepReport, State, WakeReport};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    socket: Socket,
    assembler: Assembler,
    location: Location,
    patience: Duration,
    last_id: u32,
    /// Whether a request has not come to its end: what comes next could be anything.
    is_stale: bool,
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
        let location = Location::Path(path.to_owned());
        let mut connection = Self {
            socket: Socket::connect(&location, patience)?,
            assembler: Assembler::new(),
            location,
            patience,
            last_id: 0,
            is_stale: false,
            server: String::new(),
        };
        connection.shake_hands()?;
        Ok(connection)
    }

    /// Name and version of the daemon, as it says.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// To be called between two requests: connects anew, under the same descriptor, if the daemon has closed
    /// the connection meanwhile (it may, to make room for others), or if it is of no use since a request failed.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn renew(&mut self) -> Result<(), Error> {
        if !self.is_stale && self.assembler.pending() == 0 && self.socket.is_quiet() {
            return Ok(());
        }
        self.is_stale = true;
        self.socket.replace(&Socket::connect(&self.location, self.patience)?)?;
        self.assembler = Assembler::new();
        self.shake_hands()?;
        self.is_stale = false;
        Ok(())
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
        self.is_stale = true;
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
                Answer::Done(completion) => {
                    self.is_stale = false;
                    return Ok((completion, entries));
                }
                Answer::Failed(failure) => {
                    self.is_stale = false;
                    return Err(Error::Failed(failure));
                }
            }
        }
    }

    /// Sends one frame; the descriptor goes with its first bytes.
    fn send(&mut self, message: &ClientFrame, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        self.socket.send(&frame::encode(message)?, descriptor).map_err(|error| match error {
            // it may have said why before it closed
            Error::Closed => self.last_words(),
            error => error,
        })
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
            self.assembler.push(self.socket.receive(&mut buffer)?);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeDaemon, woken};
    use crate::open_target;
    use memcr_protocol::code::{Code, Failure};
    use std::os::fd::AsRawFd;

    fn ourselves() -> OwnedFd {
        open_target(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    fn connect(daemon: &FakeDaemon) -> Connection {
        let Location::Path(path) = daemon.location() else { panic!("it is a path") };
        Connection::connect(&path).unwrap()
    }

    #[test]
    fn a_connection_that_was_closed_meanwhile_is_renewed_under_its_descriptor() {
        let done = || vec![Ok(Completion::Awake(woken()))];
        let daemon = FakeDaemon::framed(vec![done(), done()]);
        let mut connection = connect(&daemon);
        let number = connection.as_fd().as_raw_fd();
        for _ in 0..2 {
            connection.renew().unwrap();
            connection.restore(&ourselves(), |_| {}).unwrap();
            daemon.wait_until_closed(connection.as_fd());
        }
        assert_eq!(connection.as_fd().as_raw_fd(), number, "the descriptor has another number");
    }

    #[test]
    fn a_connection_that_is_open_is_not_renewed() {
        let failed = Err(Failure::new(Code::NotAsleep, "it runs"));
        let daemon = FakeDaemon::framed(vec![vec![failed, Ok(Completion::Awake(woken()))]]);
        let mut connection = connect(&daemon);
        connection.restore(&ourselves(), |_| {}).unwrap_err();
        // there is nobody who would accept another
        connection.renew().unwrap();
        connection.restore(&ourselves(), |_| {}).unwrap();
    }

    #[test]
    fn after_a_request_that_broke_off_the_next_one_has_a_new_connection() {
        let of_another_request = vec![Ok(Completion::Listed), Ok(Completion::Awake(woken()))];
        let daemon = FakeDaemon::framed(vec![vec![], of_another_request]);
        let mut connection = connect(&daemon);
        daemon.wait_until_closed(connection.as_fd());
        let broken = connection.restore(&ourselves(), |_| {}).unwrap_err();
        assert!(matches!(broken, Error::Closed), "{broken}");
        connection.renew().unwrap();
        let strange = connection.restore(&ourselves(), |_| {}).unwrap_err();
        assert!(matches!(strange, Error::Unexpected(_)), "{strange}");
        connection.renew().unwrap();
        connection.restore(&ourselves(), |_| {}).unwrap();
    }
}
