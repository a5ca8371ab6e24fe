//! A connected stream socket, UNIX or TCP, on which nothing is waited for longer than the caller's patience.

use crate::{Error, Location};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// No patience at all would mean to wait for ever, for the kernel.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    patience: Duration,
}

impl Socket {
    /// One that is connected to a daemon.
    pub(crate) fn connect(location: &Location, patience: Duration) -> Result<Self, Error> {
        let patience = patience.max(LEAST_PATIENCE);
        let descriptor = match location {
            Location::Path(path) => connect_path(path, patience).map_err(io::Error::from),
            Location::Tcp { host, port } => connect_tcp(host, *port, patience),
        };
        let descriptor = descriptor.map_err(|cause| Error::Connect { location: location.clone(), cause })?;
        Ok(Self { descriptor, patience })
    }

    /// Sends all of it; the descriptor goes with the first bytes.
    pub(crate) fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let numbers: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let mut rights = vec![ControlMessage::ScmRights(&numbers)];
        rights.retain(|_| !numbers.is_empty());
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let mut left = bytes;
        while !left.is_empty() {
            let sent = self.patiently("send to", PollFlags::POLLOUT, || {
                sendmsg::<()>(self.descriptor.as_raw_fd(), &[IoSlice::new(left)], &rights, flags, None)
            })?;
            rights.clear();
            left = left.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes that came, at least one.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let length = self.patiently("receive from", PollFlags::POLLIN, || {
            recv(self.descriptor.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
        })?;
        if length == 0 {
            return Err(Error::Closed);
        }
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// Whether it is open and nothing waits to be received: the daemon speaks only when it is asked, or
    /// before it closes a connection.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.descriptor.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }

    /// Puts another connection in the place of this one, under the same descriptor number.
    pub(crate) fn replace(&mut self, fresh: &Self) -> Result<(), Error> {
        rustix::io::dup3(&fresh.descriptor, &mut self.descriptor, rustix::io::DupFlags::CLOEXEC)
            .map_err(|cause| Error::Transfer { operation: "reconnect to", cause: cause.into() })
    }

    /// Repeats a call that doesn't wait until it is done, for as long as there is patience; signals that
    /// the program handles don't prolong it.
    fn patiently(
        &self,
        operation: &'static str,
        until: PollFlags,
        mut call: impl FnMut() -> Result<usize, Errno>,
    ) -> Result<usize, Error> {
        let start = Instant::now();
        loop {
            match call() {
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let left = self.patience.saturating_sub(start.elapsed());
                    if left.is_zero() {
                        return Err(Error::Silent { patience: self.patience });
                    }
                    wait(self.descriptor.as_fd(), until, left)
                        .map_err(|cause| Error::Transfer { operation, cause: cause.into() })?;
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Closed),
                Err(cause) => return Err(Error::Transfer { operation, cause: cause.into() }),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until there is something to try again for, or the time is over.
fn wait(descriptor: BorrowedFd<'_>, until: PollFlags, left: Duration) -> Result<(), Errno> {
    // a poll of less than a millisecond would be none
    let limit = PollTimeout::try_from(left.max(LEAST_PATIENCE)).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(descriptor, until)], limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(cause) => Err(cause),
    }
}

/// connect() waits as long as the daemon's queue is full; that can't be polled for, but has a limit.
fn connect_path(path: &Path, patience: Duration) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = patience.as_secs().try_into().unwrap_or(i32::MAX.into());
    let microseconds = patience.subsec_micros().try_into().unwrap_or(0);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, microseconds))?;
    let (start, address) = (Instant::now(), UnixAddr::new(path)?);
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::EINTR) if start.elapsed() < patience => {}
            Err(cause) => return Err(cause),
        }
    }
}

/// Tries every address of the machine; all of it takes no longer than there is patience.
fn connect_tcp(host: &str, port: u16, patience: Duration) -> io::Result<OwnedFd> {
    let start = Instant::now();
    let mut outcome = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in addresses(host, port, patience)? {
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        outcome = TcpStream::connect_timeout(&address, left);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map(OwnedFd::from)
}

/// The addresses of a machine. Names are looked up in a thread, which nobody waits for too long.
fn addresses(host: &str, port: u16, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("memcr-look-up".into()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // nobody may wait any more
        let _ = sender.send(found);
    })?;
    receiver.recv_timeout(patience).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
