//! x86_64.

use core::arch::{asm, global_asm};

// The worker starts a thread here with rdi = address of `Start` and rsp at the top of the
// parasite's own stack, on a 16-byte boundary. `serve` returns the address of the signal frame that
// leads home; rt_sigreturn expects the stack pointer there.
global_asm!(
    ".section .text.entry, \"ax\", @progbits",
    ".globl memcr_parasite_entry",
    "memcr_parasite_entry:",
    "call {serve}",
    "mov rsp, rax",
    "mov eax, {rt_sigreturn}",
    "syscall",
    "ud2",
    serve = sym crate::serve,
    rt_sigreturn = const 15,
);

/// System call numbers (Linux UAPI, asm/unistd_64.h).
pub mod number {
    /// close(2).
    pub const CLOSE: usize = 3;
    /// ioctl(2).
    pub const IOCTL: usize = 16;
    /// madvise(2).
    pub const MADVISE: usize = 28;
    /// socket(2).
    pub const SOCKET: usize = 41;
    /// recvfrom(2).
    pub const RECVFROM: usize = 45;
    /// sendmsg(2).
    pub const SENDMSG: usize = 46;
    /// recvmsg(2).
    pub const RECVMSG: usize = 47;
    /// bind(2).
    pub const BIND: usize = 49;
    /// listen(2).
    pub const LISTEN: usize = 50;
    /// socketpair(2).
    pub const SOCKETPAIR: usize = 53;
    /// getsockopt(2).
    pub const GETSOCKOPT: usize = 55;
    /// fchmod(2).
    pub const FCHMOD: usize = 91;
    /// umask(2).
    pub const UMASK: usize = 95;
    /// prctl(2).
    pub const PRCTL: usize = 157;
    /// openat(2).
    pub const OPENAT: usize = 257;
    /// fchownat(2).
    pub const FCHOWNAT: usize = 260;
    /// unlinkat(2).
    pub const UNLINKAT: usize = 263;
    /// accept4(2).
    pub const ACCEPT4: usize = 288;
    /// userfaultfd(2).
    pub const USERFAULTFD: usize = 323;
    /// statx(2).
    pub const STATX: usize = 332;
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
    // SAFETY: the kernel's calling convention; it changes rcx, r11 and rax only
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
