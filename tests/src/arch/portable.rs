//! Processors without code of their own: values that the compiler keeps in registers.

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
