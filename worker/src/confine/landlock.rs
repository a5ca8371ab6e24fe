//! No file, no network, no signal to others (Documentation/userspace-api/landlock.rst).

use crate::error::{Error, Result};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, Ruleset,
    RulesetAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The newest interface whose rights are asked for.
const NEWEST: ABI = ABI::V7;

/// Denies everything that landlock can deny. The kernel's ABI (0: none), and whether all of it is
/// enforced.
///
/// Ptrace goes on working for threads that are seized already, and for no other (kernel fact 2).
pub(crate) fn deny_all() -> Result<(u32, bool)> {
    let status =
        restrict().map_err(|error| Error::Unsupported(format!("confining with landlock: {error}")))?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    };
    Ok((abi, status.ruleset == RulesetStatus::FullyEnforced))
}

fn restrict() -> std::result::Result<landlock::RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()
}
