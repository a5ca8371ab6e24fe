//! The header of an image.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_worker::fuzzing::run("image_header", bytes));
