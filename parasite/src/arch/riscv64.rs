//! 64-bit RISC-V.

use core::arch::{asm, global_asm};

// The worker starts a thread here with a0 = address of `Start` and sp at the top of the
// parasite's own stack, on a 16-byte boundary. `serve` returns the address of the signal frame that
// leads home; rt_sigreturn expects the stack pointer there.
global_asm!(
    ".section .text.entry, \"ax\", @progbits",
    ".globl memcr_parasite_entry",
    "memcr_parasite_entry:",
    "call {serve}",
    "mv sp, a0",
    "li a7, {rt_sigreturn}",
    "ecall",
    "ebreak",
    serve = sym crate::serve,
    rt_sigreturn = const 139,
);

/// System call numbers (Linux UAPI, asm-generic/unistd.h).
pub mod number {
    /// close(2).
    pub const CLOSE: usize = 57;
    /// ioctl(2).
    pub const IOCTL: usize = 29;
    /// madvise(2).
    pub const MADVISE: usize = 233;
    /// socket(2).
    pub const SOCKET: usize = 198;
    /// recvfrom(2).
    pub const RECVFROM: usize = 207;
    /// sendmsg(2).
    pub const SENDMSG: usize = 211;
    /// recvmsg(2).
    pub const RECVMSG: usize = 212;
    /// bind(2).
    pub const BIND: usize = 200;
    /// listen(2).
    pub const LISTEN: usize = 201;
    /// socketpair(2).
    pub const SOCKETPAIR: usize = 199;
    /// getsockopt(2).
    pub const GETSOCKOPT: usize = 209;
    /// fchmod(2).
    pub const FCHMOD: usize = 52;
    /// umask(2).
    pub const UMASK: usize = 166;
    /// prctl(2).
    pub const PRCTL: usize = 167;
    /// openat(2).
    pub const OPENAT: usize = 56;
    /// fchownat(2).
    pub const FCHOWNAT: usize = 54;
    /// unlinkat(2).
    pub const UNLINKAT: usize = 35;
    /// accept4(2).
    pub const ACCEPT4: usize = 242;
    /// userfaultfd(2).
    pub const USERFAULTFD: usize = 282;
    /// statx(2).
    pub const STATX: usize = 291;
}

/// Don't follow a symbolic link at the end of a path (asm-generic/fcntl.h).
pub const O_NOFOLLOW: usize = 0o400_000;

/// One system call; a negative result is an error number.
///
/// # Safety
/// The call with these arguments must be sound.
#[inline(always)]
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel's calling convention; it changes a0 and vector registers, which are not used here, only
    unsafe {
        asm!(
            "ecall",
            in("a7") number,
            inlateout("a0") a as isize => result,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f,
            options(nostack),
        );
    }
    result
}
