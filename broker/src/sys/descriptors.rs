//! File descriptors over UNIX sockets (SCM_RIGHTS), and leaving none behind that were inherited.
//!
//! nix's own `recvmsg` hides the descriptors of a message whose control part was cut off: they would
//! stay open for ever. Here the receiver gets all that the kernel installed, and the flag.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Most descriptors that one message can bring (the kernel's SCM_MAX_FD): none is cut off, unless this
/// process may not have that many.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Control buffer in machine words, which also aligns it: a header and the descriptors, with room for padding.
const CONTROL_WORDS: usize =
    (size_of::<libc::cmsghdr>() + MAX_DESCRIPTORS * size_of::<RawFd>()).div_ceil(8) + 2;

/// What [`receive`] got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes written to the buffer; 0 at the end of the stream.
    pub(crate) length: usize,
    /// The message was longer than the buffer.
    pub(crate) data_cut: bool,
    /// More descriptors came than there is room for; the kernel dropped the rest.
    pub(crate) control_cut: bool,
}

/// Receives one message without waiting. Descriptors are added to `descriptors`, close-on-exec.
///
/// # Errors
/// What recvmsg(2) says, `WouldBlock` among it.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control_length(size_of_val(&control));
    let length = retry(|| {
        // SAFETY: `message` points to `part`, `buffer` and `control`, which outlive the call and have the stated lengths.
        unsafe {
            libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC)
        }
    })?;
    take_descriptors(&message, descriptors);
    Ok(Received {
        length,
        data_cut: message.msg_flags & libc::MSG_TRUNC != 0,
        control_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Whether a message with descriptors waits in `socket`, into which nothing more comes. Bytes before
/// it may be thrown away; no descriptor is received, which would fill our table, or closed, which may wait.
pub(crate) fn holds_descriptors(socket: BorrowedFd<'_>) -> bool {
    let mut chunk = [0; 8 * 1024];
    loop {
        match receive_bytes(socket, &mut chunk, libc::MSG_PEEK) {
            Ok((0, _)) => return false,
            // exactly these: the next ones may come with a descriptor
            Ok((plain, false)) => {
                let bytes = chunk.get_mut(..plain).unwrap_or_default();
                if receive_bytes(socket, bytes, 0).is_err() {
                    return true;
                }
            }
            // told only once nothing is left
            Err(error) if is_empty(&error) => return false,
            Ok((_, true)) | Err(_) => return true,
        }
    }
}

fn is_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset)
}

/// Receives bytes without descriptors; whether there were some with them, which are lost unless it is a peek.
fn receive_bytes(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> io::Result<(usize, bool)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let length = retry(|| {
        // SAFETY: `message` points to `part` and `buffer`, which outlive the call and have the stated length.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT) }
    })?;
    // the kernel's word for descriptors that found no room
    Ok((length, message.msg_flags & libc::MSG_CTRUNC != 0))
}

fn take_descriptors(message: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: recvmsg filled in `message`, whose control buffer is still alive; the CMSG macros stay within its
    // msg_controllen, and each descriptor in it is new and owned by nobody else.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let first = libc::CMSG_DATA(header);
                #[allow(
                    clippy::unnecessary_cast,
                    reason = "cmsg_len has another type with other C libraries"
                )]
                let length = ((*header).cmsg_len as usize)
                    .saturating_sub(first.offset_from(header.cast()).unsigned_abs());
                for index in 0..length / size_of::<RawFd>() {
                    let number = ptr::read_unaligned(first.cast::<RawFd>().add(index));
                    descriptors.push(OwnedFd::from_raw_fd(number));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Sends bytes, and descriptors with them, without waiting and without SIGPIPE; returns how many bytes went.
///
/// # Errors
/// What sendmsg(2) says, `WouldBlock` among it; `InvalidInput` for more than [`MAX_DESCRIPTORS`].
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        put_descriptors(&mut message, descriptors);
    }
    retry(|| {
        // SAFETY: `message` points to `part`, `bytes` and `control`, which outlive the call; sendmsg only reads them.
        unsafe {
            libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        }
    })
}

