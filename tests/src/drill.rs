//! What an attacker inside of memcr goes for, and what came of it. What he tries is in the crate `memcr-drill`.

use crate::daemon::{Daemon, Setup};
use crate::scratch::Scratch;
use crate::target::Target;
use crate::users::{User, cast};
use crate::wait;
use memcr_drill::{MARK, Role};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The kernel killed the role for a system call that it may not make.
    Killed,
    /// The call gave this error number.
    Refused(i32),
    /// It worked.
    Worked,
}

/// Where there is something to get: all of it belongs to the daemon's own user, so that no mode of a file and no user of a
/// process is in the way.
#[derive(Debug)]
pub struct Bait {
    secret: PathBuf,
    place: PathBuf,
    tcp: TcpListener,
    named: UnixListener,
    hidden: UnixListener,
    hidden_name: String,
    /// A process of the daemon's user.
    victim: Target,
    /// A process that sleeps meanwhile.
    other: Target,
    /// Goes last: the name of the hidden socket is that of an inode in it.
    _scratch: Scratch,
}

const SECRET: &str = "nobody shall read this";

impl Bait {
    /// Lays it out.
    pub fn lay() -> Self {
        let scratch = Scratch::new();
        let place = scratch.directory_of(&cast().daemon, "bait");
        let secret = place.join("secret");
        std::fs::write(&secret, SECRET).expect("a file");
        give(&secret, &cast().daemon);
        let tcp = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let named = UnixListener::bind(place.join("socket")).expect("a socket");
        give(&place.join("socket"), &cast().daemon);
        let hidden_name = format!("memcr-bait-{}", place.metadata().expect("it is there").ino());
        let address = SocketAddr::from_abstract_name(&hidden_name).expect("a name");
        let hidden = UnixListener::bind_addr(&address).expect("an abstract socket");
        tcp.set_nonblocking(true).expect("a socket that doesn't wait");
        for listener in [&named, &hidden] {
            listener.set_nonblocking(true).expect("a socket that doesn't wait");
        }
        let victim = Target::start(&cast().daemon, "sample-memory", &["1"]);
        let other = Target::start(&cast().target, "sample-memory", &["1"]);
        Self { _scratch: scratch, secret, place, tcp, named, hidden, hidden_name, victim, other }
    }

    /// Starts a test build with these orders, and puts the other process to sleep: the first sleep of this daemon.
    pub fn daemon(&self, orders: &str) -> Daemon {
        let setup = Setup::new();
        let image = setup.scratch().path().join(format!("images/pages-{}.img", self.other.pid()));
        let daemon =
            setup.drill(&format!("{}fact image {}\n{orders}", self.facts(), image.display())).start();
        daemon.put_to_sleep(&self.other);
        assert!(image.exists(), "{} is not where the image is", image.display());
        daemon
    }

    /// Wakes the other process, if somebody must, and asserts that it is what it was.
    #[track_caller]
    pub fn wake_other(&mut self, daemon: &Daemon, is_served: bool) {
        if is_served {
            daemon.client().restore(self.other.pid()).expect_status(0);
        }
        self.assert_other_awake();
    }

    /// Asserts that the other process wakes and is what it was.
    #[track_caller]
    pub fn assert_other_awake(&mut self) {
        self.other.wait_until_awake();
        self.other.assert_intact();
    }

