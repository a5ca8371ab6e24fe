//! What a daemon sends to a client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::client::ServerFrame;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<ServerFrame>(bytes));
