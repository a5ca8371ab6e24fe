//! All that a client sends, from its first byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_broker::fuzzing::run("client_stream", bytes));
