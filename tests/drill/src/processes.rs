//! Other processes: to trace, read, signal, make.

use crate::orders::{fact, number};
use crate::sys::{Text, call, fork_and, room};
use crate::{Attempt, Outcome, Refused};

/// All of them. The victim is of the daemon's own user, so that no user keeps us from it.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "trace-process", run: || trace(libc::PTRACE_ATTACH, "victim") },
    Attempt { name: "seize-process", run: || trace(libc::PTRACE_SEIZE, "victim") },
    Attempt { name: "seize-launcher", run: || trace(libc::PTRACE_SEIZE, "launcher") },
    Attempt { name: "seize-other-worker", run: || trace(libc::PTRACE_SEIZE, "worker") },
    Attempt { name: "read-process", run: || read("victim") },
    Attempt { name: "read-launcher", run: || read("launcher") },
    Attempt { name: "read-other-worker", run: || read("worker") },
    Attempt { name: "write-process", run: write },
    Attempt { name: "compare-process", run: compare },
    Attempt { name: "open-process", run: || open().map(drop) },
    Attempt { name: "take-descriptor", run: take_descriptor },
    Attempt { name: "kill-process", run: || call!(SYS_kill, number("victim"), libc::SIGKILL).map(drop) },
    Attempt {
        name: "kill-thread",
        run: || call!(SYS_tgkill, number("victim"), number("victim"), libc::SIGKILL).map(drop),
    },
    Attempt { name: "kill-by-descriptor", run: kill_by_descriptor },
    Attempt { name: "queue-signal", run: queue_signal },
    Attempt { name: "signal-by-socket-owner", run: signal_by_owner },
    Attempt { name: "limit-process", run: limit_process },
    Attempt { name: "move-process", run: move_process },
    Attempt { name: "forget-memory-of-process", run: forget_memory },
    Attempt { name: "fork", run: || fork_and(libc::SIGCHLD, || {}).map(drop) },
    Attempt {
        name: "fork-into-namespace",
        run: || fork_and(libc::SIGCHLD | libc::CLONE_NEWUSER, || {}).map(drop),
    },
    Attempt { name: "fork-unseen", run: fork_unseen },
    Attempt { name: "be-traced", run: || call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0).map(drop) },
    // this process is gone if it works
    Attempt { name: "execute-descriptor", run: execute_descriptor },
    Attempt { name: "execute", run: execute },
];

fn trace(request: libc::c_uint, whom: &str) -> Outcome {
    let process = number(whom);
    call!(SYS_ptrace, request, process, 0, 0)?;
    // waited for before, since only who is stopped can be let go
    let _ = call!(SYS_ptrace, libc::PTRACE_INTERRUPT, process, 0, 0);
    let mut status = [0; 4];
    let _ = call!(SYS_wait4, process, room(&mut status), libc::__WALL, 0);
    let _ = call!(SYS_ptrace, libc::PTRACE_DETACH, process, 0, 0);
    Ok(())
}

/// Eight bytes at an address of its memory.
fn read(whom: &str) -> Outcome {
    let mut bytes = [0; 8];
    let ours = [room(&mut bytes), 8];
    let theirs = [number("address"), 8];
    match call!(SYS_process_vm_readv, number(whom), ours.as_ptr(), 1, theirs.as_ptr(), 1, 0) {
        // it may have nothing there, but would have told
        Err(Refused { number: libc::EFAULT, .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn write() -> Outcome {
    let mut bytes = *b"attacked";
    let ours = [room(&mut bytes), 8];
    let theirs = [number("address"), 8];
    call!(SYS_process_vm_writev, number("victim"), ours.as_ptr(), 1, theirs.as_ptr(), 1, 0).map(drop)
}

fn compare() -> Outcome {
    call!(SYS_kcmp, std::process::id(), number("victim"), 1, 0, 0).map(drop)
}

fn open() -> Result<u64, Refused> {
    call!(SYS_pidfd_open, number("victim"), 0)
}

/// A descriptor that names the victim: opened, or what this role happens to have.
fn take_descriptor() -> Outcome {
    let victim = open()?;
    call!(SYS_pidfd_getfd, victim, 0, 0).map(drop)
}

fn kill_by_descriptor() -> Outcome {
    let victim = open()?;
    call!(SYS_pidfd_send_signal, victim, libc::SIGKILL, 0, 0).map(drop)
}

fn queue_signal() -> Outcome {
    let mut information = [0_u32; 32];
    information[0] = libc::SIGTERM as u32;
    // SI_QUEUE
    information[2] = -1_i32 as u32;
    call!(SYS_rt_sigqueueinfo, number("victim"), libc::SIGTERM, information.as_ptr()).map(drop)
}

/// Standard error, and every socket that there is, as far as they go: the victim becomes their owner, and is sent
/// SIGKILL as soon as something comes.
fn signal_by_owner() -> Outcome {
    let mut refused = Ok(());
    for descriptor in 0..16_u64 {
        let owned = call!(SYS_fcntl, descriptor, libc::F_SETOWN, number("victim"));
        let owned = owned.and_then(|_| call!(SYS_fcntl, descriptor, 10 /* F_SETSIG */, libc::SIGKILL));
        let owned = owned.and_then(|_| call!(SYS_fcntl, descriptor, libc::F_SETFL, libc::O_ASYNC));
        match owned {
            Ok(_) => return Ok(()),
            Err(Refused { number: libc::EBADF, .. }) => {}
            Err(other) => refused = Err(other),
        }
    }
    refused
}

fn limit_process() -> Outcome {
    let limits = [0_u64; 2];
    call!(SYS_prlimit64, number("victim"), libc::RLIMIT_NOFILE, limits.as_ptr(), 0).map(drop)
}

fn move_process() -> Outcome {
    let cpus = [u64::MAX; 16];
    call!(SYS_sched_setaffinity, number("victim"), size_of_val(&cpus), cpus.as_ptr()).map(drop)
}

fn forget_memory() -> Outcome {
    let victim = open()?;
    let theirs = [number("address"), 8];
    call!(SYS_process_madvise, victim, theirs.as_ptr(), 1, libc::MADV_DONTNEED, 0).map(drop)
}

/// By the call that hides its flags.
fn fork_unseen() -> Outcome {
    let mut arguments = [0_u64; 11];
    arguments[4] = libc::SIGCHLD as u64;
    let child = call!(SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))?;
    if child == 0 {
        let _ = call!(SYS_exit_group, 0);
    }
    Ok(())
}

fn execute_descriptor() -> Outcome {
    let (name, nothing) = (Text::new("attacker"), Text::new(""));
    let file = call!(SYS_memfd_create, name.address(), 0)?;
    let none = [0_u64];
    let empty_path = libc::AT_EMPTY_PATH;
    match call!(SYS_execveat, file, nothing.address(), none.as_ptr(), none.as_ptr(), empty_path) {
        // it is no program, but it would have been executed
        Err(Refused { number: libc::ENOEXEC, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// touch(1), which leaves a trace.
fn execute() -> Outcome {
    let program = Text::new("/usr/bin/touch");
    let made = Text::new(&format!("{}/made", fact("place")));
    let arguments = [program.address(), made.address(), 0];
    call!(SYS_execve, program.address(), arguments.as_ptr(), [0_u64].as_ptr()).map(drop)
}
