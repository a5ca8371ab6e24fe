//! What the launcher says to a worker.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::run("word", bytes));
