//! Daemons under test: started in one of the ways that people start them, and always cleaned up.

use crate::client::Client;
use crate::network::{Network, Port};
use crate::scratch::Scratch;
use crate::target::Target;
use crate::users::{self, User, cast};
use crate::{audit, binaries, procfs, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// How a daemon gets CAP_SYS_PTRACE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Started by root, moves to a user of its own.
    Root,
    /// Started as an ordinary user with an ambient capability, as systemd does.
    Ambient,
    /// Started by an ordinary user from a file that has the capability.
    FileCapability,
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Setup {
    way: Way,
    has_user: bool,
    has_group: bool,
    has_log: bool,
    policy: Option<String>,
    images: Option<PathBuf>,
    accounts: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    descriptors: Option<u64>,
    entrance: Entrance,
    network: Option<Rc<Network>>,
    lacks: Option<&'static str>,
    programs: Option<PathBuf>,
    scratch: Scratch,
}

/// Where clients come in.
#[derive(Debug)]
enum Entrance {
    /// A UNIX socket.
    Socket,
    /// A port of this machine that nobody else takes.
    Reserved(Rc<Port>),
    /// A port of a network of its own.
    Port(u16),
}

impl Entrance {
    fn port(&self) -> Option<u16> {
        match self {
            Self::Socket => None,
            Self::Reserved(port) => Some(port.number()),
            Self::Port(number) => Some(*number),
        }
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// As long as it is there.
    _entrance: Entrance,
    launcher: i32,
    is_drill: bool,
    scratch: Scratch,
    images: PathBuf,
}

impl Setup {
    /// Started by root, built-in policy, an image directory of its own.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let setup = Self {
            way: Way::Root,
            has_user: true,
            has_group: true,
            has_log: true,
            policy: None,
            images: None,
            accounts: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            descriptors: None,
            entrance: Entrance::Socket,
            network: None,
            lacks: None,
            programs: None,
            scratch,
        };
        if std::env::var_os(binaries::ORDERS).is_some() { setup.drill("") } else { setup }
    }

    /// Gets its capability in this way.
    pub fn way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Isn't told who to become when root starts it.
    pub fn without_user(mut self) -> Self {
        self.has_user = false;
        self
    }

    /// Sees these accounts, in the format of passwd(5), instead of the machine's.
    pub fn accounts(mut self, text: &str) -> Self {
        self.accounts = Some(self.scratch.file("passwd", text));
        self
    }

    /// Writes its audit records to standard error.
    pub fn without_audit_log(mut self) -> Self {
        self.has_log = false;
        self
    }

    /// Listens on a socket that everybody may connect to.
    pub fn without_group(mut self) -> Self {
        self.has_group = false;
        self
    }

    /// Decides by this policy file.
    pub fn policy(mut self, text: &str) -> Self {
        self.policy = Some(text.to_owned());
        self
    }

    /// Writes its images there.
    pub fn images(mut self, directory: &Path) -> Self {
        self.images = Some(directory.to_owned());
        self
    }

    /// Listens on this port instead of a socket.
    pub fn port(mut self, port: &Rc<Port>) -> Self {
        self.entrance = Entrance::Reserved(Rc::clone(port));
        self
    }

    /// Listens on this port in a network of its own.
    pub fn port_in(mut self, network: &Rc<Network>, port: u16) -> Self {
        self.entrance = Entrance::Port(port);
        self.network = Some(Rc::clone(network));
        self
    }

    /// Gets these words too.
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Finds this variable in its environment.
    pub fn environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// May have so many file descriptors, if it is started by root.
    pub fn descriptors(mut self, number: u64) -> Self {
        self.descriptors = Some(number);
        self
    }

    /// Finds no pidfd_getfd(2) in its kernel, if it is started by root.
    pub fn without_pidfd_getfd(self) -> Self {
        self.without_call("pidfd_getfd")
    }

    /// Finds no such call in its kernel, if it is started by root.
    pub fn without_call(mut self, name: &'static str) -> Self {
        self.lacks = Some(name);
        self
    }

    /// Is a test build with an attacker in it, who has these orders (tests/drill/src/orders.rs).
    pub fn drill(mut self, orders: &str) -> Self {
        self.programs = Some(binaries::drill_in(self.scratch.path(), orders));
        self
    }

    /// Its launcher and workers find no such call in their kernel.
    pub fn worker_without_call(self, name: &str) -> Self {
        let [without, worker] =
            ["without-call", "memcr-worker"].map(|name| binaries::path(name).display().to_string());
        let script = format!("#!/bin/sh\nexec {without} {name} {worker}\n");
        let path = self.scratch.file("memcr-worker", &script);
        crate::scratch::set_mode(&path, 0o755);
        let word = path.display().to_string();
        self.arguments(&["--worker", &word])
    }

    /// The directory that it will have.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The command that starts it, and its image directory.
    pub fn command(&self) -> (Command, PathBuf) {
        let directory = self.scratch.path();
        let images = self.images.clone().unwrap_or_else(|| {
            let images = directory.join("images");
            if !images.exists() {
                self.scratch.directory_of(&cast().daemon, "images");
            }
            images
        });
        let mut command = self.program();
        match self.entrance.port() {
            Some(port) => command.arg("-l").arg(port.to_string()),
            None => command.arg("-l").arg(self.socket()),
        };
        command.arg("-d").arg(&images);
        if self.has_group && self.entrance.port().is_none() {
            command.args(["-g", &cast().socket_group.to_string()]);
        }
        if let Some(policy) = &self.policy {
            command.arg("--policy").arg(self.scratch.file("policy.toml", policy));
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().copied());
        if let Some(network) = &self.network {
            command = network.command(&command);
        }
        command.stdout(Stdio::null());
        (command, images)
    }

    fn program(&self) -> Command {
        let directory = self.scratch.path();
        let memcr = self.programs.clone().unwrap_or_else(|| binaries::path("memcr"));
        let (mut command, log) = match self.way {
            Way::Root => {
                let mut command = match (&self.accounts, self.descriptors) {
                    (Some(accounts), _) => with_accounts(accounts, &memcr),
                    (None, Some(number)) => {
                        // executes memcr in its own place
                        let mut command = Command::new("/usr/bin/prlimit");
                        command.arg(format!("--nofile={number}:{number}")).arg(memcr);
                        command
                    }
                    (None, None) => match self.lacks {
                        None => Command::new(memcr),
                        Some(name) => {
                            let mut command = Command::new(binaries::path("without-call"));
                            command.arg(name).arg(memcr);
                            command
                        }
                    },
                };
                command.env_clear().current_dir("/");
                if self.has_user {
                    command.args(["--user", cast().daemon.name]);
                }
                (command, directory.join("audit.log"))
            }
            Way::Ambient => {
                let group = group_of_socket();
                let words = [group.as_str(), "--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"];
                (cast().daemon.command_with(&words, memcr), self.directory_of_daemon().join("audit.log"))
            }
            Way::FileCapability => {
                let copy = directory.join("memcr");
                copy_with_capability(&memcr, &copy);
                std::fs::copy(binaries::path("memcr-worker"), directory.join("memcr-worker"))
                    .expect("cannot copy");
                let command = cast().daemon.command_with(&[&group_of_socket()], copy);
                (command, self.directory_of_daemon().join("audit.log"))
            }
        };
        command.stdin(Stdio::null());
        if self.has_log {
            command.arg("--audit-log").arg(log);
        }
        command
    }

    /// A daemon that isn't started by root can make its socket and its log in a directory of its
    /// own only.
    fn directory_of_daemon(&self) -> PathBuf {
        let path = self.scratch.path().join("daemon");
        if !path.exists() {
            self.scratch.directory_of(&cast().daemon, "daemon");
            crate::scratch::set_mode(&path, 0o755);
        }
        path
    }

    fn socket(&self) -> PathBuf {
        match self.way {
            Way::Root => self.scratch.path().join("memcr.sock"),
            Way::Ambient | Way::FileCapability => self.directory_of_daemon().join("memcr.sock"),
        }
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        self.try_start().unwrap_or_else(|said| panic!("the daemon ended, and said:\n{said}"))
    }

    /// The same of one that may fail to.
    ///
    /// # Errors
    /// What it said before it ended.
    pub fn try_start(self) -> Result<Daemon, String> {
        let (mut command, images) = self.command();
        let log = std::fs::File::create(self.scratch.path().join("daemon.log")).expect("cannot make a log");
        let child = command.stderr(log).spawn().expect("cannot start a daemon");
        let _entrance = self.entrance;
        let is_drill = self.programs.is_some();
        let mut daemon = Daemon { child, _entrance, launcher: 0, is_drill, scratch: self.scratch, images };
        let mut has_ended = false;
        wait::until("the daemon is ready", || {
            has_ended = daemon.child.try_wait().expect("cannot wait for a daemon").is_some();
            has_ended || daemon.is_ready()
        });
        if has_ended {
            return Err(daemon.log());
        }
        let launcher = wait::until_some("there is one launcher", wait::BOUND, || {
            has_ended = daemon.child.try_wait().expect("cannot wait for a daemon").is_some();
            let children = procfs::children(daemon.pid());
            has_ended.then_some(0).or(children.first().copied().filter(|_| children.len() == 1))
        });
        if has_ended {
            return Err(daemon.log());
        }
        daemon.launcher = launcher;
        Ok(daemon)
    }

    /// Starts it and waits for its end, for command lines that it should refuse; gives its exit
    /// status and what it wrote to standard error.
    pub fn start_and_fail(self) -> (i32, String) {
        let (mut command, _) = self.command();
        let mut child = command.stderr(Stdio::piped()).spawn().expect("cannot start a daemon");
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_some("the daemon ends", wait::BOUND, || child.try_wait().expect("cannot wait"))
        }));
        let _ = child.kill();
        let output = child.wait_with_output().expect("cannot wait");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let end = end.unwrap_or_else(|_| panic!("the daemon ran on, and said:\n{said}"));
        (end.code().unwrap_or(-1), said)
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Daemon {
    /// A daemon as it is by default: started by root, runs as its own user.
    pub fn start() -> Self {
        Setup::new().start()
    }

    /// Process id of the broker.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// Whether it has said so: it listens, has opened what it needs and is confined.
    ///
    /// Nothing is sent to it to find out, so that tests may count its descriptors and its clients.
    fn is_ready(&self) -> bool {
        self.log().contains("running as user")
    }

    /// The record of its start; its socket is there a moment before that is written.
    pub fn start_record(&self) -> Value {
        wait::until_some("its start is on record", wait::BOUND, || {
            self.audit().into_iter().find(|record| record["event"] == "start")
        })
    }

    /// Process id of the launcher.
    pub fn launcher(&self) -> i32 {
        self.launcher
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> Vec<i32> {
        procfs::children(self.launcher)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        let own = self.scratch.path().join("daemon/memcr.sock");
        if own.exists() { own } else { self.scratch.path().join("memcr.sock") }
    }

    /// Its image directory.
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// The names in its image directory.
    pub fn image_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.images).expect("cannot read the image directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until there is no image: each goes a moment after the process that it was of has woken.
    #[track_caller]
    pub fn wait_until_no_image(&self) {
        wait::until("all images disappear", || self.image_names().is_empty());
    }

    /// Directory of this test.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// `user` as a client of this daemon.
    pub fn client_of(&self, user: &User) -> Client {
        Client::new(user, &self.socket())
    }

    /// The usual client: an ordinary user in the group of the socket.
    pub fn client(&self) -> Client {
        self.client_of(&cast().client)
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("daemon.log")).unwrap_or_default()
    }

    /// All audit records so far.
    pub fn audit(&self) -> Vec<Value> {
        let own = self.scratch.path().join("daemon/audit.log");
        audit::read(&if own.exists() { own } else { self.scratch.path().join("audit.log") })
    }

    /// The audit records about this process so far.
    pub fn audit_of(&self, target: i32) -> Vec<Value> {
        let about = |record: &Value| record["target"]["pid"].as_i64() == Some(i64::from(target));
        self.audit().into_iter().filter(about).collect()
    }

    /// Asserts that no worker has died asleep, which its successor may have hidden.
    #[track_caller]
    pub fn assert_no_worker_died(&self) {
        let died: Vec<Value> =
            self.audit().into_iter().filter(|record| record["event"] == "worker-replaced").collect();
        assert!(died.is_empty(), "{died:?}");
    }

    /// Puts a target to sleep as the usual client; gives the process id of its worker.
    #[track_caller]
    pub fn put_to_sleep(&self, target: &Target) -> i32 {
        self.put_to_sleep_as(&cast().client, target)
    }

    /// The same as another user.
    #[track_caller]
    pub fn put_to_sleep_as(&self, user: &User, target: &Target) -> i32 {
        self.client_of(user).checkpoint(target.pid()).expect_status(0);
        procfs::tracer(target.pid()).expect("a sleeper is traced by its worker")
    }

    /// Sends a signal to the broker.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits until the broker ends by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait::until_some("the daemon ends", wait::BOUND, || {
            child.try_wait().expect("cannot wait for a daemon")
        })
    }

    /// Waits until neither the launcher nor a worker is left.
    pub fn wait_for_the_others(&self) {
        wait::until("the launcher and its workers end", || {
            !procfs::is_alive(self.launcher) && self.workers().is_empty()
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the daemon said:\n{}\n---- its audit log:", self.log());
            self.audit().iter().for_each(|record| eprintln!("{record}"));
        }
        self.end();
        // whatever a test looks for: no part of memcr meets a fault, or does what its filter forbids
        let log = if self.is_drill || std::thread::panicking() { String::new() } else { self.log() };
        let faults = ["panicked at", "fatal runtime error", "-fault\"", "worker-forbidden-call"];
        assert!(!faults.iter().any(|fault| log.contains(fault)), "the daemon met a fault, and said:\n{log}");
    }
}

impl Daemon {
    fn end(&mut self) {
        send(self.pid(), Signal::SIGTERM);
        let start = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(10) {
            wait::let_pass(Duration::from_millis(5));
        }
        let workers = self.workers();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in workers.into_iter().chain([self.launcher]).filter(|pid| *pid > 1) {
            // the number may be another's by now: ours are the ones of that name
            if std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("memcr"))
            {
                send(pid, Signal::SIGKILL);
            }
        }
    }
}

/// Sends a signal to a process of ours that may have ended.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Who isn't root can give a socket to a group of its own only.
fn group_of_socket() -> String {
    format!("--groups={}", cast().socket_group)
}

/// A command that runs a program in a mount namespace of its own, where `accounts` are all there are. The
/// program takes the place of the command's own process.
fn with_accounts(accounts: &Path, program: &Path) -> Command {
    let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "/bin/sh", "-c", script]).arg(accounts).arg(program);
    command
}

fn copy_with_capability(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("cannot copy memcr");
    let setcap = users::required("/usr/sbin/setcap", "libcap2-bin");
    let status = Command::new(setcap).arg("cap_sys_ptrace=ep").arg(to).status().expect("cannot run setcap");
    assert!(status.success(), "setcap fails on {}", to.display());
}
