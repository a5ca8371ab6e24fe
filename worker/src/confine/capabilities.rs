//! Capabilities of the launcher and of a worker, each change read back.

use crate::error::{Error, Result};
use caps::{CapSet, Capability, CapsHashSet};

const ALL_SETS: [CapSet; 4] = [CapSet::Ambient, CapSet::Effective, CapSet::Inheritable, CapSet::Permitted];

fn failed(error: &caps::errors::CapsError) -> Error {
    Error::Unsupported(format!("changing capabilities: {error}"))
}

fn set(set: CapSet, capabilities: &CapsHashSet) -> Result<()> {
    if matches!(set, CapSet::Ambient) {
        caps::clear(None, set).map_err(|error| failed(&error))?;
    } else {
        caps::set(None, set, capabilities).map_err(|error| failed(&error))?;
    }
    let now = caps::read(None, set).map_err(|error| failed(&error))?;
    if now == *capabilities {
        Ok(())
    } else {
        Err(Error::Unsupported(format!("the {set:?} capabilities are {now:?}, not {capabilities:?}")))
    }
}

/// The launcher's: CAP_SYS_PTRACE permitted, nothing else anywhere.
pub(crate) fn keep_ptrace_permitted() -> Result<()> {
    let ptrace = CapsHashSet::from([Capability::CAP_SYS_PTRACE]);
    let none = CapsHashSet::new();
    for each in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective] {
        set(each, &none)?;
    }
    set(CapSet::Permitted, &ptrace).map_err(|_| {
        Error::Unsupported(
            "CAP_SYS_PTRACE is missing: start memcr as root, with AmbientCapabilities=CAP_SYS_PTRACE, or after \
             setcap cap_sys_ptrace=ep memcr"
                .into(),
        )
    })
}

/// A worker's while it attaches: CAP_SYS_PTRACE in effect.
pub(crate) fn raise_ptrace() -> Result<()> {
    set(CapSet::Effective, &CapsHashSet::from([Capability::CAP_SYS_PTRACE]))
}

/// The launcher's after it has named a client.
pub(crate) fn lower_ptrace() -> Result<()> {
    set(CapSet::Effective, &CapsHashSet::new())
}

/// A confined worker's: none.
pub(crate) fn drop_all() -> Result<()> {
    let none = CapsHashSet::new();
    ALL_SETS.into_iter().try_for_each(|each| set(each, &none))
}
