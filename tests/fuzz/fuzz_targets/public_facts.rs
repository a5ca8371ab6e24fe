//! Texts of /proc that the broker reads.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_broker::fuzzing::run("public_facts", bytes));
