//! Descriptors that are something else than what was asked for.

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

/// One of them, and what it is good for nevertheless.
#[derive(Debug)]
pub struct Foreign {
    /// What it is.
    pub what: &'static str,
    /// It.
    pub descriptor: OwnedFd,
    /// User of the client whose socket it is.
    pub client: Option<u32>,
    /// Whether it names a process that lives.
    pub is_process: bool,
    /// Whether a worker can talk by it.
    pub is_control: bool,
    /// Whether it is a directory that everybody may write to.
    pub is_directory: bool,
}

impl Foreign {
    fn new(what: &'static str, descriptor: impl Into<OwnedFd>) -> Self {
        let descriptor = descriptor.into();
        Self { what, descriptor, client: None, is_process: false, is_control: false, is_directory: false }
    }
}

/// A pidfd.
///
/// # Panics
/// When there is no such process.
pub fn pidfd_of(pid: i32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("a pidfd")
}

/// A pidfd of a process that has ended, and was waited for.
pub fn pidfd_of_a_dead_process() -> OwnedFd {
    let mut child = Command::new("/bin/true").stdin(Stdio::piped()).spawn().expect("cannot start /bin/true");
    let pidfd = pidfd_of(i32::try_from(child.id()).expect("a pid"));
    child.wait().expect("it ends");
    pidfd
}

/// All kinds, with those of a process that nobody may touch, and the socket of a client that may nothing.
///
/// # Panics
/// When the kernel can't make one of them.
pub fn all(forbidden: i32, denied: &UnixStream) -> Vec<Foreign> {
    let mut all = sockets(denied);
    all.extend(processes(forbidden));
    all.extend(files());
    all
}

fn sockets(denied: &UnixStream) -> Vec<Foreign> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let connected = UnixStream::connect(&path).expect("it connects");
    let (accepted, _) = listener.accept().expect("it has connected");
    let closed = UnixStream::connect(&path).expect("it connects");
    let (of_closed, _) = listener.accept().expect("it has connected");
    drop(closed);
    let half = UnixStream::connect(&path).expect("it connects");
    let (half_closed, _) = listener.accept().expect("it has connected");
    half.shutdown(std::net::Shutdown::Both).expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let over_tcp = TcpStream::connect(tcp.local_addr().expect("an address")).expect("it connects");
    let packets = |is_connected: bool| {
        let flags = SockFlag::SOCK_CLOEXEC;
        if is_connected {
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair").0
        } else {
            socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket")
        }
    };
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    let denied =
        Foreign { client: peer_of(denied), ..Foreign::new("the socket of a denied client", copy(denied)) };
    vec![
        denied,
        Foreign::new("a listener", listener),
        Foreign::new("a connected stream", connected),
        Foreign::new("a stream that was accepted elsewhere", accepted),
        Foreign::new("a stream whose other end is closed", of_closed),
        Foreign::new("a stream that is shut down", half_closed),
        Foreign::new("a listener over TCP", tcp),
        Foreign::new("a stream over TCP", over_tcp),
        Foreign::new("a socket for datagrams", UnixDatagram::unbound().expect("a socket")),
        Foreign::new("a socket of packets that is not connected", packets(false)),
        Foreign { is_control: true, ..Foreign::new("a socket of packets", packets(true)) },
        Foreign::new("a netlink socket", netlink.expect("a socket")),
    ]
}

fn peer_of(socket: &UnixStream) -> Option<u32> {
    crate::procfs::peer_uid_of_socket(socket)
}

fn copy(of: &impl AsFd) -> OwnedFd {
    of.as_fd().try_clone_to_owned().expect("a copy")
}

fn processes(forbidden: i32) -> Vec<Foreign> {
    // PIDFD_THREAD, of a thread that is not the first
    let of_thread = crate::sys::pidfd_of_a_thread();
    let directory = File::open(format!("/proc/{forbidden}")).expect("root may open it");
    let memory = File::open(format!("/proc/{forbidden}/mem")).expect("root may open it");
    vec![
        Foreign { is_process: true, ..Foreign::new("a pidfd of a forbidden process", pidfd_of(forbidden)) },
        Foreign::new("a pidfd of a dead process", pidfd_of_a_dead_process()),
        Foreign::new("a pidfd of a thread", of_thread),
        Foreign::new("a directory of /proc", directory),
        Foreign::new("memory of a process", memory),
    ]
}

fn files() -> Vec<Foreign> {
    let path = |path: &str| File::options().read(true).custom_flags(libc::O_PATH).open(path).expect("a path");
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let memory = memfd_create("foreign", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let device = File::options().read(true).write(true).open("/dev/userfaultfd").expect("root may open it");
    let mask = SigSet::empty();
    vec![
        Foreign::new("the end of a pipe for reading", reader),
        Foreign::new("the end of a pipe for writing", writer),
        Foreign::new("a file", File::open("/proc/version").expect("it is there")),
        Foreign::new(
            "/dev/null",
            File::options().read(true).write(true).open("/dev/null").expect("it is there"),
        ),
        Foreign::new("a file that was not opened (O_PATH)", path("/etc/passwd")),
        Foreign {
            is_directory: true,
            ..Foreign::new("a directory that was not opened (O_PATH)", path("/tmp"))
        },
        Foreign::new("a memfd", memory),
        Foreign::new("an epoll", Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll").0),
        Foreign::new("an eventfd", EventFd::new().expect("an eventfd")),
        Foreign::new("an inotify", Inotify::init(InitFlags::IN_CLOEXEC).expect("an inotify")),
        Foreign::new("a signalfd", copy(&SignalFd::new(&mask).expect("a signalfd"))),
        Foreign::new(
            "a timerfd",
            copy(&TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).expect("a timerfd")),
        ),
        Foreign::new("/dev/userfaultfd", device),
    ]
}
