//! Kernel constants that no core library has (Linux UAPI headers, the same on all architectures).

/// Close on exec (asm-generic/fcntl.h).
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
/// Don't block (asm-generic/fcntl.h).
pub(crate) const O_NONBLOCK: usize = 0o4000;
/// Read and write (asm-generic/fcntl.h).
pub(crate) const O_RDWR: usize = 2;
/// Read (asm-generic/fcntl.h).
pub(crate) const O_RDONLY: usize = 0;
/// Drop the pages (asm-generic/mman-common.h).
pub(crate) const MADV_DONTNEED: usize = 4;
/// New userfaultfd from /dev/userfaultfd: `_IO(0xAA, 0)` (linux/userfaultfd.h).
pub(crate) const USERFAULTFD_IOC_NEW: usize = 0xAA00;
/// Only faults from user mode (linux/userfaultfd.h).
pub(crate) const UFFD_USER_MODE_ONLY: usize = 1;
/// No SIGPIPE (linux/socket.h).
pub(crate) const MSG_NOSIGNAL: usize = 0x4000;
/// Received descriptors close on exec (linux/socket.h).
pub(crate) const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
/// Level of socket control messages (asm-generic/socket.h).
pub(crate) const SOL_SOCKET: i32 = 1;
/// Control message that carries descriptors (linux/socket.h).
pub(crate) const SCM_RIGHTS: i32 = 1;
/// UNIX sockets (linux/socket.h).
pub(crate) const AF_UNIX: usize = 1;
/// Sockets that keep packets apart (linux/net.h).
pub(crate) const SOCK_SEQPACKET: usize = 5;
/// Interrupted (asm-generic/errno-base.h).
pub(crate) const EINTR: isize = 4;
