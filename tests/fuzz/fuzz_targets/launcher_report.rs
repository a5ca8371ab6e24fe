//! What a launcher sends to the broker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::launcher::LauncherReport;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::frame::<LauncherReport>(bytes));
