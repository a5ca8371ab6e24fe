//! What differs between processors.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{SYSTEM_CALLS, TARGET};
