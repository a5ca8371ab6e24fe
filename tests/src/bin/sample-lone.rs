//! A target with one thread that never waits: `sample-lone [MIB [SEED]]`.
//!
//! It keeps known values in all its registers, known memory, and spins behind system calls. Between two rounds it looks whether
//! it is told something: `check` compares all of it.

use memcr_tests::input::Input;
use memcr_tests::{arch, content};

/// Turns of the innermost loops: a fraction of a millisecond.
const SPINS: u64 = 20_000;

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| words.next().map_or(default, |word| word.parse().expect("a number"));
    let (mib, seed) = (number(2), number(1));
    let mut memory = vec![0; mib as usize * 1024 * 1024];
    content::fill(&mut memory, seed);
    println!("ready pid={}", std::process::id());
    let (mut round, mut errors) = (0_u64, 0_u64);
    loop {
        errors += u64::from(!arch::holds_registers(seed.wrapping_add(round), SPINS));
        errors += u64::from(!arch::is_not_taken_for_interrupted(SPINS));
        round += 1;
        match Input::look() {
            Input::Nothing => continue,
            Input::Line(_) => {}
            Input::End => return,
        }
        match content::check(&memory, seed) {
            Ok(()) if errors == 0 => println!("intact rounds={round}"),
            outcome => println!("differs registers={errors} memory={outcome:?}"),
        }
    }
}
