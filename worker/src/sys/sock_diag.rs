//! Asking the kernel about one TCP socket by its addresses: sock_diag(7), include/uapi/linux/inet_diag.h.
//!
//! One question, one answer, which is there when the question has been sent. A process never shares its socket
//! with another: each would get the other's answers.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, socket,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// Length of a netlink header.
const HEADER: usize = 16;
/// Length of the header and of an inet_diag_req_v2.
const QUESTION: usize = HEADER + 56;
/// Length of an inet_diag_msg; attributes may follow.
const ANSWER: usize = 72;
/// Room for an answer with all attributes that come unasked.
const ROOM: usize = 2048;
/// Answers to older questions that are thrown away; there should be none.
const STALE: usize = 8;
/// States of TCP sockets, of net/tcp_states.h.
const TCP_TIME_WAIT: u8 = 6;
const TCP_LISTEN: u8 = 10;

/// A socket for questions.
#[derive(Debug)]
pub(crate) struct SockDiag {
    socket: OwnedFd,
    last: AtomicU32,
}

/// A TCP socket of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    /// The user who made it, in our user namespace.
    pub(crate) uid: u32,
    /// 0 if no process has it.
    pub(crate) inode: u32,
}

impl TcpSocket {
    /// Whether a process has it. Of one that was closed, or waits for its time to be over, the kernel reports
    /// user 0, which must not be taken for root.
    pub(crate) fn is_held(&self) -> bool {
        self.inode != 0 && self.state != TCP_TIME_WAIT
    }
}

impl SockDiag {
    /// A new socket, in the network namespace of this process.
    pub(crate) fn open() -> Result<Self, Errno> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { socket, last: AtomicU32::new(0) })
    }

    /// Its descriptor.
    pub(crate) fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The socket that has these addresses; `None` if there is none here.
    pub(crate) fn connection(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<TcpSocket>, Errno> {
        // where there is no such connection, the kernel answers with a socket that listens there
        let is_it = |found: &TcpSocket| same(found.local, local) && same(found.remote, remote);
        Ok(self.ask(local, remote)?.filter(is_it))
    }

    /// Whether somebody listens at this address.
    pub(crate) fn is_listened_at(&self, address: SocketAddr) -> Result<bool, Errno> {
        let nobody = match address.ip().to_canonical() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let found = self.ask(address, SocketAddr::new(nobody, 0))?;
        Ok(found.is_some_and(|found| found.state == TCP_LISTEN))
    }

    fn ask(&self, local: SocketAddr, remote: SocketAddr) -> Result<Option<TcpSocket>, Errno> {
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let question = question(number, local, remote)?;
        let kernel = [IoSlice::new(&question)];
        // without an address it goes to the kernel
        sendmsg::<()>(self.number(), &kernel, &[], MsgFlags::empty(), None)?;
        for _ in 0..STALE {
            if let Some(answer) = self.receive(number)? {
                return Ok(answer);
            }
        }
        Err(Errno::EBADMSG)
    }

    /// The answer to this question; `None` if it is one to another.
    fn receive(&self, number: u32) -> Result<Option<Option<TcpSocket>>, Errno> {
        let mut room = [0; ROOM];
        let mut vectors = [IoSliceMut::new(&mut room)];
        let received = recvmsg::<NetlinkAddr>(self.number(), &mut vectors, None, MsgFlags::MSG_DONTWAIT)?;
        let is_cut = received.flags.contains(MsgFlags::MSG_TRUNC);
        let is_kernels = received.address.is_some_and(|sender| sender.pid() == 0);
        let length = received.bytes;
        if is_cut || !is_kernels {
            return Err(Errno::EBADMSG);
        }
        match parse(room.get(..length).unwrap_or_default())? {
            (sequence, answer) if sequence == number => Ok(Some(answer?)),
            _ => Ok(None),
        }
    }
}

/// Whether two addresses mean the same: IPv4 in IPv6 is IPv4, and what else is in an IPv6 address is no part of it.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

