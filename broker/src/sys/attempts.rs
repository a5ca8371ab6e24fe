//! Calls that are made only to see whether the kernel knows them.

use nix::errno::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Takes what a call has made, if it has, and gives it back at once.
fn made(result: libc::c_long) -> Result<(), Errno> {
    let number = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(())
}

/// A userfaultfd with these flags.
pub(crate) fn userfaultfd(flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: takes a number
    made(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | flags) })
}

/// A pidfd of this thread, as one of a thread.
pub(crate) fn thread_pidfd() -> Result<(), Errno> {
    // SAFETY: takes numbers
    made(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), libc::O_EXCL) })
}

/// A pidfd of who is at the other end of a socket.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    /// SO_PEERPIDFD (include/uapi/asm-generic/socket.h).
    const PEER_PIDFD: libc::c_int = 77;
    let (mut number, mut length): (RawFd, libc::socklen_t) = (-1, 4);
    // SAFETY: the kernel writes at most four bytes to the number
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            PEER_PIDFD,
            (&raw mut number).cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    made(number.into())
}

/// What pidfd_getfd(2) says of no pidfd.
pub(crate) fn duplicate_descriptor_of_nobody() -> Errno {
    // SAFETY: takes numbers, the first of which is no descriptor
    match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, -1, 0, 0) }) {
        Ok(_) => Errno::UnknownErrno,
        Err(error) => error,
    }
}

/// What a file says of a request whose argument is no address, and which does nothing therefore.
pub(crate) fn empty_request(file: BorrowedFd<'_>, request: libc::Ioctl) -> Errno {
    // SAFETY: the kernel can't read or write at that address
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::null_mut::<libc::c_void>()) };
    match Errno::result(result) {
        Ok(_) => Errno::UnknownErrno,
        Err(error) => error,
    }
}

/// madvise(2) of no memory.
pub(crate) fn advise_nothing(advice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no byte is concerned
    Errno::result(unsafe { libc::madvise(std::ptr::null_mut(), 0, advice) }).map(drop)
}

/// Where the rseq area of a child is, that is stopped for that and ends. Only while there is one thread.
pub(crate) fn rseq_configuration() -> Result<(), Errno> {
    /// PTRACE_GET_RSEQ_CONFIGURATION (include/uapi/linux/ptrace.h).
    const REQUEST: libc::c_uint = 0x420f;
    // SAFETY: with one thread no lock can be held by a thread that the child lacks; the child makes system calls only
    let child = Errno::result(unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: as above
        unsafe {
            // where that is forbidden nobody could tell that it has stopped
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 {
                libc::raise(libc::SIGSTOP);
            }
            libc::_exit(0);
        }
    }
    let mut configuration = [0_u64; 3];
    // SAFETY: the kernel writes a status, and at most as many bytes as it is told to the configuration
    unsafe {
        let mut status = 0;
        let stopped = libc::waitpid(child, &raw mut status, 0);
        let told = libc::ptrace(REQUEST, child, size_of_val(&configuration), configuration.as_mut_ptr());
        let told = Errno::result(told).map(drop);
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &raw mut status, 0);
        Errno::result(stopped)?;
        told
    }
}

/// Writes a byte, through a process's own memory file, where it may only read.
pub(crate) fn forced_write() -> Result<(), Errno> {
    use std::os::unix::fs::FileExt as _;
    let error_of = |error: &std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let file = std::fs::File::options().write(true).open("/proc/self/mem");
    let file = file.map_err(|error| error_of(&error))?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, at no address that anybody has
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 1, libc::PROT_READ, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let written = file.write_all_at(&[0], page as u64).map_err(|error| error_of(&error));
    // SAFETY: nobody else has this memory
    unsafe { libc::munmap(page, 1) };
    written
}
