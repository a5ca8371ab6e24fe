//! What a broker sends to a worker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::worker::WorkerCommand;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<WorkerCommand>(bytes));