    /// What the attacker knows of it.
    fn facts(&self) -> String {
        let port = self.tcp.local_addr().expect("it is bound").port();
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.victim.pid())).expect("its maps");
        let writable = maps.lines().find(|line| line.contains(" rw-p ")).expect("writable memory");
        let start = writable.split('-').next().expect("an address");
        let address = u64::from_str_radix(start, 16).expect("a number");
        format!(
            "fact secret {}\nfact place {}\nfact port {port}\nfact socket {}\nfact abstract {}\nfact victim {}\n\
             fact address {address}\n",
            self.secret.display(),
            self.place.display(),
            self.place.join("socket").display(),
            self.hidden_name,
            self.victim.pid(),
        )
    }

    /// Asserts that nothing of it was taken, changed or touched.
    #[track_caller]
    pub fn assert_untouched(&mut self, by: &str) {
        let names = || -> Vec<String> {
            let entries = std::fs::read_dir(&self.place).expect("a directory");
            let mut names: Vec<_> = entries
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["secret", "socket"], "after {by}");
        assert_eq!(std::fs::read_to_string(&self.secret).expect("it is there"), SECRET, "after {by}");
        let metadata = self.secret.metadata().expect("it is there");
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1), "after {by}");
        let waits = |kind: ErrorKind| kind == ErrorKind::WouldBlock;
        assert!(
            self.tcp.accept().is_err_and(|error| waits(error.kind())),
            "somebody has connected, after {by}"
        );
        for listener in [&self.named, &self.hidden] {
            assert!(
                listener.accept().is_err_and(|error| waits(error.kind())),
                "somebody has connected, after {by}"
            );
        }
        assert!(self.victim.is_awake(), "the victim is traced or dead, after {by}");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.victim.pid())).expect("limits");
        assert!(
            !limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 0 ")),
            "after {by}"
        );
        self.victim.assert_intact();
    }
}

fn give(path: &Path, user: &User) {
    chown(path, Some(user.uid), Some(user.gid)).expect("cannot chown");
    crate::scratch::set_mode(path, 0o600);
}

/// What came of each attempt of `role`, in order, as the log of a daemon tells. A worker's death is in it; a broker or a
/// launcher that says nothing more after an attempt is taken for killed, for the caller to look.
pub fn fates(log: &str, role: Role) -> Vec<(String, Fate)> {
    let mut fates: Vec<(String, Option<Fate>)> = Vec::new();
    for line in log.lines() {
        if line.contains("\"event\":\"worker-forbidden-call\"") {
            if let Some((_, fate @ None)) = fates.last_mut() {
                *fate = Some(Fate::Killed);
            }
        }
        let words: Vec<_> = line.strip_prefix(MARK).unwrap_or_default().split_whitespace().collect();
        match (words.as_slice(), fates.last_mut()) {
            ([by, "tries", name], _) if *by == role.name() => fates.push(((*name).to_owned(), None)),
            ([by, "worked:", name], Some((tried, fate))) if *by == role.name() && tried == name => {
                *fate = Some(Fate::Worked);
            }
            ([by, "refused:", name, .., number], Some((tried, fate)))
                if *by == role.name() && name.trim_end_matches(':') == tried =>
            {
                *fate = Some(Fate::Refused(number.parse().expect("an error number")));
            }
            _ => {}
        }
    }
    fates.into_iter().map(|(name, fate)| (name, fate.unwrap_or(Fate::Killed))).collect()
}

/// Orders for a role of workers to try one thing after the other, each in a sleep of its own, the first of which is that
/// with this number.
pub fn one_by_one(role: Role, names: &[&str], first: usize) -> String {
    let line = |(index, name): (usize, &&str)| format!("{}@{} try {name}\n", role.name(), index + first);
    names.iter().enumerate().map(line).collect()
}

/// Processes whose parents end become children of this one, so that it learns how they ended.
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("cannot become a subreaper");
}

/// How a process ended that was adopted, or will be.
pub fn end_of(pid: i32) -> WaitStatus {
    wait::until_some("an orphan ends", wait::BOUND, || {
        let end = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        end.ok().filter(|end| *end != WaitStatus::StillAlive)
    })
}

/// Whether that is the death for a forbidden system call.
pub fn is_killed(end: WaitStatus) -> bool {
    matches!(end, WaitStatus::Signaled(_, Signal::SIGSYS, _))
}

/// The same for a child.
pub fn is_status_killed(end: ExitStatus) -> bool {
    end.signal() == Some(Signal::SIGSYS as i32)
}
