//! The parasite: what memcr runs inside a target, as the target, for a moment.
//!
//! It meets its worker at a socket and serves that: it opens what only the target may open, hands over the numbers, frees
//! pages, and goes home when its worker takes it home or disappears. No allocation, no panic, no
//! relocation, no writable static: the blob is mapped read and execute at any address.
//!
//! Entry and system calls are in [`arch`]; the messages in [`memcr_protocol::parasite`].

#![no_std]

pub mod arch;
mod files;
mod kernel;
mod meeting;
#[cfg(feature = "blob")]
mod memory;
mod orders;
mod socket;

pub use orders::serve;
