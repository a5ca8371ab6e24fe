//! Which process has a socket at the other end of a TCP connection: for the records, and for the pid namespace of
//! a client that names its target by a number; decisions are made by the user alone.
//!
//! The processes of that user are looked through, the newest first, within bounds: a client that hides behind
//! many others or many descriptors hides nobody but itself.

use crate::sys::status;
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Processes that are looked at, of whichever user.
const PROCESSES: usize = 4000;

/// A process that has a socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its effective group.
    pub(crate) gid: u32,
    /// Its supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Its number in our pid namespace.
    pub(crate) pid: i32,
    /// Path of its executable.
    pub(crate) executable: Option<String>,
}

/// The first process found that runs as this user and has the socket with this inode. `client` is our end of the
/// connection: a socket like that one.
pub(crate) fn find(client: &OwnedFd, uid: u32, inode: u32, time: Duration) -> Option<Holder> {
    let own = ProcDirectory::open(Pid::this()).ok()?;
    // all sockets are on one mount of their own; an inode of another means another file
    let mount = field(&own.text(&format!("fdinfo/{}", client.as_raw_fd())).ok()?, "mnt_id:")?;
    let socket = Socket { mount, inode: inode.into() };
    let mut pids = ProcDirectory::open_all().and_then(|all| all.numbers(".")).ok()?;
    pids.sort_unstable_by(|a, b| b.cmp(a));
    let deadline = Instant::now() + time;
    pids.into_iter().take(PROCESSES).find_map(|pid| {
        let directory = ProcDirectory::open(Pid::from_raw(pid)).ok()?;
        if !may_be_of(&directory, uid) || !has(&directory, socket, deadline) {
            return None;
        }
        let text = directory.text("status").ok()?;
        let status = Status::parse(&text).filter(|status| status.uids[1] == uid)?;
        let executable = directory.link("exe").ok();
        Some(Holder { gid: status.gids[1], groups: groups(&text), pid, executable })
    })
}

/// A file on the kernel's mount of sockets.
#[derive(Clone, Copy)]
struct Socket {
    mount: u64,
    inode: u64,
}

/// Its directory is its effective user's, unless it is not dumpable.
fn may_be_of(directory: &ProcDirectory, uid: u32) -> bool {
    status::of(directory.descriptor()).is_ok_and(|status| status.st_uid == uid)
}

/// A look may take long: what the kernel tells of some descriptors is long, however little of it is read.
fn has(directory: &ProcDirectory, socket: Socket, deadline: Instant) -> bool {
    let numbers = directory.numbers("fdinfo").unwrap_or_default();
    numbers.into_iter().any(|number| {
        let is_time = Instant::now() < deadline;
        let text = if is_time { directory.text(&format!("fdinfo/{number}")).ok() } else { None };
        let is_it = |text: &str| {
            field(text, "ino:") == Some(socket.inode) && field(text, "mnt_id:") == Some(socket.mount)
        };
        text.is_some_and(|text| is_it(&text))
    })
}

pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

pub(super) fn groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_process_that_has_a_socket_is_found_by_its_user_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = OwnedFd::from(listener.accept().unwrap().0);
        let inode = std::fs::File::from(OwnedFd::from(client.try_clone().unwrap())).metadata().unwrap().ino();
        let inode = u32::try_from(inode).unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        // children that other tests fork just now are newer, and may have copies for a moment
        let end = Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = find(&accepted, uid, inode, Duration::from_secs(9)).unwrap();
            if found.pid == Pid::this().as_raw() {
                break found;
            }
            assert!(Instant::now() < end, "{found:?} is found instead of this process");
            std::thread::yield_now();
        };
        assert_eq!(found.gid, nix::unistd::getegid().as_raw());
        assert!(found.executable.unwrap().contains("memcr_worker"));
        assert_eq!(find(&accepted, uid + 1, inode, Duration::from_secs(9)), None);
        drop(client);
        let end = Instant::now() + Duration::from_secs(30);
        while find(&accepted, uid, inode, Duration::from_secs(9)).is_some() {
            assert!(Instant::now() < end, "somebody holds it still");
            std::thread::yield_now();
        }
    }

    #[test]
    fn supplementary_groups_are_read_from_the_status() {
        assert_eq!(
            groups("Gid:\t7\t7\t7\t7\nGroups:\t4 24 4294967294 \nNStgid:\t1\n"),
            [4, 24, 4_294_967_294]
        );
        assert!(groups("Groups:\t \n").is_empty() && groups("").is_empty());
    }
}
