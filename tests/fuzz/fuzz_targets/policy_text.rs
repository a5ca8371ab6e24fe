//! A policy on its way from the launcher.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::run("policy_text", bytes));
