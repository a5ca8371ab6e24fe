//! Processors without code of their own: values that the compiler keeps in registers.

/// A 32-bit program that the kernel runs beside its own: none is known here.
pub const NARROW_PROGRAM: Option<&[u8]> = None;

/// Keeps `seed` in several values for `spins` rounds; whether all came back.
pub fn holds_registers(seed: u64, spins: u64) -> bool {
    let mut values = [seed as f64; 16];
    for round in 0..spins {
        for value in &mut values {
            *value += std::hint::black_box(round as f64) * 0.0;
        }
    }
    values.iter().all(|value| *value == seed as f64)
}
