//! Packets with file descriptors, without a library.

use crate::arch::{number, system_call};
use crate::kernel::{
    AF_UNIX, EINTR, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, O_CLOEXEC, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET,
};
use core::mem::offset_of;

/// Descriptors that one packet may carry.
pub(crate) const MAX_DESCRIPTORS: usize = 2;

/// `struct iovec`.
#[repr(C)]
struct Vector {
    base: usize,
    length: usize,
}

/// `struct msghdr`.
#[repr(C)]
struct Header {
    name: usize,
    name_length: u32,
    vectors: usize,
    vector_count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

/// `struct cmsghdr` with room for the descriptors.
#[repr(C)]
struct Control<const COUNT: usize> {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; COUNT],
}

/// Makes a pair of connected sockets; negative if that fails.
///
/// # Safety
/// `pair` must point to two writable numbers that nobody else uses.
pub(crate) unsafe fn pair(pair: *mut i32) -> isize {
    let kind = SOCK_SEQPACKET | O_CLOEXEC;
    // SAFETY: the kernel writes two numbers
    unsafe { system_call(number::SOCKETPAIR, [AF_UNIX, kind, 0, pair as usize, 0, 0]) }
}

/// Receives one packet into `buffer`: its length (0: the other end closed) and its descriptors, -1
/// where there is none.
///
/// # Safety
/// `buffer` must point to `length` writable bytes that nobody else uses.
pub(crate) unsafe fn receive(socket: i32, buffer: *mut u8, length: usize) -> (isize, [i32; MAX_DESCRIPTORS]) {
    let mut vector = Vector { base: buffer as usize, length };
    let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; MAX_DESCRIPTORS] };
    let mut header = header(&mut vector, &raw mut control as usize, size_of_val(&control));
    let message = &raw mut header as usize;
    let received = loop {
        // SAFETY: the header and all it points to live on this stack or are the caller's
        let result =
            unsafe { system_call(number::RECVMSG, [socket as usize, message, MSG_CMSG_CLOEXEC, 0, 0, 0]) };
        if result != -EINTR {
            break result;
        }
    };
    if control.level == SOL_SOCKET && control.kind == SCM_RIGHTS {
        (received, control.descriptors)
    } else {
        (received, [-1; MAX_DESCRIPTORS])
    }
}

/// Sends one packet; nobody is told if that fails, since then nobody listens.
pub(crate) fn send<T>(socket: i32, message: &T) {
    let mut vector = Vector { base: core::ptr::from_ref(message) as usize, length: size_of::<T>() };
    send_message(socket, &mut header(&mut vector, 0, 0));
}

/// Sends one packet with descriptors; negative if that fails.
pub(crate) fn send_with<T, const COUNT: usize>(socket: i32, message: &T, descriptors: [i32; COUNT]) -> isize {
    let mut vector = Vector { base: core::ptr::from_ref(message) as usize, length: size_of::<T>() };
    let length = offset_of!(Control<COUNT>, descriptors).wrapping_add(size_of_val(&descriptors));
    let mut control = Control { length, level: SOL_SOCKET, kind: SCM_RIGHTS, descriptors };
    let size = size_of_val(&control);
    send_message(socket, &mut header(&mut vector, &raw mut control as usize, size))
}

fn header(vector: &mut Vector, control: usize, control_length: usize) -> Header {
    let vectors = core::ptr::from_mut(vector) as usize;
    Header { name: 0, name_length: 0, vectors, vector_count: 1, control, control_length, flags: 0 }
}

fn send_message(socket: i32, header: &mut Header) -> isize {
    let message = core::ptr::from_mut(header) as usize;
    // SAFETY: the kernel only reads the header and what it points to, which the callers keep
    unsafe { system_call(number::SENDMSG, [socket as usize, message, MSG_NOSIGNAL, 0, 0, 0]) }
}
