//! Packets with file descriptors, and who is at the other end of a socket (unix(7), socket(7)).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, getpeername, shutdown, socket,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt, sockopt::PeerCredentials};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Room for the descriptors that one packet may carry, which are four: a header and four numbers.
const CONTROL_WORDS: usize = 4;

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
    send_with(socket, bytes, descriptors, MsgFlags::empty())
}

fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[RawFd], flags: MsgFlags) -> Result<(), Errno> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[] } else { rights.as_slice() };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
}

/// Ends all talk at a socket: who is at the other end reads what is there and then the end, and can send nothing more,
/// even if somebody else holds this end too.
pub(crate) fn hang_up(socket: &OwnedFd) {
    // fails only if it is closed already, or is no socket
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// Sends one packet unless the other end is behind with reading.
pub(crate) fn send_if_room(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    offer(socket, bytes, &[])
}

/// The same with descriptors.
///
/// # Errors
/// EAGAIN if there is no room.
pub(crate) fn offer(socket: impl AsFd, bytes: &[u8], descriptors: &[RawFd]) -> Result<(), Errno> {
    send_with(socket, bytes, descriptors, MsgFlags::MSG_DONTWAIT)
}

/// Receives one packet of at most `limit` bytes; an empty one means that the other end closed.
///
/// # Errors
/// EMSGSIZE for a packet that is longer, or came with more descriptors than ours ever do. None of these stays open.
pub(crate) fn receive(socket: impl AsFd, limit: usize, wait: bool) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = vec![0_u8; limit];
    // aligned as the headers in it are
    let mut control = [0_u64; CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a header without anything
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the buffers that the header names outlive the call, and have the lengths that it says
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(Errno::result(received)?).unwrap_or(0);
    // before anything else: whatever else is wrong, they are closed then
    let descriptors = owned_descriptors(&header);
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    bytes.truncate(length);
    Ok((bytes, descriptors))
}

/// The descriptors that a packet came with, cut off or not. (nix gives none of a list that is cut off, and they
/// would stay open.)
fn owned_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled the control buffer that the header names, which is still there
    let mut part = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !part.is_null() {
        // SAFETY: it lies within that buffer
        let (level, kind, length) =
            unsafe { ((*part).cmsg_level, (*part).cmsg_type, (*part).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: computes a length only
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: within the buffer, too
            let first: *const RawFd = unsafe { libc::CMSG_DATA(part) }.cast();
            for index in 0..length.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: the kernel has put so many numbers there, of descriptors that it has just made for us
                descriptors.push(unsafe { OwnedFd::from_raw_fd(first.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for the first one
        part = unsafe { libc::CMSG_NXTHDR(header, part) };
    }
    descriptors
}

/// Whether it is what a broker and a worker talk by: a UNIX socket that keeps packets apart, and is connected.
/// Of anything else a worker would not notice that its broker is gone.
pub(crate) fn is_control(socket: BorrowedFd<'_>) -> bool {
    getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket)
        && getpeername::<UnixAddr>(socket.as_raw_fd()).is_ok()
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
