//! What there is for x86-64 only: the guests of other processors run no test that needs it.

use std::sync::atomic::AtomicU32;

/// Whether registers tell the kernel which call a thread waited in, so that it goes on as if nobody had been there.
pub const KEEPS_CALLS: bool = false;

/// See the one for x86-64.
///
/// # Panics
/// Always.
pub fn forks_by_registers(_turns: u64, _count: &AtomicU32, _spins: u64) -> bool {
    panic!("only x86-64 has code that forks without touching memory");
}

/// See the one for x86-64.
///
/// # Panics
/// Always.
pub fn moves_by_registers(_turns: u64, _spins: u64, _length: usize, _places: [u64; 2]) -> u64 {
    panic!("only x86-64 has code that moves memory without touching any");
}
