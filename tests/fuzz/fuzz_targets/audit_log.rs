//! An audit log that is verified.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_broker::fuzzing::run("audit_log", bytes));
