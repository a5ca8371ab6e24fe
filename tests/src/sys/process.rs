//! States of a process in which it can't be put to sleep safely, or only with care.

use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes this process non-dumpable.
pub fn forbid_dumping() {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }, 0, "PR_SET_DUMPABLE");
}

/// Has the kernel refuse memory that is writable and executable, or becomes executable later.
///
/// # Panics
/// When the kernel can't (it can since Linux 6.3), or doesn't do so.
pub fn refuse_executable_gain() {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: no memory is passed.
    let outcome = unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, none, none, none) };
    assert_eq!(outcome, 0, "PR_SET_MDWE: {}", std::io::Error::last_os_error());
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), 1, all, flags, -1, 0) };
    assert_eq!(address, libc::MAP_FAILED, "the kernel still gives memory that is writable and executable");
}

/// Installs a seccomp filter that allows everything.
pub fn install_harmless_filter() {
    let mut allow = libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: the program of one instruction outlives the calls, which only read it.
    let outcome = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    assert_eq!(outcome, 0, "PR_SET_SECCOMP");
}

/// Has the kernel answer a system call of this process, and of the programs that it executes, as if it had none
/// of that number. Only root may do so without no_new_privs, which would void file capabilities.
pub fn take_call_away(number: libc::c_long) {
    install(number, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
}

fn install(number: libc::c_long, answer: u32) {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let number = u32::try_from(number).expect("numbers of calls are small");
    let mut filter = [
        libc::sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: answer },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program of four instructions outlives the call, which only reads it.
    let outcome =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    assert_eq!(outcome, 0, "PR_SET_SECCOMP: {}", std::io::Error::last_os_error());
}

/// What a filter answers.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// EPERM.
    Error,
    /// SIGSYS, which can be handled.
    Trap,
    /// The end of the process.
    Kill,
    /// The end of the thread.
    KillThread,
}

/// Installs a seccomp filter that answers one system call, and allows all others.
pub fn install_filter(number: libc::c_long, answer: Answer) {
    let answer = match answer {
        Answer::Error => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        Answer::Trap => libc::SECCOMP_RET_TRAP,
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Answer::KillThread => libc::SECCOMP_RET_KILL_THREAD,
    };
    // SAFETY: no memory is passed
    let outcome = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(outcome, 0, "PR_SET_NO_NEW_PRIVS");
    install(number, answer);
}

/// Lets this process read, write and end only, for the rest of its life.
pub fn be_strict() {
    // SAFETY: no memory is passed
    let outcome = unsafe { libc::prctl(libc::PR_SET_SECCOMP, 1, 0, 0, 0) };
    assert_eq!(outcome, 0, "PR_SET_SECCOMP");
}

static TRAPS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_trap(_: libc::c_int) {
    TRAPS.fetch_add(1, Ordering::SeqCst);
}

/// Handles SIGSYS by counting it.
pub fn count_traps() {
    // SAFETY: the handler does nothing that a handler may not
    let before = unsafe { libc::signal(libc::SIGSYS, count_trap as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR, "signal");
}

/// Makes a call that may be answered by a trap; how many have been counted.
pub fn traps_after(number: libc::c_long) -> u32 {
    // SAFETY: the kernel finds nothing to do in these arguments
    unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
    TRAPS.load(Ordering::SeqCst)
}

/// Starts a process that shares this one's memory and does nothing; gives its pid.
pub fn share_memory_with_a_child() -> i32 {
    start_sharing(libc::CLONE_VM)
}

/// Ends the main thread; the process lives on in its others.
pub fn end_main_thread() -> ! {
    // the system call itself: pthread_exit() would unwind through frames that don't allow it
    // SAFETY: ends this thread only, which holds nothing that another one needs.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("the thread ended");
}

/// As vfork() does: this thread waits, uninterruptibly, for a child that does nothing for long.
pub fn start_vfork_that_lasts() -> ! {
    start_sharing(libc::CLONE_VM | libc::CLONE_VFORK);
    unreachable!("the child ended");
}

fn start_sharing(flags: i32) -> i32 {
    const STACK: usize = 64 * 1024;
    let stack = Box::leak(Box::new([0_u128; STACK / 16]));
    // SAFETY: the child runs `wait_for_ever` on a stack of its own that is never freed; that
    // function calls nothing that relies on thread-local state.
    let child = unsafe {
        let top = stack.as_mut_ptr_range().end.cast::<c_void>();
        libc::clone(wait_for_ever, top, flags | libc::SIGCHLD, std::ptr::null_mut())
    };
    assert!(child > 0, "clone");
    child
}

extern "C" fn wait_for_ever(_: *mut c_void) -> i32 {
    // SAFETY: no memory is passed; SIGKILL with the parent, so that nothing is left.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// Lets children vanish by themselves when they end.
pub fn ignore_children() {
    // SAFETY: no handler of ours is installed.
    let former = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    assert_ne!(former, libc::SIG_ERR, "SIGCHLD");
}

/// Ends this process without running anything on the way, as a child made by the bare system call must.
pub fn exit_at_once() -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(0) }
}

/// A pidfd of a thread of this process that is not its first, and goes on (Linux 6.9).
///
/// # Panics
/// When the kernel can't make one.
pub fn pidfd_of_a_thread() -> OwnedFd {
    const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(nix::unistd::gettid());
        loop {
            std::thread::park();
        }
    });
    let tid = receiver.recv().expect("it has begun");
    // SAFETY: takes numbers only.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, tid.as_raw(), PIDFD_THREAD) };
    let number = i32::try_from(number).ok().filter(|number| *number >= 0);
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(number.expect("PIDFD_THREAD needs Linux 6.9")) }
}

/// A process that only waits, with numbers of one's own choice.
#[derive(Debug)]
pub struct Numbered {
    /// Its pidfd.
    pub pidfd: OwnedFd,
    pid: i32,
}

impl Numbered {
    /// A copy of this process that waits as another user, whose numbers are these: in the innermost pid namespace
    /// first. It ends with the thread that has started it.
    ///
    /// # Errors
    /// EEXIST if somebody else has one of the numbers.
    pub fn start(numbers: &[i32], uid: u32, gid: u32) -> std::io::Result<Self> {
        let mut pidfd = -1_i32;
        let how = CloneArguments {
            flags: libc::CLONE_PIDFD as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: libc::SIGCHLD as u64,
            set_tid: numbers.as_ptr() as u64,
            set_tid_size: numbers.len() as u64,
            ..CloneArguments::default()
        };
        // SAFETY: as fork(): the child makes system calls only
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of::<CloneArguments>()) };
        match i32::try_from(pid) {
            Ok(0) => wait_as(uid, gid),
            Ok(pid) if pid > 0 => {
                // SAFETY: the kernel has just made it for us
                Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, pid })
            }
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Its number here.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        // SAFETY: takes numbers only, of a child that nobody else waits for
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn wait_as(uid: u32, gid: u32) -> ! {
    // SAFETY: no memory is passed; the calls themselves, since the library's concern all threads of the process
    // that this was copied from
    unsafe {
        libc::syscall(libc::SYS_setresgid, gid, gid, gid);
        libc::syscall(libc::SYS_setresuid, uid, uid, uid);
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    }
    loop {
        // SAFETY: takes nothing
        unsafe { libc::pause() };
    }
}

/// `struct clone_args` (include/uapi/linux/sched.h), which the crate `libc` does not have everywhere.
#[derive(Default)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
