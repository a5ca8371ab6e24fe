//! What a client sends to the broker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::client::ClientFrame;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<ClientFrame>(bytes));
