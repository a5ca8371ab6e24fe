//! No capability, in no set, and the proof of it.

use super::failed;
use crate::error::BrokerError;
use crate::startup::launcher::last_capability;
use caps::{CapSet, Capability, clear, has_cap, read};
use nix::errno::Errno;

/// Empties the bounding set, as far as we may: without CAP_SETPCAP it stays, and means nothing once
/// no_new_privs is set.
pub(super) fn empty_bounding_set() -> Result<(), BrokerError> {
    let may = has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    if !may.map_err(|cause| failed("read the effective capabilities", &cause))? {
        return Ok(());
    }
    for number in 0..=last_capability() {
        crate::sys::process::drop_from_bounding_set(number)
            .map_err(|cause: Errno| failed("empty the capability bounding set", &cause))?;
    }
    Ok(())
}

/// Clears every other set of this thread, and reads back that they are empty.
pub(super) fn give_up_all() -> Result<(), BrokerError> {
    // effective before permitted: it may not hold more
    let sets = [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted];
    for set in sets {
        clear(None, set).map_err(|cause| failed("give up capabilities", &cause))?;
    }
    for set in sets {
        let left = read(None, set).map_err(|cause| failed("read capabilities", &cause))?;
        if !left.is_empty() {
            return Err(failed("give up capabilities", &format!("{set:?} still holds {left:?}")));
        }
    }
    Ok(())
}
