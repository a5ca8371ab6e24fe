//! What differs between processors.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86_64::NEVER_SHOWN;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{SYSTEM_CALLS, TARGET};
