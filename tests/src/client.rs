//! Running `memcr-client` as some user, and what comes out.

use crate::binaries;
use crate::users::User;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Somebody who asks a daemon for things.
#[derive(Debug, Clone)]
pub struct Client {
    user: User,
    socket: PathBuf,
}

/// What a run of `memcr-client` came to.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Client {
    /// `user` asks the daemon at `socket`.
    pub fn new(user: &User, socket: &Path) -> Self {
        Self { user: *user, socket: socket.to_owned() }
    }

    /// The command with these words after `-l SOCKET`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.user.command(binaries::path("memcr-client"));
        command.arg("-l").arg(&self.socket).args(words);
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(&self.command(words).output().expect("cannot run memcr-client"))
    }

    /// Puts a process to sleep.
    pub fn checkpoint(&self, pid: i32) -> Outcome {
        self.run(&["--json", "-c", "-p", &pid.to_string()])
    }

    /// Wakes a process.
    pub fn restore(&self, pid: i32) -> Outcome {
        self.run(&["--json", "-r", "-p", &pid.to_string()])
    }

    /// Starts to put a process to sleep; the caller waits for the end.
    pub fn start_checkpoint(&self, pid: i32) -> Running {
        self.start(&["--json", "-c", "-p", &pid.to_string()])
    }

    /// Starts to wake a process; the caller waits for the end.
    pub fn start_restore(&self, pid: i32) -> Running {
        self.start(&["--json", "-r", "-p", &pid.to_string()])
    }

    /// Starts a command; the caller waits for the end.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running { child: child.expect("cannot start memcr-client") }
    }

    /// The state of a process, as the daemon names it.
    pub fn state(&self, pid: i32) -> String {
        let outcome = self.run(&["--json", "--status", "-p", &pid.to_string()]).expect_status(0);
        outcome.json()["state"].as_str().expect("a status has a state").to_owned()
    }

    /// The process ids in the list.
    pub fn listed(&self) -> Vec<i64> {
        let list = self.run(&["--json", "--list"]).expect_status(0).json();
        let entries = list.as_array().expect("a list is an array").iter();
        entries.map(|entry| entry["pid"].as_i64().expect("an entry has a pid")).collect()
    }
}

/// A run of `memcr-client` that goes on.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Waits for its end.
    pub fn finish(self) -> Outcome {
        Outcome::of(&self.child.wait_with_output().expect("cannot wait for memcr-client"))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Kills it.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    fn of(output: &Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if the exit status is this one.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "memcr-client said: {}{}", self.output, self.errors);
        self
    }

    /// The same, if all these words are in the message on standard error.
    ///
    /// # Panics
    /// When one is missing.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        let errors = self.errors.to_lowercase();
        for word in words {
            assert!(errors.contains(&word.to_lowercase()), "no \"{word}\" in: {}", self.errors);
        }
        self
    }

    /// The output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error} in: {}", self.output))
    }

    /// A figure of the report in the output.
    pub fn figure(&self, name: &str) -> u64 {
        self.json()["report"][name].as_u64().unwrap_or_else(|| panic!("no {name} in: {}", self.output))
    }
}
