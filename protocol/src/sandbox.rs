//! How complete the sandbox must be, and what a kernel may lack for it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What is to be done where the sandbox can't be complete (`--sandbox`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strictness {
    /// Nothing runs then.
    #[default]
    Strict,
    /// Memcr runs with what there is, and says what is missing.
    BestEffort,
}

impl Strictness {
    /// The name used on the command line, in logs and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::BestEffort => "best-effort",
        }
    }

    /// Whether memcr may run where this is missing.
    ///
    /// # Errors
    /// What is missing and what to do about it, as a sentence, if it must not.
    pub fn permit(self, missing: &[Lack]) -> Result<(), String> {
        if self == Self::BestEffort || missing.is_empty() {
            return Ok(());
        }
        let sentences: Vec<_> = missing.iter().map(|lack| lack.sentence()).collect();
        Err(format!(
            "the sandbox can't be complete here: {}; --sandbox best-effort runs without that",
            sentences.join(", ")
        ))
    }
}

/// A part of the sandbox that this kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lack {
    /// All of landlock.
    Landlock,
    /// Rules for moving files between directories: landlock's interface 2.
    LandlockRefer,
    /// For cutting files: interface 3.
    LandlockTruncate,
    /// For TCP: interface 4.
    LandlockTcp,
    /// For requests to devices: interface 5.
    LandlockIoctl,
    /// For abstract sockets and signals: interface 6.
    LandlockScope,
    /// Filters of system calls.
    Seccomp,
    /// Protection from others of its user for a process that reads about its own descriptors.
    Undumpable,
}

/// What a kernel has for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// The interface of landlock; 0 if there is none.
    pub landlock_abi: u32,
    /// Filters of system calls that kill a process.
    pub seccomp: bool,
    /// A process may read /proc/self/fdinfo though it is not dumpable.
    pub open_fdinfo: bool,
}

/// What each interface of landlock brought that the sandbox uses. Later ones have nothing for it.
const LANDLOCK: [(u32, Lack); 5] = [
    (2, Lack::LandlockRefer),
    (3, Lack::LandlockTruncate),
    (4, Lack::LandlockTcp),
    (5, Lack::LandlockIoctl),
    (6, Lack::LandlockScope),
];

impl Lack {
    /// What is missing where there is only this.
    #[must_use]
    pub fn of(means: Means) -> Vec<Self> {
        let mut missing = match means.landlock_abi {
            0 => Vec::from([Self::Landlock]),
            abi => LANDLOCK.iter().filter(|(since, _)| abi < *since).map(|(_, lack)| *lack).collect(),
        };
        if !means.seccomp {
            missing.push(Self::Seccomp);
        }
        if !means.open_fdinfo {
            missing.push(Self::Undumpable);
        }
        missing
    }

    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::LandlockRefer => "landlock-refer",
            Self::LandlockTruncate => "landlock-truncate",
            Self::LandlockTcp => "landlock-tcp",
            Self::LandlockIoctl => "landlock-ioctl",
            Self::LandlockScope => "landlock-scope",
            Self::Seccomp => "seccomp",
            Self::Undumpable => "undumpable",
        }
    }

    /// What it is, and since when kernels have it.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Landlock => "the kernel has no landlock, or it is not enabled (Linux 5.13, lsm=landlock)",
            Self::LandlockRefer => "landlock can't forbid to move files (Linux 5.19)",
            Self::LandlockTruncate => "landlock can't forbid to cut files (Linux 6.2)",
            Self::LandlockTcp => "landlock can't forbid TCP (Linux 6.7)",
            Self::LandlockIoctl => "landlock can't forbid requests to devices (Linux 6.10)",
            Self::LandlockScope => "landlock can't forbid signals and abstract sockets (Linux 6.12)",
            Self::Seccomp => "the kernel has no seccomp filters that kill a process (Linux 4.14)",
            Self::Undumpable => {
                "broker and launcher stay dumpable, since others can't read about their own descriptors (Linux 5.14)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(landlock_abi: u32, seccomp: bool) -> Means {
        Means { landlock_abi, seccomp, open_fdinfo: true }
    }

    #[test]
    fn the_sixth_interface_of_landlock_and_seccomp_are_everything() {
        for abi in 6..20 {
            assert!(Lack::of(means(abi, true)).is_empty(), "{abi}");
        }
    }

    #[test]
    fn each_older_interface_lacks_what_came_after_it() {
        let names =
            |abi, seccomp| Lack::of(means(abi, seccomp)).into_iter().map(Lack::name).collect::<Vec<_>>();
        assert_eq!(names(5, true), ["landlock-scope"]);
        assert_eq!(names(3, true), ["landlock-tcp", "landlock-ioctl", "landlock-scope"]);
        assert_eq!(names(1, false).len(), 6);
        assert_eq!(names(0, true), ["landlock"]);
        assert_eq!(names(0, false), ["landlock", "seccomp"]);
        let old = Lack::of(Means { open_fdinfo: false, ..means(6, true) });
        assert_eq!(old, [Lack::Undumpable]);
    }

    #[test]
    fn strict_refuses_with_each_thing_that_is_missing_and_the_way_out() {
        assert_eq!(Strictness::Strict.permit(&[]), Ok(()));
        let refused = Strictness::Strict.permit(&Lack::of(means(5, false))).unwrap_err();
        for part in ["signals", "seccomp", "--sandbox best-effort"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(Strictness::BestEffort.permit(&Lack::of(means(0, false))), Ok(()));
    }
}
