//! What a worker leaves with the launcher.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::run("deposit", bytes));
