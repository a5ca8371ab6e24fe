//! The kernel's answer about a TCP socket.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_worker::fuzzing::run("socket_answer", bytes));
