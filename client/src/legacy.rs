//! The wire protocol of the original, over TCP, where no pidfd can be sent: a number names the process, and the
//! answer is a number.

use crate::socket::Socket;
use crate::{CheckpointOptions, Error, Location};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::legacy::{Command, Reply, Request};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A client that is connected by TCP. Each request has a connection of its own, as the original wants it; all
/// of them have the same descriptor number.
#[derive(Debug)]
pub struct LegacyClient {
    socket: Socket,
    location: Location,
    patience: Duration,
    is_used: bool,
}

impl LegacyClient {
    /// Connects to the daemon at `location`, of which no answer takes longer than `patience`.
    ///
    /// # Errors
    /// [`Error::Connect`] if nobody answers there.
    pub fn connect(location: &Location, patience: Duration) -> Result<Self, Error> {
        let socket = Socket::connect(location, patience)?;
        Ok(Self { socket, location: location.clone(), patience, is_used: false })
    }

    /// Puts the process that has this number for the daemon's peer to sleep; returns once it sleeps.
    ///
    /// # Errors
    /// [`Error::Failed`] with [`Code::AlreadyAsleep`], [`Error::NotDone`] when the daemon refuses or fails,
    /// [`Error::NotAProcess`] for numbers below 1, [`Error::Legacy`] for an overlong directory; others when
    /// the connection fails.
    pub fn checkpoint(&mut self, pid: i32, options: CheckpointOptions) -> Result<(), Error> {
        self.ask(&Request { command: Command::Checkpoint, pid, options })
    }

    /// Wakes the process of this number; returns once it runs.
    ///
    /// # Errors
    /// As [`LegacyClient::checkpoint`], with [`Code::NotAsleep`].
    pub fn restore(&mut self, pid: i32) -> Result<(), Error> {
        self.ask(&Request { command: Command::Restore, pid, options: CheckpointOptions::default() })
    }

    fn ask(&mut self, request: &Request) -> Result<(), Error> {
        let (command, pid) = (request.command, request.pid);
        if pid < 1 {
            return Err(Error::NotAProcess { pid });
        }
        let bytes = request.encode()?;
        // before a request was sent it may have been closed for nothing but its idleness
        if self.is_used || !self.socket.is_quiet() {
            self.socket.replace(&Socket::connect(&self.location, self.patience)?)?;
        }
        self.is_used = true;
        self.socket.send(&bytes, None)?;
        match Reply::decode(self.answer()?) {
            Reply::Ok => Ok(()),
            Reply::Failed => Err(Error::NotDone { command, pid }),
            Reply::InvalidPid => Err(Error::Failed(invalid_pid(command, pid))),
        }
    }

    fn answer(&self) -> Result<[u8; 4], Error> {
        let mut answer = Vec::new();
        loop {
            // no byte more than that: what follows is not ours
            let mut buffer = [0; 4];
            let missing = buffer.get_mut(answer.len()..).unwrap_or_default();
            answer.extend_from_slice(self.socket.receive(missing)?);
            if let Some(whole) = answer.first_chunk() {
                return Ok(*whole);
            }
        }
    }
}

