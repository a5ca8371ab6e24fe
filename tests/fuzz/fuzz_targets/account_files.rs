//! /etc/passwd and /etc/group.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| memcr_fuzz::run("account_files", bytes));
