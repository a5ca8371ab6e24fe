//! Kernel constants that no core library has (Linux UAPI headers, the same on all architectures).

/// Close on exec (asm-generic/fcntl.h).
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
/// Don't block (asm-generic/fcntl.h).
pub(crate) const O_NONBLOCK: usize = 0o4000;
/// Read and write (asm-generic/fcntl.h).
pub(crate) const O_RDWR: usize = 2;
/// Read (asm-generic/fcntl.h).
pub(crate) const O_RDONLY: usize = 0;
/// A descriptor that only says which file it is (asm-generic/fcntl.h).
pub(crate) const O_PATH: usize = 0o10_000_000;
/// Relative paths begin in the working directory (linux/fcntl.h).
pub(crate) const AT_FDCWD: usize = -100_isize as usize;
/// The descriptor itself, if there is no path (linux/fcntl.h).
pub(crate) const AT_EMPTY_PATH: usize = 1 << 12;
/// Tell the type of a file (linux/stat.h).
pub(crate) const STATX_TYPE: usize = 1;
/// Bytes of `struct statx`, and where in it the type is (linux/stat.h).
pub(crate) const STATX_LENGTH: usize = 256;
pub(crate) const STATX_MODE: usize = 28;
/// Bits of the type of a file, and what they say of a socket (linux/stat.h).
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;
/// Drop the pages (asm-generic/mman-common.h).
pub(crate) const MADV_DONTNEED: usize = 4;
/// Whether others of its user may read the process's memory (linux/prctl.h).
pub(crate) const PR_SET_DUMPABLE: usize = 4;
/// New userfaultfd from /dev/userfaultfd: `_IO(0xAA, 0)` (linux/userfaultfd.h).
pub(crate) const USERFAULTFD_IOC_NEW: usize = 0xAA00;
/// Only faults from user mode (linux/userfaultfd.h).
pub(crate) const UFFD_USER_MODE_ONLY: usize = 1;
/// No SIGPIPE (linux/socket.h).
pub(crate) const MSG_NOSIGNAL: usize = 0x4000;
/// Don't wait (linux/socket.h).
pub(crate) const MSG_DONTWAIT: usize = 0x40;
/// Received descriptors close on exec (linux/socket.h).
pub(crate) const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
/// Level of socket control messages (asm-generic/socket.h).
pub(crate) const SOL_SOCKET: i32 = 1;
/// Who is at the other end (asm-generic/socket.h).
pub(crate) const SO_PEERCRED: usize = 17;
/// Control message that carries descriptors (linux/socket.h).
pub(crate) const SCM_RIGHTS: i32 = 1;
/// UNIX sockets (linux/socket.h).
pub(crate) const AF_UNIX: usize = 1;
/// Sockets that keep packets apart (linux/net.h).
pub(crate) const SOCK_SEQPACKET: usize = 5;
/// Interrupted (asm-generic/errno-base.h).
pub(crate) const EINTR: isize = 4;
