//! Clients that come over TCP. The kernel tells by sock_diag(7) which user made the socket at the other end, as
//! long as that is in this network namespace (kernel fact 11).
//!
//! The broker is believed nothing: a socket counts if it was accepted at one of the daemon's own addresses, and
//! is the one that the kernel knows by these addresses here. One of another network namespace has another inode.

use crate::error::{Error, Result};
use crate::sys::sock_diag::SockDiag;
use crate::target::clients::{Clients, inode};
use memcr_protocol::subject::Peer;
use nix::errno::Errno;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::geteuid;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::sync::OnceLock;

/// The addresses at which clients are accepted.
pub(crate) struct TcpClients {
    addresses: Vec<SocketAddr>,
    /// In a worker: the socket for questions that stays once it can open no other.
    kept: OnceLock<SockDiag>,
}

/// Who is at the other end of a client's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Its socket is this user's and has this inode.
    User { uid: u32, inode: u32 },
    /// It comes from elsewhere, and nobody can say who it is.
    Anonymous,
}

impl Named {
    /// The same as decisions are made from it.
    pub(crate) fn peer(self) -> Peer {
        match self {
            Self::User { uid, .. } => Peer::by_socket(uid),
            Self::Anonymous => Peer::anonymous(),
        }
    }
}

impl TcpClients {
    /// Those that are accepted at these addresses.
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, kept: OnceLock::new() }
    }

    /// Opens the socket for questions that this process keeps while it is confined, if it has none yet; its
    /// descriptor. Not to be called by the launcher, whose workers must not share it.
    pub(crate) fn keep_open(&self) -> Result<RawFd> {
        match self.kept.get() {
            Some(kept) => Ok(kept.number()),
            None => {
                let opened = open()?;
                Ok(self.kept.get_or_init(|| opened).number())
            }
        }
    }

    /// The client of a socket; `None` if nobody can name it, and it should have a name.
    ///
    /// # Errors
    /// When it is no client's socket, or the kernel doesn't answer.
    pub(crate) fn name(&self, socket: BorrowedFd<'_>) -> Result<Option<Named>> {
        match self.kept.get() {
            Some(kept) => self.name_by(kept, socket),
            None => self.name_by(&open()?, socket),
        }
    }

    fn name_by(&self, diag: &SockDiag, socket: BorrowedFd<'_>) -> Result<Option<Named>> {
        let failed = |cause| Error::system("asking the kernel about", "the client's socket")(cause);
        let (own, other) = self.ends(socket)?;
        let ours = diag.connection(own, other).map_err(failed)?;
        if !ours.is_some_and(|ours| is_same_inode(socket, ours.inode)) {
            return Err(Clients::no_client());
        }
        Ok(match diag.connection(other, own).map_err(failed)? {
            Some(theirs) if theirs.is_held() => {
                // a server: ours was not accepted but connected to it, from the daemon's address
                if diag.is_listened_at(other).map_err(failed)? {
                    return Err(Clients::no_client());
                }
                Some(Named::User { uid: theirs.uid, inode: theirs.inode })
            }
            // closed meanwhile: the kernel says user 0 then
            Some(_) => None,
            None if own.ip().to_canonical().is_loopback() => None,
            None => Some(Named::Anonymous),
        })
    }

    /// Own and other address of a connected stream socket, if its own is one of ours.
    fn ends(&self, socket: BorrowedFd<'_>) -> Result<(SocketAddr, SocketAddr)> {
        let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
        // fails for a socket of another family, as both questions do
        let stream = socket.try_clone_to_owned().map(TcpStream::from);
        let ends = stream.and_then(|stream| Ok((stream.local_addr()?, stream.peer_addr()?)));
        match ends {
            Ok((own, other)) if is_stream && self.addresses.iter().any(|ours| is_at(own, *ours)) => {
                Ok((own, other))
            }
            Ok(_) | Err(_) => Err(Clients::no_client()),
        }
    }
}

fn open() -> Result<SockDiag> {
    SockDiag::open().map_err(Error::system("opening", "a socket for sock_diag"))
}

fn is_same_inode(socket: BorrowedFd<'_>, number: u32) -> bool {
    number != 0 && inode(socket).is_ok_and(|(_, inode)| inode == u64::from(number))
}

/// Whether a socket with this address was accepted at that one; 0.0.0.0 and :: stand for any of their family.
fn is_at(own: SocketAddr, listening: SocketAddr) -> bool {
    let (ip, of_listener) = (own.ip().to_canonical(), listening.ip().to_canonical());
    let is_any = of_listener.is_unspecified() && ip.is_ipv4() == of_listener.is_ipv4();
    own.port() == listening.port() && (ip == of_listener || is_any)
}