impl AsFd for LegacyClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn invalid_pid(command: Command, pid: i32) -> Failure {
    match command {
        Command::Checkpoint => Failure::new(Code::AlreadyAsleep, format!("process {pid} is asleep already")),
        Command::Restore => Failure::new(Code::NotAsleep, format!("process {pid} is not asleep")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Answer, FakeDaemon};
    use memcr_protocol::image::Compression;
    use std::os::fd::AsRawFd;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn client(daemon: &FakeDaemon) -> LegacyClient {
        LegacyClient::connect(&daemon.location(), PATIENCE).unwrap()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn both_commands_are_sent_in_version_1_each_on_a_connection_of_its_own() {
        let daemon = FakeDaemon::tcp(vec![Answer::Number(0), Answer::Number(0)]);
        let mut client = client(&daemon);
        let number = client.as_fd().as_raw_fd();
        client.checkpoint(7, CheckpointOptions::default()).unwrap();
        client.restore(7).unwrap();
        assert_eq!(daemon.received(), words(&[100, 7]));
        assert_eq!(daemon.received(), words(&[101, 7]));
        assert_eq!(client.as_fd().as_raw_fd(), number, "the descriptor has another number");
    }

    #[test]
    fn options_are_sent_in_version_2() {
        let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
        let options =
            CheckpointOptions { directory: Some("/a".to_owned()), compression: Some(Compression::Zstd) };
        client(&daemon).checkpoint(7, options).unwrap();
        let body = [words(&[100, 7, 200]), b"/a\0".to_vec(), words(&[201, 2])].concat();
        assert_eq!(daemon.received(), [words(&[102, body.len() as u32]), body].concat());
    }

    #[test]
    fn the_answers_of_the_original_are_told_apart() {
        let answers = [-1, -2, -2, 5].map(Answer::Number).to_vec();
        let daemon = FakeDaemon::tcp(answers);
        let mut client = client(&daemon);
        let refusal = client.checkpoint(7, CheckpointOptions::default()).unwrap_err();
        assert!(matches!(refusal, Error::NotDone { pid: 7, .. }), "{refusal}");
        assert_eq!(refusal.exit_status(), 4);
        let refusal = client.checkpoint(7, CheckpointOptions::default()).unwrap_err();
        assert_eq!((refusal.name(), refusal.exit_status()), ("already-asleep", 3));
        let refusal = client.restore(7).unwrap_err();
        assert_eq!((refusal.name(), refusal.exit_status()), ("not-asleep", 3));
        let refusal = client.restore(7).unwrap_err();
        assert!(matches!(refusal, Error::NotDone { .. }), "{refusal}");
    }

    #[test]
    fn a_number_below_1_is_not_sent() {
        let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
        let mut client = client(&daemon);
        for pid in [0, -1, i32::MIN] {
            assert!(matches!(client.restore(pid), Err(Error::NotAProcess { .. })), "{pid}");
        }
        client.restore(7).unwrap();
        assert_eq!(daemon.received(), words(&[101, 7]));
    }

    #[test]
    fn a_connection_that_was_closed_before_it_was_used_is_made_again() {
        let daemon = FakeDaemon::tcp(vec![Answer::CloseAtOnce, Answer::Number(0)]);
        let mut client = client(&daemon);
        daemon.wait_until_closed(client.as_fd());
        client.restore(7).unwrap();
        assert_eq!(daemon.received(), words(&[101, 7]));
    }

    #[test]
    fn a_request_that_was_sent_is_not_sent_again() {
        for answer in [Answer::Close, Answer::Bytes(vec![0, 0, 0])] {
            let daemon = FakeDaemon::tcp(vec![answer, Answer::Number(0)]);
            let refusal = client(&daemon).restore(7).unwrap_err();
            assert!(matches!(refusal, Error::Closed), "{refusal}");
            assert_eq!(daemon.received(), words(&[101, 7]));
            assert_eq!(daemon.received_so_far(), None);
        }
    }

    #[test]
    fn a_daemon_that_says_nothing_is_waited_for_no_longer_than_there_is_patience() {
        let patience = Duration::from_millis(50);
        let daemon = FakeDaemon::tcp(vec![Answer::Silence]);
        let mut client = LegacyClient::connect(&daemon.location(), patience).unwrap();
        let refusal = client.restore(7).unwrap_err();
        assert!(matches!(refusal, Error::Silent { .. }), "{refusal}");
    }

    #[test]
    fn where_nobody_listens_the_address_is_named() {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let location = Location::Tcp { host: "127.0.0.1".to_owned(), port };
        let refusal = LegacyClient::connect(&location, PATIENCE).unwrap_err();
        assert_eq!((refusal.name(), refusal.exit_status()), ("not-connected", 4));
        assert!(refusal.to_string().contains(&location.to_string()), "{refusal}");
    }

    #[test]
    fn a_name_and_an_ipv6_address_are_connected_to() {
        let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
        let Location::Tcp { port, .. } = daemon.location() else { panic!("it is TCP") };
        let location = Location::Tcp { host: "localhost".to_owned(), port };
        LegacyClient::connect(&location, PATIENCE).unwrap().restore(7).unwrap();
        let location = Location::Tcp { host: "::1".to_owned(), port: 1 };
        let refusal = LegacyClient::connect(&location, PATIENCE).unwrap_err();
        assert!(refusal.to_string().contains("[::1]:1"), "{refusal}");
    }
}