/// A header and an inet_diag_req_v2.
fn question(number: u32, local: SocketAddr, remote: SocketAddr) -> Result<Vec<u8>, Errno> {
    let (family, local_ip, remote_ip) = match (local.ip().to_canonical(), remote.ip().to_canonical()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => (libc::AF_INET, padded(local), padded(remote)),
        (IpAddr::V6(local), IpAddr::V6(remote)) => (libc::AF_INET6, local.octets(), remote.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Err(Errno::EAFNOSUPPORT),
    };
    // link-local addresses mean nothing without it
    let interface = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    let mut bytes = Vec::with_capacity(QUESTION);
    bytes.extend(u32::try_from(QUESTION).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // no extensions, any state
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(local_ip);
    bytes.extend(remote_ip);
    bytes.extend(interface.to_ne_bytes());
    // whatever its cookie is (INET_DIAG_NOCOOKIE)
    bytes.extend([0xff; 8]);
    Ok(bytes)
}

fn padded(address: Ipv4Addr) -> [u8; 16] {
    let [a, b, c, d] = address.octets();
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The number of the question, and what the kernel says to it.
type Answer = (u32, Result<Option<TcpSocket>, Errno>);

/// Fails when it is neither a socket nor an error.
fn parse(bytes: &[u8]) -> Result<Answer, Errno> {
    let length = u32::from_ne_bytes(at(bytes, 0)?);
    let kind = u16::from_ne_bytes(at(bytes, 4)?);
    let number = u32::from_ne_bytes(at(bytes, 8)?);
    let length = usize::try_from(length).map_err(|_| Errno::EBADMSG)?;
    let body = bytes.get(HEADER..length).ok_or(Errno::EBADMSG)?;
    match i32::from(kind) {
        libc::NLMSG_ERROR => match i32::from_ne_bytes(at(body, 0)?).checked_neg().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Ok((number, Ok(None))),
            // no acknowledgement was asked for
            None | Some(Errno::UnknownErrno) => Err(Errno::EBADMSG),
            Some(cause) => Ok((number, Err(cause))),
        },
        kind if kind == i32::from(BY_FAMILY) => Ok((number, Ok(Some(tcp_socket(body)?)))),
        _ => Err(Errno::EBADMSG),
    }
}

/// Whatever an answer holds, it is read or refused; see `crate::fuzzing`.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_answer(bytes: &[u8]) {
    if let Ok((_, Ok(Some(socket)))) = parse(bytes) {
        assert!(socket.inode != 0 || !socket.is_held());
    }
}

/// An inet_diag_msg.
fn tcp_socket(body: &[u8]) -> Result<TcpSocket, Errno> {
    if body.len() < ANSWER {
        return Err(Errno::EBADMSG);
    }
    let [family, state] = at(body, 0)?;
    let address = |of_port, of_ip| -> Result<SocketAddr, Errno> {
        let ip = match i32::from(family) {
            libc::AF_INET => IpAddr::from(at::<4>(body, of_ip)?),
            libc::AF_INET6 => IpAddr::from(at::<16>(body, of_ip)?),
            _ => return Err(Errno::EBADMSG),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(at(body, of_port)?)))
    };
    Ok(TcpSocket {
        state,
        local: address(4, 8)?,
        remote: address(6, 24)?,
        uid: u32::from_ne_bytes(at(body, 64)?),
        inode: u32::from_ne_bytes(at(body, 68)?),
    })
}

