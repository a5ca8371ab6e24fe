//! 32-bit ARM.

use core::arch::{asm, global_asm};

// The worker starts a thread here with r0 = address of `Start` and sp at the top of the
// parasite's own stack, on a 16-byte boundary. `serve` returns the address of the signal frame that
// leads home; rt_sigreturn expects the stack pointer there.
global_asm!(
    ".section .text.entry, \"ax\", %progbits",
    ".arm",
    ".globl memcr_parasite_entry",
    "memcr_parasite_entry:",
    "bl {serve}",
    "mov sp, r0",
    "mov r7, #{rt_sigreturn}",
    "svc #0",
    "udf #0",
    serve = sym crate::serve,
    rt_sigreturn = const 173,
);

/// System call numbers (Linux UAPI, arch/arm/tools/syscall.tbl).
pub mod number {
    /// close(2).
    pub const CLOSE: usize = 6;
    /// ioctl(2).
    pub const IOCTL: usize = 54;
    /// madvise(2).
    pub const MADVISE: usize = 220;
    /// socket(2).
    pub const SOCKET: usize = 281;
    /// recvfrom(2).
    pub const RECVFROM: usize = 292;
    /// sendmsg(2).
    pub const SENDMSG: usize = 296;
    /// recvmsg(2).
    pub const RECVMSG: usize = 297;
    /// bind(2).
    pub const BIND: usize = 282;
    /// listen(2).
    pub const LISTEN: usize = 284;
    /// socketpair(2).
    pub const SOCKETPAIR: usize = 288;
    /// getsockopt(2).
    pub const GETSOCKOPT: usize = 295;
    /// fchmod(2).
    pub const FCHMOD: usize = 94;
    /// umask(2).
    pub const UMASK: usize = 60;
    /// prctl(2).
    pub const PRCTL: usize = 172;
    /// openat(2).
    pub const OPENAT: usize = 322;
    /// fchownat(2).
    pub const FCHOWNAT: usize = 325;
    /// unlinkat(2).
    pub const UNLINKAT: usize = 328;
    /// accept4(2).
    pub const ACCEPT4: usize = 366;
    /// userfaultfd(2).
    pub const USERFAULTFD: usize = 388;
    /// statx(2).
    pub const STATX: usize = 397;
}

/// Don't follow a symbolic link at the end of a path (asm/fcntl.h).
pub const O_NOFOLLOW: usize = 0o100_000;

/// One system call; a negative result is an error number.
///
/// # Safety
/// The call with these arguments must be sound.
#[inline(always)]
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel's calling convention; it changes r0 only
    unsafe {
        asm!(
            "svc #0",
            in("r7") number,
            inlateout("r0") a as isize => result,
            in("r1") b, in("r2") c, in("r3") d, in("r4") e, in("r5") f,
            options(nostack),
        );
    }
    result
}

/// Named by tables for unwinding, of which nothing is kept.
#[cfg(feature = "blob")]
#[unsafe(no_mangle)]
pub extern "C" fn __aeabi_unwind_cpp_pr0() {}
