//! Packets with file descriptors, and who is at the other end of a socket (unix(7), socket(7)).

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, recvmsg, sendmsg};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Descriptors that one packet may carry.
const MAX_DESCRIPTORS: usize = 4;

/// Supplementary groups of the process at the other end.
pub(crate) const SO_PEERGROUPS: libc::c_int = 59;
/// A pidfd of that process.
pub(crate) const SO_PEERPIDFD: libc::c_int = 77;

/// A socket that keeps packets apart, connected to this address if that takes no waiting; it never waits later
/// either.
pub(crate) fn connect(address: &UnixAddr) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), address)?;
    Ok(socket)
}

/// Sends one packet with descriptors.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[RawFd]) -> Result<(), Errno> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[] } else { rights.as_slice() };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
}

/// Sends one packet unless the other end is behind with reading.
pub(crate) fn send_if_room(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], &[], flags, None).map(drop)
}

/// Receives one packet of at most `limit` bytes; an empty one means that the other end closed.
pub(crate) fn receive(socket: impl AsFd, limit: usize, wait: bool) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = vec![0; limit];
    let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut flags = MsgFlags::MSG_CMSG_CLOEXEC;
    if !wait {
        flags |= MsgFlags::MSG_DONTWAIT;
    }
    let mut vectors = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut vectors, Some(&mut control), flags)?;
    let descriptors = owned_descriptors(&message)?;
    let (length, cut) = (message.bytes, message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
    if cut {
        return Err(Errno::EMSGSIZE);
    }
    bytes.truncate(length);
    Ok((bytes, descriptors))
}

fn owned_descriptors<S>(message: &RecvMsg<'_, '_, S>) -> Result<Vec<OwnedFd>, Errno> {
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just made them for us
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(descriptors)
}

/// Uid, gid and pid of the process that connected this socket.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<UnixCredentials, Errno> {
    getsockopt(&socket, PeerCredentials)
}

/// Supplementary groups of that process.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(|_| Errno::ERANGE)?;
        // SAFETY: the kernel writes at most `length` bytes, and the length
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(needed);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if needed > groups.len() => groups.resize(needed, 0),
            Err(error) => return Err(error),
        }
    }
}

/// A pidfd of that process (Linux 6.5).
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut number: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes one descriptor number, and the length
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut number).cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    // SAFETY: the kernel has just made it for us
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
