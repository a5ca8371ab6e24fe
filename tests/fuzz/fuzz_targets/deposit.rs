//! What a worker leaves with the launcher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::deposit::Deposit;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<Deposit>(bytes));
