//! No file, no TCP, no signal, no abstract socket.
//!
//! What stays: reading /proc, for the number behind a client's pidfd (/proc/self/fdinfo) and the
//! public facts of a process that doesn't sleep; and removing names in the directory of the
//! listening socket, and making files in that of the audit log and writing to them, where file permissions decide
//! further. Everything else that is used was opened
//! before. A rule for /proc/self alone would not do: the kernel makes its inode anew now and then.

use super::failed;
use crate::error::BrokerError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::os::fd::BorrowedFd;

/// The newest interface that was tried. What an older kernel lacks is left out, and said.
const TRIED: ABI = ABI::V7;

/// How much of the above the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enforcement {
    /// All.
    Full,
    /// What this kernel knows.
    Partial,
    /// Nothing: the kernel has no landlock.
    None,
}

impl Enforcement {
    /// The name used in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// Confines this thread, and those it will start.
pub(super) fn confine(
    socket_directory: Option<BorrowedFd<'_>>,
    audit_directory: Option<BorrowedFd<'_>>,
) -> Result<Enforcement, BrokerError> {
    let status = enforce(socket_directory, audit_directory).map_err(|cause| failed("landlock", &cause))?;
    // "best effort" ends well even where nothing is enforced (kernel-facts 5): the status tells
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

fn enforce(
    socket_directory: Option<BorrowedFd<'_>>,
    audit_directory: Option<BorrowedFd<'_>>,
) -> Result<RestrictionStatus, Box<dyn std::error::Error>> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/proc")?, AccessFs::ReadFile))?;
    if let Some(directory) = socket_directory {
        let remove: BitFlags<AccessFs> = AccessFs::RemoveFile.into();
        rules = rules.add_rule(PathBeneath::new(directory, remove))?;
    }
    if let Some(directory) = audit_directory {
        let append = AccessFs::MakeReg | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(directory, append))?;
    }
    Ok(rules.restrict_self()?)
}
