//! What a process does that wants to be a trap for whoever puts it to sleep.

use crate::sys::Region;
use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Stacks of helpers: one of them is in use, and those of helpers that are just ending.
const STACKS: usize = 1024;
const STACK: usize = 16 * 1024;

/// A process that shares the memory of this one, makes another such process and ends, again and again, as long as
/// this one lives. How often is counted.
///
/// # Panics
/// When it can't be started.
pub fn hop_for_ever() -> &'static AtomicU32 {
    super::ignore_children();
    let hops = Box::leak(Box::new(Hops {
        count: AtomicU32::new(0),
        process: std::process::id(),
        stacks: [0; STACKS],
    }));
    for stack in &mut hops.stacks {
        *stack = Box::leak(vec![0_u8; STACK].into_boxed_slice()).as_ptr_range().end as usize & !15;
    }
    assert!(hop(hops, libc::SIGCHLD) > 0, "clone: {}", std::io::Error::last_os_error());
    &hops.count
}

struct Hops {
    count: AtomicU32,
    process: u32,
    stacks: [usize; STACKS],
}

fn hop(hops: &Hops, flags: i32) -> i32 {
    let number = hops.count.fetch_add(1, Ordering::Relaxed) as usize;
    let top = hops.stacks[number % STACKS] as *mut c_void;
    let argument = std::ptr::from_ref(hops).cast_mut().cast();
    // SAFETY: the child runs on a stack that nobody else uses by now, and calls nothing that relies on
    // thread-local state but the error number, which nobody here looks at meanwhile
    unsafe { libc::clone(hopping, top, libc::CLONE_VM | flags, argument) }
}

extern "C" fn hopping(argument: *mut c_void) -> i32 {
    // SAFETY: it is what `hop` has passed, which is never freed
    let hops = unsafe { &*argument.cast::<Hops>() };
    // SAFETY: no memory is passed
    let parent = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::getppid()
    };
    // all of them are children of the process itself
    if parent.unsigned_abs() == hops.process {
        hop(hops, libc::CLONE_PARENT);
    }
    super::exit_at_once()
}

/// Names anonymous memory; whether the kernel can.
pub fn name_memory(region: &Region, name: &CStr) -> bool {
    const PR_SET_VMA: libc::c_int = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: libc::c_ulong = 0;
    // SAFETY: the name outlives the call, which only reads it
    let outcome = unsafe {
        libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, region.address(), region.length(), name.as_ptr())
    };
    outcome == 0
}

/// A thread that asks its supervisor whether it may make a call, and another one that has taken the question and
/// never answers: the first can be ended then, and nothing else.
///
/// # Panics
/// When the kernel can't do it (Linux 5.19).
pub fn wait_for_a_notification_that_is_never_answered() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(install_notifying_filter()).expect("somebody waits for it");
        // SAFETY: takes numbers only
        unsafe { libc::syscall(libc::SYS_getpriority, 0, 0) };
        unreachable!("nobody answers");
    });
    let listener = receiver.recv().expect("there is a filter");
    // SECCOMP_IOCTL_NOTIF_RECV of struct seccomp_notif, which has 80 bytes
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    let mut question = [0_u64; 10];
    // SAFETY: the kernel writes as many bytes as there are
    let outcome = unsafe { libc::ioctl(listener, RECEIVE, question.as_mut_ptr()) };
    assert_eq!(outcome, 0, "SECCOMP_IOCTL_NOTIF_RECV: {}", std::io::Error::last_os_error());
}

fn install_notifying_filter() -> i32 {
    const NEW_LISTENER: libc::c_ulong = 1 << 3;
    const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
    const USER_NOTIF: u32 = 0x7fc0_0000;
    let number = libc::SYS_getpriority as u32;
    let mut filter = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: number },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: USER_NOTIF },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    let flags = NEW_LISTENER | WAIT_KILLABLE_RECV;
    // SAFETY: the program of four instructions outlives the call, which only reads it
    let listener = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    assert!(listener >= 0, "SECCOMP_FILTER_FLAG_NEW_LISTENER: {}", std::io::Error::last_os_error());
    listener as i32
}

/// A process that shares the table of descriptors, and nothing else, with this one, which has one thread: it does
/// `act` to every socket of packets that comes up there, until this one ends. How often is counted.
///
/// # Panics
/// When it can't be started.
pub fn meddle_with_sockets(act: impl Fn(i32) -> bool) -> &'static AtomicU32 {
    let region: &'static Region = Box::leak(Box::new(Region::shared(64)));
    let count = region.counter(0);
    let parent = std::process::id();
    // SAFETY: as fork(), of a process with one thread
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    assert!(child >= 0, "clone: {}", std::io::Error::last_os_error());
    if child > 0 {
        return count;
    }
    // SAFETY: no memory is passed
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: takes nothing
    while unsafe { libc::getppid() }.unsigned_abs() == parent {
        for number in 3..24 {
            if is_socket_of_packets(number) && act(number) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    super::exit_at_once()
}

/// Puts a copy of a descriptor in the place of another one; whether that worked.
pub fn replace_descriptor(by: &impl AsFd, number: i32) -> bool {
    copy_descriptor(by.as_fd().as_raw_fd(), number)
}

/// Inode of a descriptor that may be closed any moment; 0 then.
pub fn inode_of(number: i32) -> u64 {
    let mut status = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes to a struct stat, all bytes of which are zero before
    unsafe {
        libc::fstat(number, status.as_mut_ptr());
        status.assume_init().st_ino as u64
    }
}

/// The same for one that may be closed any moment.
pub fn copy_descriptor(from: i32, to: i32) -> bool {
    // SAFETY: takes numbers only; nobody here relies on what the other one was
    unsafe { libc::dup2(from, to) == to }
}

fn is_socket_of_packets(number: i32) -> bool {
    let (mut kind, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the kernel writes one number, and the length
    let outcome = unsafe {
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length)
    };
    outcome == 0 && kind == libc::SOCK_SEQPACKET
}
