//! What a worker sends to the broker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::worker::WorkerEvent;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<WorkerEvent>(bytes));
