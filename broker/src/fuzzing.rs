//! What reads bytes of others, as functions of those bytes: for the fuzz targets (tests/fuzz), and for the test here
//! that replays their corpora. Each says what must hold whatever the bytes are. In no ordinary build.

use crate::audit::verify;
use crate::serve::fuzzing as serve;

/// A fuzz target: its name, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("audit_log", verify::read_anything),
    ("client_stream", serve::client_stream),
    ("public_facts", serve::public_facts),
];

/// Runs the target with this name.
///
/// # Panics
/// If there is none, or if what must hold doesn't.
#[expect(clippy::panic, reason = "a name that was mistyped must not pass for a success")]
pub fn run(name: &str, bytes: &[u8]) {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => target(bytes),
        None => panic!("there is no target {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_input_that_was_ever_found_is_read_as_it_must_be() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
            let inputs =
                fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
            let mut count = 0;
            for input in inputs {
                let path = input.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                std::panic::catch_unwind(|| target(&bytes)).unwrap_or_else(|_| panic!("{}", path.display()));
                count += 1;
            }
            assert!(count > 0, "{} is empty", corpus.display());
        }
    }
}