fn put_descriptors(message: &mut libc::msghdr, descriptors: &[BorrowedFd<'_>]) {
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_DESCRIPTORS times four")]
    let payload = size_of_val(descriptors) as u32;
    // SAFETY: the control buffer has room for one header and MAX_DESCRIPTORS descriptors, and is aligned for a
    // header; BorrowedFd is a transparent RawFd.
    unsafe {
        message.msg_controllen = control_length(libc::CMSG_SPACE(payload) as usize);
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = control_length(libc::CMSG_LEN(payload) as usize);
        let first = libc::CMSG_DATA(header).cast::<RawFd>();
        for (index, descriptor) in descriptors.iter().enumerate() {
            ptr::write_unaligned(first.add(index), descriptor.as_raw_fd());
        }
    }
}

/// Control lengths are `size_t` with glibc and `socklen_t` with musl.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, reason = "small, and of either type")]
fn control_length<T: TryFrom<usize> + Default>(length: usize) -> T {
    T::try_from(length).unwrap_or_default()
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(length) => return Ok(length),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Closes everything above the standard three that whoever started us left open, but for the first so many, which
/// are sockets of a service manager.
///
/// To be called before anything is opened. A kernel without close_range(2) (before 5.9) leaves them; the
/// launcher still gets none of them.
pub(crate) fn close_inherited(but: usize) {
    let first = u32::try_from(but).unwrap_or(u32::MAX).saturating_add(3);
    // SAFETY: nothing in this process owns a descriptor from there on yet, so none is closed under an owner.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_the_bytes_it_was_sent_with() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        assert_eq!(send(left.as_fd(), b"here", &[far.as_fd()]).unwrap(), 4);
        let (mut buffer, mut descriptors) = ([0; 16], Vec::new());

        let received = receive(right.as_fd(), &mut buffer, &mut descriptors).unwrap();

        assert_eq!(received, Received { length: 4, data_cut: false, control_cut: false });
        near.write_all(b"through").unwrap();
        let mut copy = UnixStream::from(descriptors.remove(0));
        let mut text = [0; 7];
        copy.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"through");
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_passes_arrive() {
        let (left, right) = UnixStream::pair().unwrap();
        let first = [left.as_fd(); MAX_DESCRIPTORS];
        send(left.as_fd(), b"x", &first).unwrap();
        let (mut buffer, mut descriptors) = ([0; 16], Vec::new());
        let received = receive(right.as_fd(), &mut buffer, &mut descriptors).unwrap();
        assert_eq!((descriptors.len(), received.control_cut), (MAX_DESCRIPTORS, false));
        let too_many = [left.as_fd(); MAX_DESCRIPTORS + 1];
        let refused = send(left.as_fd(), b"x", &too_many).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn descriptors_that_wait_are_found_behind_any_bytes_and_stay_where_they_are() {
        let (left, right) = UnixStream::pair().unwrap();
        for _ in 0..100 {
            send(left.as_fd(), &[7; 500], &[]).unwrap();
        }
        send(left.as_fd(), b"x", &[left.as_fd()]).unwrap();
        send(left.as_fd(), b"y", &[]).unwrap();
        assert!(holds_descriptors(right.as_fd()) && holds_descriptors(right.as_fd()));
        let (mut buffer, mut descriptors) = ([0; 16], Vec::new());
        while descriptors.is_empty() {
            receive(right.as_fd(), &mut buffer, &mut descriptors).unwrap();
        }
        assert_eq!(descriptors.len(), 1);
        assert!(!holds_descriptors(right.as_fd()));
        drop((left, descriptors));
        assert!(!holds_descriptors(right.as_fd()));
    }

    #[test]
    fn receiving_never_waits() {
        let (_left, right) = UnixStream::pair().unwrap();
        let error = receive(right.as_fd(), &mut [0; 16], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
