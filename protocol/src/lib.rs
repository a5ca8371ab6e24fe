//! The messages that the processes of memcr exchange.
//!
//! Pure data: no IO, no system call, no `unsafe`. Each channel has its own module and its own
//! types, so that a message can't be taken for one of another channel:
//!
//! | module | between |
//! |---|---|
//! | [`client`] | an untrusted client and the broker |
//! | [`legacy`] | a client of the original memcr and the broker |
//! | [`launcher`] | the broker and the launcher |
//! | [`worker`] | the broker and one worker |
//! | [`deposit`] | a worker and the launcher |
//! | [`parasite`] | a worker and the code it runs inside the target |
//!
//! [`frame`] is how the first four look on the wire; [`subject`] says who asks and for what; [`image`] how an
//! image is written; [`sandbox`] how complete the sandbox is.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "messages")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "messages")]
pub mod client;
#[cfg(feature = "messages")]
pub mod code;
#[cfg(feature = "messages")]
pub mod deposit;
#[cfg(feature = "messages")]
pub mod frame;
#[cfg(feature = "messages")]
pub mod image;
#[cfg(feature = "messages")]
pub mod launcher;
#[cfg(feature = "messages")]
pub mod legacy;
pub mod parasite;
#[cfg(feature = "messages")]
pub mod report;
#[cfg(feature = "messages")]
pub mod sandbox;
#[cfg(feature = "messages")]
pub mod subject;
#[cfg(feature = "messages")]
pub mod text;
#[cfg(feature = "messages")]
pub mod worker;
