//! The users that take part: nobody is root but the test itself. Made if they are missing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Group of the daemon's socket; of the users, only the client is in it.
pub const SOCKET_GROUP: &str = "memcr-test";

/// A user that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: &'static str,
    /// Number.
    pub uid: u32,
    /// Number of its own group.
    pub gid: u32,
}

/// Everybody.
#[derive(Debug)]
pub struct Cast {
    /// The daemon runs as this one.
    pub daemon: User,
    /// The processes that are put to sleep run as this one.
    pub target: User,
    /// In the daemon's group.
    pub client: User,
    /// In no group of ours.
    pub stranger: User,
    /// The system's nobody.
    pub nobody: User,
    /// Root: for what only root may do.
    pub root: User,
    /// Number of [`SOCKET_GROUP`].
    pub socket_group: u32,
}

/// Everybody; made on first use.
///
/// # Panics
/// When this process isn't root's, or the users can't be made.
pub fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(|| {
        require_root();
        if group_number(SOCKET_GROUP).is_none() {
            run_as_root("groupadd", &["--system", SOCKET_GROUP]);
        }
        Cast {
            daemon: user("memcr-test-daemon", &[]),
            target: user("memcr-test-target", &[]),
            client: user("memcr-test-client", &["--groups", SOCKET_GROUP]),
            stranger: user("memcr-test-stranger", &[]),
            nobody: existing("nobody").expect("the system has no user nobody"),
            root: existing("root").expect("the system has no user root"),
            socket_group: group_number(SOCKET_GROUP).expect("groupadd made no group"),
        }
    })
}

/// Says in one sentence that root is needed, instead of a hundred obscure failures.
///
/// # Panics
/// When this process isn't root's.
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the end-to-end tests must run as root: they make users and start daemons, targets and clients as them"
    );
}

/// The path of a program that a test needs.
///
/// # Panics
/// When it isn't there; the sentence names the Debian package that has it.
pub fn required<'a>(path: &'a str, package: &str) -> &'a Path {
    let path = Path::new(path);
    assert!(path.exists(), "this test needs {}: apt-get install {package}", path.display());
    path
}

impl User {
    /// A command that runs as this user with its groups, an empty environment, no input and no signal
    /// ignored; its process keeps its number, since setpriv executes the program in its own place.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_with(&["--init-groups"], program)
    }

    /// As [`User::command`], with other words for setpriv.
    pub fn command_with(&self, setpriv: &[&str], program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        command.args(setpriv).arg("--").arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
        command.env("LANG", "C.UTF-8").current_dir("/").stdin(Stdio::null());
        crate::sys::begin_with_default_signals(&mut command);
        command
    }
}

fn user(name: &'static str, extra: &[&str]) -> User {
    existing(name).unwrap_or_else(|| {
        let words = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"];
        run_as_root("useradd", &[&words, extra, &[name]].concat());
        existing(name).expect("useradd made no user")
    })
}

fn existing(name: &'static str) -> Option<User> {
    let entry = nix::unistd::User::from_name(name).expect("cannot read the user database")?;
    Some(User { name, uid: entry.uid.as_raw(), gid: entry.gid.as_raw() })
}

fn group_number(name: &str) -> Option<u32> {
    let entry = nix::unistd::Group::from_name(name).expect("cannot read the group database")?;
    Some(entry.gid.as_raw())
}

fn run_as_root(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot run {program} {}", arguments.join(" "));
}