/// So many bytes from there on.
fn at<const LENGTH: usize>(bytes: &[u8], start: usize) -> Result<[u8; LENGTH], Errno> {
    bytes.get(start..).and_then(|rest| rest.first_chunk()).copied().ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    fn inode(socket: &TcpStream) -> u64 {
        std::fs::File::from(socket.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino()
    }

    /// A listener, a client of it and the socket that was accepted.
    fn pair(address: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        (listener, client, accepted)
    }

    fn ends(socket: &TcpStream) -> (SocketAddr, SocketAddr) {
        (socket.local_addr().unwrap(), socket.peer_addr().unwrap())
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    fn of_family(family: i32) -> Vec<u8> {
        let mut body = vec![0; ANSWER];
        body[0] = family as u8;
        body
    }

    #[test]
    fn both_ends_of_a_connection_are_found_with_their_user_and_inode() {
        let diag = SockDiag::open().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let (_listener, client, accepted) = pair(address);
            for socket in [&client, &accepted] {
                let (local, remote) = ends(socket);
                let found = diag.connection(local, remote).unwrap().unwrap();
                assert_eq!((found.local, found.remote), (local, remote));
                assert_eq!(u64::from(found.inode), inode(socket));
                assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
                assert!(found.is_held());
            }
        }
    }

    #[test]
    fn a_client_that_wrote_its_ipv4_address_as_an_ipv6_one_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let client = TcpStream::connect((mapped, listener.local_addr().unwrap().port())).unwrap();
        let (local, remote) = ends(&listener.accept().unwrap().0);
        let found = SockDiag::open().unwrap().connection(remote, local).unwrap().unwrap();
        assert_eq!(u64::from(found.inode), inode(&client));
        assert!(found.local.is_ipv6());
    }

    #[test]
    fn a_closed_socket_is_held_by_nobody() {
        let diag = SockDiag::open().unwrap();
        let (_listener, client, accepted) = pair("127.0.0.1");
        let (local, remote) = ends(&client);
        drop(client);
        // a child of another test may have a copy for a moment
        let began = std::time::Instant::now();
        while diag.connection(local, remote).unwrap().unwrap().is_held() {
            assert!(began.elapsed().as_secs() < 30, "it is still held");
            std::thread::yield_now();
        }
        drop(accepted);
        assert!(diag.connection(local, remote).unwrap().is_none_or(|found| !found.is_held()));
    }

    #[test]
    fn a_listener_is_not_taken_for_a_connection_of_the_same_address() {
        let diag = SockDiag::open().unwrap();
        let (listener, _client, _accepted) = pair("127.0.0.1");
        let (here, elsewhere) = (listener.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(diag.connection(here, elsewhere), Ok(None));
        assert_eq!(diag.is_listened_at(here), Ok(true));
        assert_eq!(diag.is_listened_at(elsewhere), Ok(false));
    }

    #[test]
    fn an_answer_that_is_cut_or_of_another_kind_is_an_error() {
        let whole = message(BY_FAMILY, &of_family(libc::AF_INET));
        assert!(matches!(parse(&whole), Ok((7, Ok(Some(_))))));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]).err(), Some(Errno::EBADMSG), "{length} bytes");
        }
        let short = message(BY_FAMILY, &of_family(libc::AF_INET)[..ANSWER - 1]);
        let error = |number: i32| message(libc::NLMSG_ERROR as u16, &number.to_ne_bytes());
        for bad in [
            short,
            message(BY_FAMILY, &of_family(libc::AF_UNIX)),
            message(libc::NLMSG_DONE as u16, &of_family(libc::AF_INET)),
            message(libc::NLMSG_ERROR as u16, &[1, 2, 3]),
            error(0),
            error(i32::MIN),
        ] {
            assert_eq!(parse(&bad).err(), Some(Errno::EBADMSG), "{bad:?}");
        }
        assert_eq!(parse(&error(-libc::ENOENT)), Ok((7, Ok(None))));
        assert_eq!(parse(&error(-libc::EPERM)), Ok((7, Err(Errno::EPERM))));
    }

    #[test]
    fn attributes_after_an_answer_are_no_part_of_it() {
        let mut body = of_family(libc::AF_INET6);
        body[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
        let plain = parse(&message(BY_FAMILY, &body)).unwrap();
        body.extend([0xaa; 60]);
        assert_eq!(parse(&message(BY_FAMILY, &body)), Ok(plain.clone()));
        assert_eq!(plain.1.unwrap().unwrap().uid, 1000);
    }

    #[test]
    fn user_0_without_an_inode_or_in_time_wait_is_nobody() {
        let socket = |state, inode| {
            let mut body = of_family(libc::AF_INET);
            body[1] = state;
            body[68..].copy_from_slice(&u32::to_ne_bytes(inode));
            tcp_socket(&body).unwrap()
        };
        assert!(socket(1, 5).is_held());
        for nobody in [socket(1, 0), socket(TCP_TIME_WAIT, 0), socket(TCP_TIME_WAIT, 5)] {
            assert!(nobody.uid == 0 && !nobody.is_held());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_body_makes_the_parser_panic(
            kind in prop_oneof![Just(BY_FAMILY), Just(2_u16)], family in prop_oneof![Just(2_u8), Just(10), any::<u8>()],
            body in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let _ = parse(&message(kind, &[&[family][..], &body].concat()));
        }
    }
}
