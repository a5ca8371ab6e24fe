//! What differs between processors: holding known values in all registers for a while, programs of a
//! narrower kind.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod here;
#[cfg(target_arch = "arm")]
#[path = "arm.rs"]
mod here;
#[cfg(target_arch = "riscv64")]
#[path = "riscv64.rs"]
mod here;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod here;

pub use here::{NARROW_PROGRAM, holds_registers, is_not_taken_for_interrupted};

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{KEEPS_CALLS, forks_by_registers, moves_by_registers};
#[cfg(target_arch = "x86_64")]
pub use here::{KEEPS_CALLS, forks_by_registers, moves_by_registers};