/// Shows on a connection of our own that the kernel can name clients, before there are any.
///
/// # Errors
/// Why it can't.
pub(crate) fn prove() -> Result<()> {
    let failed = |cause: &dyn std::fmt::Display| {
        Error::Unsupported(format!("clients can't be named over TCP on this kernel (inet_diag): {cause}"))
    };
    let connected = || -> std::io::Result<(SocketAddr, TcpStream, TcpStream)> {
        let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0))?;
        let address = listener.local_addr()?;
        let client = TcpStream::connect(address)?;
        Ok((address, client, listener.accept()?.0))
    };
    let (address, _client, accepted) = connected().map_err(|error| failed(&error))?;
    let named = TcpClients::new(vec![address]).name(accepted.as_fd()).map_err(|error| failed(&error))?;
    match named {
        Some(Named::User { uid, .. }) if uid == geteuid().as_raw() => Ok(()),
        Some(Named::User { .. } | Named::Anonymous) | None => Err(failed(&Errno::ENOENT.desc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockaddrIn, bind, connect, setsockopt, socket};
    use std::os::fd::AsRawFd as _;

    /// Clients that are accepted here, and the listener.
    fn listening(address: &str) -> (TcpClients, TcpListener) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        (TcpClients::new(vec![listener.local_addr().unwrap()]), listener)
    }

    fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn is_me(named: Option<Named>) -> bool {
        matches!(named, Some(Named::User { uid, .. }) if uid == geteuid().as_raw())
    }

    #[test]
    fn a_client_that_was_accepted_is_named_by_its_user_before_and_after_a_socket_is_kept() {
        for address in ["127.0.0.1", "::1"] {
            let (clients, listener) = listening(address);
            let (_client, accepted) = connected(&listener);
            assert!(is_me(clients.name(accepted.as_fd()).unwrap()));
            let number = clients.keep_open().unwrap();
            assert_eq!(clients.keep_open().unwrap(), number);
            assert!(is_me(clients.name(accepted.as_fd()).unwrap()));
        }
    }

    #[test]
    fn a_client_that_has_closed_its_socket_is_nobody() {
        let (clients, listener) = listening("127.0.0.1");
        let (client, accepted) = connected(&listener);
        drop(client);
        // a child of another test may have a copy for a moment
        let began = std::time::Instant::now();
        while clients.name(accepted.as_fd()).unwrap().is_some() {
            assert!(began.elapsed().as_secs() < 30, "it is still somebody");
            std::thread::yield_now();
        }
        // gone altogether: then nothing is left on our side either
        let (client, accepted) = connected(&listener);
        setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(client);
        assert!(clients.name(accepted.as_fd()).is_err());
    }

    #[test]
    fn what_was_not_accepted_at_the_address_is_no_client() {
        let (clients, listener) = listening("127.0.0.1");
        let (elsewhere, other_port) = listening("127.0.0.1");
        let (client, accepted) = connected(&listener);
        let (_client, abroad) = connected(&other_port);
        assert!(
            is_me(elsewhere.name(abroad.as_fd()).unwrap()) && is_me(clients.name(accepted.as_fd()).unwrap())
        );
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::io::stdin();
        for socket in [client.as_fd(), abroad.as_fd(), listener.as_fd(), pair.0.as_fd(), file.as_fd()] {
            assert!(clients.name(socket).is_err(), "{socket:?}");
        }
        assert!(elsewhere.name(accepted.as_fd()).is_err());
    }

    #[test]
    fn a_socket_with_the_address_that_was_connected_to_another_server_is_no_client() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let made = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        connect(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        let _accepted = server.accept().unwrap();
        let made = TcpStream::from(made);
        let clients = TcpClients::new(vec![made.local_addr().unwrap()]);
        assert!(clients.name(made.as_fd()).is_err());
    }

    #[test]
    fn a_listener_for_any_address_means_those_of_its_family_and_port() {
        let at = |own: &str, listening: &str| is_at(own.parse().unwrap(), listening.parse().unwrap());
        for (own, listening, is_there) in [
            ("127.0.0.1:9", "127.0.0.1:9", true),
            ("127.0.0.1:9", "127.0.0.1:8", false),
            ("127.0.0.2:9", "127.0.0.1:9", false),
            ("10.1.2.3:9", "0.0.0.0:9", true),
            ("[::ffff:10.1.2.3]:9", "0.0.0.0:9", true),
            ("[fd00::1]:9", "0.0.0.0:9", false),
            ("[fd00::1]:9", "[::]:9", true),
            ("10.1.2.3:9", "[::]:9", false),
            ("[::ffff:127.0.0.1]:9", "127.0.0.1:9", true),
        ] {
            assert_eq!(at(own, listening), is_there, "{own} {listening}");
        }
    }

    #[test]
    fn this_kernel_can_name_clients() {
        prove().unwrap();
    }
}
