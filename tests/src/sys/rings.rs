//! Memory that the kernel writes to on its own: buffers registered with io_uring, rings of asynchronous IO.

use crate::sys::Region;
use std::os::fd::{FromRawFd, OwnedFd};

/// Makes an io_uring and registers `buffer` with it, if there is one.
///
/// # Panics
/// When the kernel has no io_uring, or doesn't let this user have one.
pub fn set_up_ring(buffer: Option<&Region>) -> OwnedFd {
    // struct io_uring_params, all zero but for what the kernel writes there
    let mut parameters = [0_u32; 30];
    // SAFETY: the kernel reads and writes one struct io_uring_params of 120 bytes, which is ours.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    let error = std::io::Error::last_os_error();
    assert!(ring >= 0, "this needs io_uring (kernel.io_uring_disabled=0): {error}");
    // SAFETY: the call has just made it, and nobody else has it.
    let ring = unsafe { OwnedFd::from_raw_fd(i32::try_from(ring).expect("a descriptor")) };
    if let Some(buffer) = buffer {
        register(&ring, buffer);
    }
    ring
}

fn register(ring: &OwnedFd, buffer: &Region) {
    const REGISTER_BUFFERS: u32 = 0;
    let number = std::os::fd::AsRawFd::as_raw_fd(ring);
    let vector = libc::iovec { iov_base: buffer.address() as *mut libc::c_void, iov_len: buffer.length() };
    // SAFETY: reads one iovec; the mapping that it names lives as long as this process.
    let outcome = unsafe {
        libc::syscall(libc::SYS_io_uring_register, number, REGISTER_BUFFERS, &raw const vector, 1_u32)
    };
    assert_eq!(outcome, 0, "IORING_REGISTER_BUFFERS: {}", std::io::Error::last_os_error());
}

/// Makes a ring of asynchronous IO, which stays until the process ends.
pub fn set_up_asynchronous_io() {
    let mut context: libc::c_ulong = 0;
    // SAFETY: the kernel writes one word, which is ours.
    let outcome = unsafe { libc::syscall(libc::SYS_io_setup, 8, &raw mut context) };
    assert_eq!(outcome, 0, "io_setup: {}", std::io::Error::last_os_error());
}
