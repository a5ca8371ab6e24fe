//! Facts that decisions are made from: about the target, about the client.

use crate::error::{Error, Result};
use crate::sys::{pidfd, socket};
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::{Stat, Status};
use memcr_protocol::subject::{Namespaces, Peer, PeerKind, TargetFacts};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Id that the kernel shows where ours has no name for it (kernel fact 9).
pub(crate) const OVERFLOW_ID: u32 = 65534;

/// The process of a pidfd, in our pid namespace (kernel fact 10).
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|error| {
        let cause = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Error::System { operation: "reading", object: path, cause }
    })?;
    pid_in(&text)
}

/// The same from the text of its fdinfo.
pub(super) fn pid_in(fdinfo: &str) -> Result<Pid> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = field("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    match field("Pid:").and_then(|pid| pid.parse::<i32>().ok()) {
        // PIDFD_THREAD: a thread may be another user than its process, and is not what a target is
        Some(_) if flags & libc::O_EXCL != 0 => {
            Err(Error::Protocol("the client's descriptor of the target names a thread, no process".into()))
        }
        None => Err(Error::Protocol("the client's descriptor of the target is no pidfd".into())),
        Some(pid) if pid <= 0 => Err(Error::NoSuchProcess { pid }),
        Some(pid) => Ok(Pid::from_raw(pid)),
    }
}

/// The facts of a process, from its directory.
pub(crate) fn target(pid: Pid, directory: &ProcDirectory) -> Result<TargetFacts> {
    let status = Status::read(directory)?;
    let stat = Stat::read(directory)?;
    Ok(TargetFacts {
        pid: pid.as_raw(),
        start_time: stat.start_time,
        uids: status.uids,
        gids: status.gids,
        executable: executable(directory),
        cgroup: cgroup(&directory.text("cgroup")?),
        namespaces: namespaces(directory),
        sha256: None,
    })
}

/// Its namespaces, if they can be read: a process that has just exited has none.
fn namespaces(directory: &ProcDirectory) -> Option<Namespaces> {
    let of = |name: &str| directory.stat(name).ok().map(|status| status.st_ino);
    Some(Namespaces { pid: of("ns/pid")?, user: of("ns/user")? })
}

/// Of a process whose first thread has ended only the others know it; kernel threads have none.
pub(crate) fn executable(directory: &ProcDirectory) -> String {
    directory.link("exe").unwrap_or_else(|_| {
        let threads = directory.numbers("task").unwrap_or_default().into_iter().map(Pid::from_raw);
        let of_thread = |tid| directory.thread(tid).and_then(|thread| thread.link("exe")).ok();
        threads.into_iter().find_map(of_thread).unwrap_or_default()
    })
}

/// Path in the version 2 hierarchy, else in systemd's named one, else in the first.
pub(super) fn cgroup(text: &str) -> String {
    let path_of = |line: &str, prefix: &str| line.strip_prefix(prefix).map(str::to_owned);
    let unified = text.lines().find_map(|line| path_of(line, "0::")).filter(|path| path != "/");
    let named = || text.lines().find_map(|line| path_of(line.split_once(':')?.1, "name=systemd:"));
    let first = || text.lines().find_map(|line| Some(line.splitn(3, ':').nth(2)?.to_owned()));
    unified.or_else(named).or_else(first).unwrap_or_default()
}

/// The client at the other end of a UNIX socket, as the kernel names it; `None` if it doesn't.
pub(crate) fn peer(client: BorrowedFd<'_>) -> Result<Option<Peer>> {
    let Some(peer) = credentials(client)? else {
        return Ok(None);
    };
    Ok(Some(with_process(client, peer)))
}

/// With what is read of its process, unless that has exited and its number may be another's.
fn with_process(client: BorrowedFd<'_>, peer: Peer) -> Peer {
    let Ok(directory) = ProcDirectory::open(Pid::from_raw(peer.pid)) else { return peer };
    let found = Peer {
        executable: directory.link("exe").ok(),
        cgroup: directory.text("cgroup").ok().map(|text| cgroup(&text)),
        namespaces: namespaces(&directory),
        ..peer.clone()
    };
    if peer.pid > 0 && is_peer_there(client) { found } else { peer }
}

/// The same without what its process tells, for a worker that can't open files any more.
pub(crate) fn credentials(client: BorrowedFd<'_>) -> Result<Option<Peer>> {
    let credentials = socket::peer_credentials(client).map_err(Error::system("naming", "the client"))?;
    if credentials.uid() == u32::MAX {
        return Ok(None);
    }
    let groups = socket::peer_groups(client).map_err(Error::system("reading groups of", "the client"))?;
    let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
    Ok(Some(Peer {
        kind: PeerKind::Process,
        uid,
        gid,
        groups,
        pid,
        executable: None,
        cgroup: None,
        namespaces: None,
    }))
}

/// Whether the client is one that the kernel has a name for here: nobody can act for those that it shows
/// as user 65534 or as process 0 (kernel fact 9). Whether anonymous ones may something the policy says.
pub(crate) fn is_known(peer: &Peer) -> bool {
    match peer.kind {
        PeerKind::Process => peer.uid != OVERFLOW_ID && peer.pid > 0,
        // its process is not asked for
        PeerKind::Socket => peer.uid != OVERFLOW_ID,
        PeerKind::Anonymous => true,
    }
}

/// Whether the client has not exited, so that its number is no other's.
pub(crate) fn is_peer_there(client: BorrowedFd<'_>) -> bool {
    match socket::peer_pidfd(client) {
        Ok(pidfd) => !pidfd::has_exited(&pidfd).unwrap_or(true),
        // before Linux 6.5 the number is all there is
        Err(cause) => cause == Errno::ENOPROTOOPT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_names_the_cgroup_unless_it_is_the_root() {
        assert_eq!(cgroup("1:name=systemd:/a\n0::/b\n"), "/b");
        assert_eq!(cgroup("5:cpu:/c\n1:name=systemd:/a\n0::/\n"), "/a");
        assert_eq!(cgroup("5:cpu:/c:d\n"), "/c:d");
        assert_eq!(cgroup(""), "");
    }

    #[test]
    fn a_client_must_have_a_user_and_over_a_unix_socket_a_process() {
        let process = |uid, pid| Peer { kind: PeerKind::Process, pid, ..Peer::by_socket(uid) };
        assert!(is_known(&process(0, 1)) && is_known(&Peer::by_socket(0)) && is_known(&Peer::anonymous()));
        for unknown in [process(0, 0), process(OVERFLOW_ID, 1), Peer::by_socket(OVERFLOW_ID)] {
            assert!(!is_known(&unknown), "{unknown:?}");
        }
    }
}
