//! The index of an image, once its seal was found genuine.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_worker::fuzzing::run("image_index", bytes));
