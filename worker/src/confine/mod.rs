//! Giving up everything that a worker doesn't need once it is attached (kernel facts 2 to 5).

mod capabilities;
mod landlock;
mod seccomp;
mod worker_filter;

pub(crate) use capabilities::{keep_ptrace_permitted, lower_ptrace, raise_ptrace};
pub(crate) use seccomp::install;
pub(crate) use worker_filter::TABLE as CONFINED_WORKER;

use crate::error::Error;
use crate::error::Result;
use crate::sys::{descriptors, process};
use memcr_protocol::report::Sandbox;
use nix::unistd::Pid;
use std::os::fd::RawFd;

/// Proof that this process is confined: whatever touches bytes of the target asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confined {
    sandbox: Sandbox,
}

impl Confined {
    /// How it is confined.
    pub(crate) fn sandbox(&self) -> Sandbox {
        self.sandbox
    }
}

/// Confines this process, which has one thread: closes every descriptor but `keep`, forbids every
/// file, drops every capability, and leaves it the system calls it needs for the threads `tids`.
pub(crate) fn confine(keep: &[RawFd], tids: &[Pid]) -> Result<Confined> {
    descriptors::close_all_but(keep).map_err(Error::system("closing", "descriptors"))?;
    // a fork keeps both, but what is relied on is said here
    process::set_no_new_privileges().map_err(Error::system("setting", "no_new_privs"))?;
    process::set_non_dumpable().map_err(Error::system("setting", "non-dumpable"))?;
    let (landlock_abi, landlock_full) = landlock::deny_all()?;
    capabilities::drop_all()?;
    // last, since it forbids all of the above
    install(worker_filter::filter(tids))?;
    Ok(Confined { sandbox: Sandbox { landlock_abi, landlock_full, seccomp: true, capabilities_empty: true } })
}
