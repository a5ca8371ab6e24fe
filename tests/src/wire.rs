//! Clients of the original memcr, byte by byte, as some user and in some namespace.

use crate::daemon::Daemon;
use crate::namespace::PidNamespace;
use crate::target::{Target, value};
use crate::users::User;
use crate::{binaries, procfs};
use std::process::Command;

/// The two commands.
pub const CHECKPOINT: u32 = 100;
/// See above.
pub const RESTORE: u32 = 101;

/// One client, with one connection at a time.
#[derive(Debug)]
pub struct Wire(Target);

impl Wire {
    /// `user` connects to the daemon.
    pub fn connect(daemon: &Daemon, user: &User) -> Self {
        Self(Target::start_command(Self::command(daemon, user)))
    }

    /// The same from within a pid namespace.
    pub fn connect_in(namespace: &PidNamespace, daemon: &Daemon, user: &User) -> Self {
        Self(namespace.start(Self::command(daemon, user)))
    }

    fn command(daemon: &Daemon, user: &User) -> Command {
        let mut command = user.command(binaries::path("wire-client"));
        command.arg(daemon.socket());
        command
    }

    /// Its process id, as the test sees it.
    pub fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.0.ask(&format!("send {hex}")), "sent");
        self
    }

    /// The next answer; `None` if the daemon hangs up instead.
    pub fn answer(&mut self) -> Option<i32> {
        self.0.say("answer");
        self.awaited()
    }

    /// Begins to wait for an answer, to be fetched by [`Wire::awaited`].
    pub fn await_answer(&mut self) {
        self.0.say("answer");
    }

    /// The answer that was waited for.
    pub fn awaited(&self) -> Option<i32> {
        let line = self.0.line();
        (line != "end").then(|| value(&line, "answer").parse().expect("a number"))
    }

    /// Sends bytes and gives the answer.
    pub fn ask(&mut self, bytes: &[u8]) -> Option<i32> {
        self.send(bytes).answer()
    }

    /// All that comes until the daemon hangs up, as numbers.
    pub fn rest(&mut self) -> Vec<i32> {
        let line = self.0.ask("rest");
        let digits = line.strip_prefix("rest=").expect("it tells the rest").as_bytes();
        assert_eq!(digits.len() % 8, 0, "the answers are not numbers: {line}");
        let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("digits");
        let number = |digits: &[u8]| i32::from_ne_bytes([0, 2, 4, 6].map(|at| byte(&digits[at..at + 2])));
        digits.chunks(8).map(number).collect()
    }

    /// Sends nothing more.
    pub fn half_close(&mut self) -> &mut Self {
        assert_eq!(self.0.ask("half"), "half");
        self
    }

    /// Hangs up.
    pub fn close(&mut self) {
        assert_eq!(self.0.ask("close"), "closed");
    }

    /// Hangs up if need be, and connects anew.
    pub fn reconnect(&mut self) -> &mut Self {
        assert_eq!(self.0.ask("connect"), "connected");
        self
    }
}

/// Words as they are on this machine.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A request of version 1.
pub fn v1(command: u32, pid: i32) -> Vec<u8> {
    [command.to_ne_bytes(), pid.to_ne_bytes()].concat()
}

/// A request of version 2 with these options.
pub fn v2(command: u32, pid: i32, options: &[Vec<u8>]) -> Vec<u8> {
    let body = [v1(command, pid), options.concat()].concat();
    [words(&[102, u32::try_from(body.len()).expect("it is short")]), body].concat()
}

/// The option that names an image directory.
pub fn directory(name: &str) -> Vec<u8> {
    [&words(&[200])[..], name.as_bytes(), b"\0"].concat()
}

/// The option that names the compression.
pub fn compression(number: u32) -> Vec<u8> {
    words(&[201, number])
}

/// The number of a process in its own pid namespace.
pub fn number_inside(pid: i32) -> i32 {
    let status = procfs::Status::of(pid).expect("it is there");
    let number = status.field("NSpid").split_whitespace().next_back().expect("a process has a number");
    number.parse().expect("a number")
}
