//! Giving up everything that a worker doesn't need once it is attached (kernel facts 2 to 5).

mod capabilities;
mod landlock;
pub(crate) mod limits;
mod seccomp;
mod worker_filter;

pub(crate) use capabilities::{keep_ptrace_permitted, lower_ptrace, raise_ptrace};
pub(crate) use worker_filter::TABLE as CONFINED_WORKER;

use crate::error::Error;
use crate::error::Result;
use crate::sys::{descriptors, process};
use memcr_filter::Filter;
use memcr_protocol::report::Sandbox;
use memcr_protocol::sandbox::{Lack, Means, Strictness};
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

/// On which terms processes are confined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    strictness: Strictness,
    /// What there is: asked before the first filter, which forbids to ask.
    means: Means,
}

impl Terms {
    /// Those of the launcher, and what is missing.
    ///
    /// # Errors
    /// When something is missing that must not be.
    pub(crate) fn agree(strictness: Strictness) -> Result<(Self, Vec<Lack>)> {
        let means = Means {
            landlock_abi: process::landlock_abi(),
            seccomp: process::has_seccomp(),
            open_fdinfo: process::has_open_fdinfo(),
        };
        let missing = Lack::of(means);
        strictness.permit(&missing).map_err(Error::Unsupported)?;
        Ok((Self { strictness, means }, missing))
    }

    /// Installs a filter for this thread and its future ones, if there are filters.
    pub(crate) fn install(&self, filter: Filter) -> Result<()> {
        if self.means.seccomp { seccomp::install(filter) } else { Ok(()) }
    }
}

/// Confines this process, which has one thread: closes every descriptor but `keep`, forbids every
/// file, drops every capability, lowers every limit (the image is no longer than `image` bytes), and leaves it
/// the system calls it needs for the threads `tids`.
pub(crate) fn confine(keep: &[RawFd], tids: &[Pid], terms: &Terms, image: u64) -> Result<Confined> {
    descriptors::close_all_but(keep).map_err(Error::system("closing", "descriptors"))?;
    // a fork keeps both, but what is relied on is said here
    process::set_no_new_privileges().map_err(Error::system("setting", "no_new_privs"))?;
    process::set_dumpable(false).map_err(Error::system("setting", "non-dumpable"))?;
    let (landlock_abi, landlock_full) = landlock::deny_all()?;
    terms.strictness.permit(&Lack::of(Means { landlock_abi, ..terms.means })).map_err(Error::Unsupported)?;
    limits::of_worker(image)?;
    capabilities::drop_all()?;
    // last, since it forbids all of the above
    let filter = worker_filter::filter(tids);
    #[cfg(feature = "drill")]
    let filter = crate::drill::altered(filter, "confined");
    terms.install(filter)?;
    let seccomp = terms.means.seccomp;
    Ok(Confined { sandbox: Sandbox { landlock_abi, landlock_full, seccomp, capabilities_empty: true } })
}
