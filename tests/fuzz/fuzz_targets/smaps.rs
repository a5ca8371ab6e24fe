//! A target's /proc/PID/smaps.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_worker::fuzzing::run("smaps", bytes));
