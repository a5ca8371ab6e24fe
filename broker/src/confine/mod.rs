//! Giving up everything that is not needed to serve clients.
//!
//! In two steps, since a thread can only be started between them: [`restrict`] gives up user,
//! capabilities and the file system, [`Restricted::seal`] forbids all but a few system calls.

mod capabilities;
mod landlock;
mod seccomp;

pub(crate) use landlock::Enforcement;
pub(crate) use seccomp::Mode;

use crate::error::{Attempt, BrokerError};
use crate::startup::identity::Identity;
use crate::sys::process;
use memcr_protocol::sandbox::{Lack, Means, Strictness};
use nix::sys::prctl::{get_no_new_privs, set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode as FileMode, umask};
use nix::unistd::{chdir, getresgid, getresuid, setgroups, setresgid, setresuid};
use std::os::fd::BorrowedFd;

/// Proof that user, capabilities and file system are given up.
#[derive(Debug)]
pub(crate) struct Restricted {
    /// How much of it landlock enforces.
    pub(crate) landlock: Enforcement,
}

/// Gives up user, groups, capabilities, core dumps, environment and the file system, but for removing names in
/// `socket_directory`, and appending to files in `audit_directory`. Every failure is fatal.
///
/// # Errors
/// [`BrokerError`] for the first step that failed, or whose effect did not show.
pub(crate) fn restrict(
    identity: &Identity,
    (strictness, missing): (Strictness, &[Lack]),
    socket_directory: Option<BorrowedFd<'_>>,
    audit_directory: Option<BorrowedFd<'_>>,
) -> Result<Restricted, BrokerError> {
    // while CAP_SETPCAP is there
    capabilities::empty_bounding_set()?;
    if identity.changes {
        setgroups(&[]).attempt("drop", "supplementary groups")?;
        // real, effective and saved: none is left to go back to
        setresgid(identity.gid, identity.gid, identity.gid)
            .attempt("become", format_args!("group {}", identity.gid))?;
        setresuid(identity.uid, identity.uid, identity.uid)
            .attempt("become", format_args!("user {}", identity.uid))?;
    }
    let (users, groups) =
        (getresuid().attempt("read", "user ids")?, getresgid().attempt("read", "group ids")?);
    if [users.real, users.effective, users.saved] != [identity.uid; 3]
        || [groups.real, groups.effective, groups.saved] != [identity.gid; 3]
    {
        return Err(failed("become the daemon's user", &"the ids did not change"));
    }
    capabilities::give_up_all()?;
    set_no_new_privs().attempt("set", "no_new_privs")?;
    if !get_no_new_privs().attempt("read", "no_new_privs")? {
        return Err(failed("set no_new_privs", &"it is not set"));
    }
    // after the change of user, which sets it anew; no other process of this user may trace us or read our memory
    set_dumpable(missing.contains(&Lack::Undumpable)).attempt("clear", "dumpable")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).attempt("forbid", "core dumps")?;
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).attempt("read", "the limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors)
        .attempt("keep", "the limit of descriptors")?;
    process::wipe_environment().map_err(|cause| failed("wipe the environment", &cause))?;
    umask(FileMode::from_bits_truncate(0o077));
    // keeps no file system busy; relative paths were all used
    chdir("/").attempt("change directory to", "/")?;
    let landlock = landlock::confine(socket_directory, audit_directory)?;
    if strictness == Strictness::Strict && landlock != Enforcement::Full {
        return Err(failed("landlock", &format!("only in part ({})", landlock.name())));
    }
    Ok(Restricted { landlock })
}

impl Restricted {
    /// Forbids to make threads and processes, and all system calls but those of `mode`, in every thread; whether the audit
    /// log may be opened anew. Nothing is set up after this. Where the kernel has no filters, none is installed.
    ///
    /// # Errors
    /// [`BrokerError::Confine`].
    pub(crate) fn seal(self, mode: Mode, reopens: bool, missing: &[Lack]) -> Result<(), BrokerError> {
        // counts all of this user's, of whom there are some: there can't be one more
        setrlimit(Resource::RLIMIT_NPROC, 0, 0).attempt("forbid", "new processes")?;
        if missing.contains(&Lack::Seccomp) { Ok(()) } else { seccomp::apply(mode, reopens) }
    }
}

/// What the sandbox of the broker has to do without.
///
/// # Errors
/// [`BrokerError::Sandbox`] when that is something that must not be missing.
pub(crate) fn missing(strictness: Strictness) -> Result<Vec<Lack>, BrokerError> {
    let missing = Lack::of(Means {
        landlock_abi: process::landlock_abi(),
        seccomp: process::has_seccomp(),
        open_fdinfo: process::has_open_fdinfo(),
    });
    strictness.permit(&missing).map_err(BrokerError::Sandbox)?;
    Ok(missing)
}

fn failed(step: &'static str, cause: &impl ToString) -> BrokerError {
    BrokerError::Confine { step, cause: cause.to_string() }
}
