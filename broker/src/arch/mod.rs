//! What differs between processors.

mod reason;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as here;
#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64 as here;
#[cfg(target_arch = "arm")]
mod arm;
#[cfg(target_arch = "arm")]
use arm as here;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
use riscv64 as here;

#[cfg(test)]
pub(crate) use here::NEVER_SHOWN;
pub(crate) use here::{REOPEN_CALLS, SYSTEM_CALLS};
