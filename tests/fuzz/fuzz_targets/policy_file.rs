//! A policy file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_policy::{Names, Policy};

/// Some names, so that rules with them are reached.
struct Accounts;

impl Names for Accounts {
    fn user(&self, name: &str) -> Option<u32> {
        (name.len() < 5).then_some(1000)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.user(name)
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = Policy::parse_bytes(bytes, &Accounts) {
        assert!(!error.to_string().is_empty());
    }
});
