//! The messages that the processes of memcr exchange.
//!
//! Pure data: no IO, no system call, no `unsafe`. Each channel has its own module and its own
//! types, so that a message can't be taken for one of another channel:
//!
//! | module | between |
//! |---|---|
//! | [`client`] | an untrusted client and the broker |
//! | [`launcher`] | the broker and the launcher |
//! | [`worker`] | the broker and one worker |
//! | [`deposit`] | a worker and the launcher |
//! | [`parasite`] | a worker and the code it runs inside the target |
//!
//! [`frame`] is how the first four look on the wire; [`subject`] says who asks and for what.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod code;
pub mod deposit;
pub mod frame;
pub mod launcher;
pub mod parasite;
pub mod report;
pub mod subject;
pub mod worker;
