//! What a client sends to the broker.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::run("client_frame", bytes));
