//! The processors that filters are for.

use seccompiler::{BackendError, TargetArch};

/// How the kernel calls the system calls of a processor, AUDIT_ARCH_* (linux/audit.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// One that the library knows.
    Known(TargetArch),
    /// 32-bit ARM, or any other by its number.
    Other(u32),
}

impl Architecture {
    /// AUDIT_ARCH_ARM.
    const ARM: u32 = 0x4000_0028;

    /// That of this program.
    ///
    /// # Errors
    /// [`BackendError::InvalidTargetArch`] where nobody knows it.
    pub fn here() -> Result<Self, BackendError> {
        match std::env::consts::ARCH {
            "arm" => Ok(Self::Other(Self::ARM)),
            known => TargetArch::try_from(known).map(Self::Known),
        }
    }

    /// The same for each writer of programs that can be used here: for tests.
    #[cfg(feature = "trial")]
    #[must_use]
    pub fn all() -> Vec<Self> {
        let here = Self::here();
        let own = match std::env::consts::ARCH {
            "x86_64" => 0xc000_003e,
            "aarch64" => 0xc000_00b7,
            "riscv64" => 0xc000_00f3,
            _ => Self::ARM,
        };
        here.into_iter().filter(|known| matches!(known, Self::Known(_))).chain([Self::Other(own)]).collect()
    }
}
