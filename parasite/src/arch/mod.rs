//! Entry point, system call instruction, numbers and flags of each architecture.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{O_NOFOLLOW, number, system_call};
