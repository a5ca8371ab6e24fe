//! What a process without privileges can learn of a target: the number behind a pidfd, whether it
//! lives, and its public facts.

use memcr_protocol::subject::TargetFacts;
use memcr_protocol::text::of_bytes;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Longest /proc file that is read; the files wanted here are shorter.
const LONGEST: u64 = 64 * 1024;

/// What a descriptor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// A process, by its id in our pid namespace.
    Process(i32),
    /// A process that is gone.
    Gone,
    /// A process outside of our pid namespace.
    Invisible,
    /// A single thread (PIDFD_THREAD): not what a target is.
    Thread,
    /// No process at all.
    Nothing,
}

/// Reads what `descriptor` names from /proc/self/fdinfo, which works for any file and asks nothing
/// of whoever is behind it (kernel-facts 10).
pub(crate) fn named_by(descriptor: BorrowedFd<'_>) -> Named {
    let Ok(text) = read_text(&format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())) else {
        return Named::Nothing;
    };
    named_in(&text)
}

fn named_in(fdinfo: &str) -> Named {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let Some(pid) = field("Pid:").and_then(|pid| pid.parse::<i32>().ok()) else {
        return Named::Nothing;
    };
    // PIDFD_THREAD is O_EXCL
    let flags = field("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    match pid {
        _ if flags & libc::O_EXCL != 0 => Named::Thread,
        0 => Named::Invisible,
        pid if pid > 0 => Named::Process(pid),
        _ => Named::Gone,
    }
}

/// Whether the process behind `pidfd` has exited.
pub(crate) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut ends = [PollFd::new(pidfd, PollFlags::POLLIN)];
    matches!(poll(&mut ends, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

/// What everybody may read of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Public {
    /// All but its executable, which stays empty.
    pub(crate) facts: TargetFacts,
    /// Who traces it; 0 for one whom we can't see.
    pub(crate) tracer: Option<i32>,
}

/// Reads that of the process behind `pidfd`. `None` if it is gone, or hidden from us.
pub(crate) fn public_facts(pid: i32, pidfd: BorrowedFd<'_>) -> Option<Public> {
    let status = read_text(&format!("/proc/{pid}/status")).ok()?;
    let stat = read_text(&format!("/proc/{pid}/stat")).ok()?;
    let cgroup = read_text(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    // read first, then asked: had the number been given to another process meanwhile, this one would be gone
    if has_exited(pidfd.as_fd()) {
        return None;
    }
    let facts = TargetFacts {
        pid,
        start_time: start_time(&stat)?,
        uids: ids(&status, "Uid:")?,
        gids: ids(&status, "Gid:")?,
        executable: String::new(),
        cgroup: cgroup_path(&cgroup),
        namespaces: None,
        sha256: None,
    };
    Some(Public { facts, tracer: tracer(&status)? })
}

/// A tracer in a pid namespace above ours shows in the state only.
fn tracer(status: &str) -> Option<Option<i32>> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let tracer = field("TracerPid:")?.parse().ok()?;
    Some((tracer != 0 || field("State:")?.starts_with('t')).then_some(tracer))
}

fn ids(status: &str, name: &str) -> Option<[u32; 3]> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let mut ids = line.split_whitespace().map_while(|id| id.parse().ok());
    Some([ids.next()?, ids.next()?, ids.next()?])
}

/// Field 22 of /proc/PID/stat; the name before it may hold anything, parentheses too.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// In the version 2 hierarchy, unless it is the root there; else in systemd's own, else in the first
/// one listed: as the worker reads it.
fn cgroup_path(cgroup: &str) -> String {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let unified = lines().find(|(controllers, path)| controllers.is_empty() && *path != "/");
    let systemd = || lines().find(|(controllers, _)| *controllers == "name=systemd");
    let found = unified.or_else(systemd).or_else(|| lines().next());
    found.map(|(_, path)| path.to_owned()).unwrap_or_default()
}

fn read_text(path: &str) -> io::Result<String> {
    let file = File::from(open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    let mut text = Vec::with_capacity(2048);
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(of_bytes(&text))
}

/// What must hold whatever a text of /proc holds; see `crate::fuzzing`.
#[cfg(any(test, fuzzing))]
pub(super) fn read_everything(text: &str) {
    if let Named::Process(pid) = named_in(text) {
        assert!(pid > 0);
    }
    // what stands before the last parenthesis is the program's, and counts for nothing
    let fields = text.rsplit_once(')').map(|(_, fields)| format!("1 (x){fields}"));
    assert_eq!(fields.as_deref().and_then(start_time), start_time(text));
    let cgroup = cgroup_path(text);
    assert!(!cgroup.contains('\n') && text.contains(&cgroup));
    let _ = (ids(text, "Uid:"), tracer(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::open_pidfd;
    use std::process::{Command, Stdio};

    #[test]
    fn a_pidfd_names_its_process_until_it_is_gone() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = open_pidfd(pid).unwrap();
        assert_eq!(named_by(pidfd.as_fd()), Named::Process(pid));
        assert!(!has_exited(pidfd.as_fd()));
        let Public { facts, tracer } = public_facts(pid, pidfd.as_fd()).unwrap();
        assert_eq!(tracer, None);
        assert_eq!(facts.uids, [nix::unistd::geteuid().as_raw(); 3]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(named_by(pidfd.as_fd()), Named::Gone);
        assert!(has_exited(pidfd.as_fd()));
        assert_eq!(public_facts(pid, pidfd.as_fd()), None);
    }

    #[test]
    fn other_files_name_nothing() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(named_by(file.as_fd()), Named::Nothing);
    }

    #[test]
    fn threads_and_strange_processes_are_told_apart() {
        assert_eq!(named_in("pos:\t0\nflags:\t02000202\nPid:\t12\n"), Named::Thread);
        assert_eq!(named_in("pos:\t0\nflags:\t02000002\nPid:\t0\n"), Named::Invisible);
        assert_eq!(named_in("pos:\t0\nflags:\t02000002\nPid:\t-1\n"), Named::Gone);
    }

    #[test]
    fn a_tracer_is_seen_even_if_it_has_no_number_here() {
        let status = |state, tracer| format!("Name:\tx\nState:\t{state}\nTracerPid:\t{tracer}\n");
        assert_eq!(tracer(&status("S (sleeping)", 0)), Some(None));
        assert_eq!(tracer(&status("S (sleeping)", 7)), Some(Some(7)));
        assert_eq!(tracer(&status("t (tracing stop)", 0)), Some(Some(0)));
        assert_eq!(tracer("Name:\tx\n"), None);
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_hide_the_start_time() {
        let fields = (3..=22).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_time(&format!("7 (a) b) 5 (c)) {fields} 23")), Some(22));
    }

    #[test]
    fn the_cgroup_of_version_2_comes_first() {
        assert_eq!(cgroup_path("1:name=systemd:/old\n0::/new:with:colons\n"), "/new:with:colons");
        assert_eq!(cgroup_path("4:cpu:/x\n1:name=systemd:/old\n"), "/old");
        assert_eq!(cgroup_path("4:cpu:/x\n0::/\n"), "/x");
        assert_eq!(cgroup_path(""), "");
    }
}
