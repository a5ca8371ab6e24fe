//! Starting the launcher: a fork whose child makes only system calls until it execs.
//!
//! All memory that the child needs is prepared before; a failing step is told through a pipe that
//! closes by itself when the exec succeeds.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Pid, Uid, pipe2};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use thiserror::Error;

/// Number of the job socket in the launcher.
const JOB: RawFd = 3;
/// Number of the pipe that tells of a failing step; close-on-exec.
const REPORT: RawFd = 4;
/// Sources are moved here first, so that putting one in its place can't overwrite another.
const ABOVE_ALL: RawFd = 10;

/// What the child is to become.
pub(crate) struct Plan<'a> {
    /// Path of the program.
    pub(crate) program: &'a CStr,
    /// Its argument 0, the only one.
    pub(crate) name: &'a CStr,
    /// Becomes its standard input and output.
    pub(crate) null: OwnedFd,
    /// Becomes its descriptor 3.
    pub(crate) job: OwnedFd,
    /// The user to become; `None` stays as it is.
    pub(crate) identity: Option<(Uid, Gid)>,
    /// Its only supplementary group, if it becomes another user.
    pub(crate) group: Option<Gid>,
    /// Capabilities to keep over the exec, as a mask; must be permitted to us.
    pub(crate) keep: u64,
    /// CAP_SETPCAP as a mask if it is permitted to us, else 0.
    pub(crate) set_capabilities: u64,
    /// Highest capability of this kernel.
    pub(crate) last_capability: u8,
}

/// Why the launcher could not be started.
#[derive(Debug, Error)]
pub(crate) enum SpawnError {
    /// The parent could not prepare it.
    #[error("{step}: {cause}")]
    Parent {
        /// What failed.
        step: &'static str,
        /// Why.
        cause: Errno,
    },
    /// The child failed before it became the launcher.
    #[error("{step}: {cause}")]
    Child {
        /// What failed.
        step: &'static str,
        /// Why.
        cause: Errno,
    },
}

/// The child's steps, so that a failing one can be named by a number.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Step {
    Session,
    Signals,
    Descriptors,
    Groups,
    KeepCapabilities,
    User,
    Capabilities,
    Bounding,
    Ambient,
    NoNewPrivileges,
    Exec,
}

impl Step {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Session, "start a session of its own"),
        (Self::Signals, "reset its signals"),
        (Self::Descriptors, "put its descriptors in place"),
        (Self::Groups, "set the supplementary groups"),
        (Self::KeepCapabilities, "keep capabilities over the change of user"),
        (Self::User, "change to the user of the daemon"),
        (Self::Capabilities, "reduce the capabilities to CAP_SYS_PTRACE"),
        (Self::Bounding, "empty the capability bounding set"),
        (Self::Ambient, "hand CAP_SYS_PTRACE over the exec"),
        (Self::NoNewPrivileges, "set no_new_privs"),
        (Self::Exec, "execute the program"),
    ];
}

/// Forks and executes. Call it while this process has one thread only.
///
/// # Errors
/// [`SpawnError`], when the child is known not to run.
pub(crate) fn spawn(plan: Plan<'_>) -> Result<Pid, SpawnError> {
    let (report, report_child) = pipe2(OFlag::O_CLOEXEC).map_err(|cause| parent("make a pipe", cause))?;
    let move_up = |descriptor: OwnedFd| -> Result<OwnedFd, SpawnError> {
        let number = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_ALL))
            .map_err(|cause| parent("duplicate a descriptor", cause))?;
        // SAFETY: fcntl just made this descriptor for us; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let sources =
        Sources { null: move_up(plan.null)?, job: move_up(plan.job)?, report: move_up(report_child)? };
    let arguments = [plan.name.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    let child = Child {
        program: plan.program,
        arguments: &arguments,
        environment: &environment,
        null: sources.null.as_fd().as_raw_fd(),
        job: sources.job.as_fd().as_raw_fd(),
        report: sources.report.as_fd().as_raw_fd(),
        identity: plan.identity.map(|(uid, gid)| (uid.as_raw(), gid.as_raw())),
        group: plan.group.map(Gid::as_raw),
        keep: plan.keep,
        set_capabilities: plan.set_capabilities,
        last_capability: plan.last_capability,
    };
    // SAFETY: this process has one thread, and the child runs only `Child::become_launcher`, which makes system calls
    // on memory prepared above and never returns.
    let pid = match unsafe { libc::fork() } {
        0 => child.become_launcher(),
        -1 => return Err(parent("fork", Errno::last())),
        pid => Pid::from_raw(pid),
    };
    drop(sources);
    match read_report(report) {
        None => Ok(pid),
        Some((step, cause)) => {
            let _ = nix::sys::wait::waitpid(pid, None);
            Err(SpawnError::Child { step, cause })
        }
    }
}

struct Sources {
    null: OwnedFd,
    job: OwnedFd,
    report: OwnedFd,
}

fn parent(step: &'static str, cause: Errno) -> SpawnError {
    SpawnError::Parent { step, cause }
}

/// `None` when the pipe closed without a word: the exec succeeded.
fn read_report(pipe: OwnedFd) -> Option<(&'static str, Errno)> {
    let mut words = Vec::with_capacity(5);
    std::fs::File::from(pipe).take(5).read_to_end(&mut words).ok()?;
    let (step, cause) = words.split_first()?;
    let name = Step::ALL.iter().find(|(known, _)| *known as u8 == *step).map_or("start", |(_, name)| name);
    let cause = i32::from_ne_bytes(cause.try_into().ok()?);
    Some((name, Errno::from_raw(cause)))
}

