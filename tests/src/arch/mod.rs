//! What differs between processors: holding known values in all registers for a while, programs of a
//! narrower kind.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{NARROW_PROGRAM, forks_by_registers, holds_registers, moves_by_registers};

#[cfg(not(target_arch = "x86_64"))]
mod portable;

#[cfg(not(target_arch = "x86_64"))]
pub use portable::{NARROW_PROGRAM, holds_registers};
