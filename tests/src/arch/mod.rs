//! What differs between processors: holding known values in all registers for a while.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{forks_by_registers, holds_registers, moves_by_registers};

#[cfg(not(target_arch = "x86_64"))]
mod portable;

#[cfg(not(target_arch = "x86_64"))]
pub use portable::holds_registers;
