//! Which sockets are clients'. Their other end is asked of the kernel, and the kernel answers for any
//! socket: only of those that were accepted at the daemon's own address is the answer a client's name.
//! A listening socket, a socketpair, or a connection to somebody else's server name whoever made them.

use crate::error::{Error, Result};
use crate::target::facts;
use crate::target::tcp_clients::{Named, TcpClients};
use memcr_protocol::launcher;
use memcr_protocol::subject::Peer;
use nix::errno::Errno;
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// Whose sockets are taken for clients, and for which targets.
pub(crate) enum Clients {
    /// Those that were accepted at this address.
    AcceptedAt(Vec<u8>),
    /// Those that were accepted over TCP.
    AcceptedOverTcp(TcpClients),
    /// This one, for this target.
    One {
        /// Device and inode of its socket.
        socket: (u64, u64),
        /// Its target, as it was when the daemon started.
        target: OwnedFd,
    },
}

impl Clients {
    /// As the set-up says, with the descriptors that came along for it.
    pub(crate) fn new(clients: launcher::Clients, descriptors: Vec<OwnedFd>) -> Result<Self> {
        match (clients, <[OwnedFd; 2]>::try_from(descriptors)) {
            (launcher::Clients::AcceptedAt(address), Err(rest)) if rest.is_empty() => {
                Ok(Self::AcceptedAt(address))
            }
            (launcher::Clients::AcceptedOverTcp(addresses), Err(rest)) if rest.is_empty() => {
                Ok(Self::AcceptedOverTcp(TcpClients::new(addresses)))
            }
            (launcher::Clients::One, Ok([socket, target])) => {
                Ok(Self::One { socket: inode(socket.as_fd())?, target })
            }
            _ => Err(Error::Protocol("the set-up came with other descriptors than it says".into())),
        }
    }

    /// The client of a socket; `None` if the kernel doesn't name it. Of one over TCP nothing is known but its
    /// user: neither now nor for a restore, when files can't be opened any more.
    ///
    /// # Errors
    /// When it is no client's socket.
    pub(crate) fn peer(&self, socket: BorrowedFd<'_>) -> Result<Option<Peer>> {
        self.peer_by(socket, facts::peer)
    }

    /// The same without its executable, for a worker that can't open files any more.
    pub(crate) fn credentials(&self, socket: BorrowedFd<'_>) -> Result<Option<Peer>> {
        self.peer_by(socket, facts::credentials)
    }

    fn peer_by(
        &self,
        socket: BorrowedFd<'_>,
        of_unix: impl FnOnce(BorrowedFd<'_>) -> Result<Option<Peer>>,
    ) -> Result<Option<Peer>> {
        let is_one = match self {
            Self::AcceptedOverTcp(clients) => return Ok(clients.name(socket)?.map(Named::peer)),
            Self::AcceptedAt(address) => was_accepted_at(socket, address),
            Self::One { socket: known, .. } => inode(socket)? == *known,
        };
        if is_one { of_unix(socket) } else { Err(Self::no_client()) }
    }

    /// Descriptors that a worker needs for naming clients once it is confined; opens them.
    pub(crate) fn keep_open(&self) -> Result<Option<RawFd>> {
        match self {
            Self::AcceptedOverTcp(clients) => clients.keep_open().map(Some),
            Self::AcceptedAt(_) | Self::One { .. } => Ok(None),
        }
    }

    /// What is said of a socket that is no client's.
    pub(super) fn no_client() -> Error {
        Error::Protocol(
            "the socket is not one of a client: not accepted at the daemon's own address, or with a name at \
             its other end"
                .into(),
        )
    }

    /// Refuses a target that is none for these clients. One that has exited is nobody's, and for others to
    /// say.
    pub(crate) fn require_target(&self, target: BorrowedFd<'_>) -> Result<()> {
        let Self::One { target: known, .. } = self else { return Ok(()) };
        let Ok(asked) = facts::pid_of(target) else { return Ok(()) };
        // the number of a process that lives on is nobody else's
        if facts::pid_of(known.as_fd()).ok() == Some(asked) {
            Ok(())
        } else {
            Err(Error::Protocol(format!("process {asked} is not the one that memcr was started for")))
        }
    }
}

/// A connected stream socket with this local address and none at its other end.
fn was_accepted_at(socket: BorrowedFd<'_>, address: &[u8]) -> bool {
    let number = socket.as_raw_fd();
    let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    let own = getsockname::<UnixAddr>(number).ok().map(|own| address_of(&own));
    let other = getpeername::<UnixAddr>(number).ok().map(|other| address_of(&other));
    is_stream
        && !address.is_empty()
        && own.as_deref() == Some(address)
        && other.is_some_and(|other| other.is_empty())
}

/// An address as bytes: nothing for a socket without a name.
fn address_of(address: &UnixAddr) -> Vec<u8> {
    if let Some(path) = address.path() {
        path.as_os_str().as_bytes().to_vec()
    } else if let Some(name) = address.as_abstract() {
        [&[0], name].concat()
    } else {
        Vec::new()
    }
}

/// By the call that the confined worker may make, too.
pub(super) fn inode(socket: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let status = socket.try_clone_to_owned().and_then(|copy| File::from(copy).metadata());
    let status = status.map_err(|error| {
        let cause = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Error::system("looking at", "the client's socket")(cause)
    })?;
    Ok((status.dev(), status.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn only_what_was_accepted_at_the_address_is_a_client() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["own", "other"].map(|name| directory.path().join(name));
        let listener = UnixListener::bind(&path).unwrap();
        let elsewhere = UnixListener::bind(&other).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let accepted = listener.accept().unwrap().0;
        let address = path.as_os_str().as_bytes().to_vec();
        let clients = Clients::AcceptedAt(address);
        assert!(clients.peer(accepted.as_fd()).is_ok());
        let abroad = UnixStream::connect(&other).unwrap();
        let _accepted_abroad = elsewhere.accept().unwrap();
        let pair = UnixStream::pair().unwrap();
        for socket in
            [listener.as_fd(), client.as_fd(), abroad.as_fd(), pair.0.as_fd(), std::io::stdin().as_fd()]
        {
            assert!(clients.peer(socket).is_err(), "{socket:?}");
        }
    }

    #[test]
    fn a_socket_of_that_name_connected_to_another_server_is_no_client() {
        use nix::sys::socket::{AddressFamily, SockFlag, bind, connect, socket};
        let directory = tempfile::tempdir().unwrap();
        let [path, server] = ["own", "server"].map(|name| directory.path().join(name));
        let _server = UnixListener::bind(&server).unwrap();
        let made = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(made.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        connect(made.as_raw_fd(), &UnixAddr::new(&server).unwrap()).unwrap();
        let clients = Clients::AcceptedAt(path.as_os_str().as_bytes().to_vec());
        assert!(clients.peer(made.as_fd()).is_err());
    }
}
