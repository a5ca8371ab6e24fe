//! What a broker sends to the launcher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::launcher::Job;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<Job>(bytes));
