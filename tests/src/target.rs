//! Sample targets: started as a user, asked and answering by lines.

use crate::users::User;
use crate::{binaries, procfs, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A running sample target; killed when dropped.
#[derive(Debug)]
pub struct Target {
    child: Child,
    pid: i32,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The line by which it said that it is ready.
    pub ready: String,
}

impl Target {
    /// Starts one of the sample programs of this crate as `user`, and waits until it is ready.
    pub fn start(user: &User, sample: &str, arguments: &[&str]) -> Self {
        let mut command = user.command(binaries::path(sample));
        command.args(arguments);
        Self::start_command(command)
    }

    /// Starts any command that writes a line starting with `ready` and then answers by lines.
    pub fn start_command(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self::of(command.spawn().expect("cannot start a target"))
    }

    /// One that was started by other means; its input and its output are pipes.
    pub fn of(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        let input = child.stdin.take();
        let pid = i32::try_from(child.id()).expect("a pid is an i32");
        let mut target = Self { child, pid, input, lines, ready: String::new() };
        target.ready = target.line();
        assert!(target.ready.starts_with("ready"), "a target said: {}", target.ready);
        target
    }

    /// The same for a command whose process is not the target itself, but has started it: its only child, or a
    /// child of that.
    pub fn start_below(command: Command) -> Self {
        let mut target = Self::start_command(command);
        while let [child] = procfs::children(target.pid)[..] {
            target.pid = child;
        }
        target
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The value of `name=value` in its ready line.
    pub fn fact(&self, name: &str) -> &str {
        value(&self.ready, name)
    }

    /// Sends a line, without waiting for an answer.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        // one write: a target that waits for a guarded page while it reads holds the pipe's lock,
        // and a second write would wait with it
        input.write_all(format!("{line}\n").as_bytes()).expect("a target doesn't listen");
    }

    /// How many bytes of what was said to it it hasn't read yet.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(self.input.as_ref().expect("its input is open")).expect("FIONREAD")
    }

    /// The next line that it says.
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the target {} says nothing", self.pid()),
            Err(RecvTimeoutError::Disconnected) => panic!("the target {} is gone", self.pid()),
        }
    }

    /// The next line that it says within `period`, if it does.
    pub fn line_within(&self, period: Duration) -> Option<String> {
        self.lines.recv_timeout(period).ok()
    }

    /// Sends a line and gives the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    /// Has it check itself.
    ///
    /// # Panics
    /// When it finds something wrong.
    pub fn assert_intact(&mut self) {
        let answer = self.ask("check");
        assert!(answer.starts_with("intact"), "the target {} says: {answer}", self.pid());
    }

    /// Whether it is traced by nobody.
    pub fn is_awake(&self) -> bool {
        procfs::is_alive(self.pid()) && procfs::tracer(self.pid()).is_none()
    }

    /// Waits until it runs and is traced by nobody.
    ///
    /// # Panics
    /// When it has died, or doesn't wake in time; what its threads do is shown.
    #[track_caller]
    pub fn wait_until_awake(&mut self) {
        let start = std::time::Instant::now();
        while !self.is_awake() {
            let end = self.child.try_wait().expect("cannot wait for a target");
            assert!(end.is_none(), "the target {} ended: {end:?}", self.pid());
            assert!(
                start.elapsed() < wait::BOUND,
                "the target {} sleeps on:\n{}",
                self.pid(),
                self.threads()
            );
            wait::let_pass(Duration::from_millis(2));
        }
    }

    /// What its threads do.
    fn threads(&self) -> String {
        let threads = procfs::threads(self.pid()).into_iter().filter_map(|tid| {
            let status = procfs::Status::of_thread(self.pid(), tid)?;
            let place = std::fs::read_to_string(format!("/proc/{}/task/{tid}/wchan", self.pid())).ok()?;
            let (state, tracer) = (status.field("State"), status.field("TracerPid"));
            Some(format!("  thread {tid}: {state}, tracer {tracer}, in {place}\n"))
        });
        threads.collect()
    }

    /// Its exit status, once it has died.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let pid = child.id();
        wait::until_some(&format!("the target {pid} ends"), wait::BOUND, || {
            child.try_wait().expect("cannot wait for a target")
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("cannot send a signal");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `name=value` in a line.
pub fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in: {line}"))
}