/// Everything the child needs, in memory that exists before the fork.
struct Child<'a> {
    program: &'a CStr,
    arguments: &'a [*const libc::c_char; 2],
    environment: &'a [*const libc::c_char; 1],
    null: RawFd,
    job: RawFd,
    report: RawFd,
    identity: Option<(libc::uid_t, libc::gid_t)>,
    group: Option<libc::gid_t>,
    keep: u64,
    set_capabilities: u64,
    last_capability: u8,
}

impl Child<'_> {
    /// The whole life of the child before it is the launcher.
    fn become_launcher(&self) -> ! {
        let Err((step, cause)) = self.steps();
        let mut words = [step as u8, 0, 0, 0, 0];
        for (word, byte) in words.iter_mut().skip(1).zip((cause as i32).to_ne_bytes()) {
            *word = byte;
        }
        // SAFETY: writes from an array of that length, to REPORT if it is in place already, else to its source; then
        // leaves without running anything of the parent's.
        unsafe {
            let pipe = if matches!(step, Step::Session | Step::Signals | Step::Descriptors) {
                self.report
            } else {
                REPORT
            };
            libc::write(pipe, words.as_ptr().cast(), words.len());
            libc::_exit(127)
        }
    }

    /// One line a step, in the only order that works: descriptors while all are known, groups and user
    /// while root's rights are there, capabilities last.
    fn steps(&self) -> Result<std::convert::Infallible, (Step, Errno)> {
        // SAFETY: every call takes integers, or pointers to memory that lives in `self` or in this frame. All are plain
        // system calls without locks or allocation.
        unsafe {
            // not in the terminal's foreground group: ^C is for the broker, which ends in order
            check(Step::Session, libc::setsid())?;
            // where the broker was started is none of the launcher's business, and would keep a file system busy
            check(Step::Session, libc::chdir(c"/".as_ptr()))?;
            self.reset_signals()?;
            self.place_descriptors()?;
            if let Some((uid, gid)) = self.identity {
                check(Step::KeepCapabilities, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
                let groups = self.group.as_slice();
                check(Step::Groups, libc::setgroups(groups.len(), groups.as_ptr()))?;
                check(Step::User, libc::setresgid(gid, gid, gid))?;
                check(Step::User, libc::setresuid(uid, uid, uid))?;
            }
            // old kernels have no ambient set; then there is nothing to clear
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
            // inheritable first: it may not grow beyond a bounding set that is empty
            set_capabilities(self.set_capabilities, self.keep | self.set_capabilities, self.keep)?;
            if self.set_capabilities != 0 {
                for capability in 0..=self.last_capability {
                    let capability = libc::c_ulong::from(capability);
                    check(Step::Bounding, libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0))?;
                }
            }
            set_capabilities(0, self.keep, self.keep)?;
            for capability in (0..=self.last_capability).filter(|bit| self.keep & (1 << bit) != 0) {
                let capability = libc::c_ulong::from(capability);
                let raised = libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0);
                check(Step::Ambient, raised)?;
            }
            // file capabilities mean nothing after this; ambient ones survive (kernel-facts 4)
            check(Step::NoNewPrivileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            libc::execve(self.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
            Err((Step::Exec, Errno::last()))
        }
    }

    /// The broker blocks signals for its signalfd, and Rust ignores SIGPIPE: both would outlive the exec.
    unsafe fn reset_signals(&self) -> Result<(), (Step, Errno)> {
        // SAFETY: a signal set is plain data, filled in by sigemptyset before it is used.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            check(Step::Signals, libc::sigemptyset(&raw mut none))?;
            check(Step::Signals, libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()))?;
            if libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR {
                return Err((Step::Signals, Errno::last()));
            }
        }
        Ok(())
    }

    /// 0 and 1: /dev/null, 2: the log, 3: jobs, 4: the report pipe. Nothing else.
    unsafe fn place_descriptors(&self) -> Result<(), (Step, Errno)> {
        // SAFETY: the sources are open and above all of the places. The child owns its copy of the descriptor table.
        unsafe {
            check(Step::Descriptors, libc::dup2(self.null, 0))?;
            check(Step::Descriptors, libc::dup2(self.null, 1))?;
            check(Step::Descriptors, libc::dup2(self.job, JOB))?;
            check(Step::Descriptors, libc::dup3(self.report, REPORT, libc::O_CLOEXEC))?;
            let first = REPORT + 1;
            if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) == -1 {
                // a kernel before 5.9: one by one
                let mut limit: libc::rlimit = std::mem::zeroed();
                check(Step::Descriptors, libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
                for number in first..RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX) {
                    libc::close(number);
                }
            }
        }
        Ok(())
    }
}

fn check(step: Step, result: libc::c_int) -> Result<(), (Step, Errno)> {
    if result == -1 { Err((step, Errno::last())) } else { Ok(()) }
}

/// The kernel's capability interface, version 3 (capget(2)); the C library has no header for it.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// All three sets in one call, so that no moment knows half of them.
unsafe fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), (Step, Errno)> {
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of each mask")]
    let word = |shift: u32| CapabilityWord {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let words = [word(0), word(32)];
    // SAFETY: header and words have the layout and number that version 3 asks for; the call only reads them.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    if result == -1 { Err((Step::Capabilities, Errno::last())) } else { Ok(()) }
}
