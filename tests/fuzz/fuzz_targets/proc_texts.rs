//! Other texts of /proc that the privileged side reads.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_worker::fuzzing::run("proc_texts", bytes));
