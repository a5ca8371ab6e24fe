//! The client of a memcr daemon: asks for processes to be put to sleep and to be woken.
//!
//! ```no_run
//! use memcrclient::{CheckpointOptions, Connection, open_target};
//! # fn main() -> Result<(), memcrclient::Error> {
//! let target = open_target(4711)?;
//! let mut daemon = Connection::connect("/run/memcr/memcr.sock".as_ref())?;
//! let asleep = daemon.checkpoint(&target, CheckpointOptions::default(), |_| {})?;
//! println!("{} bytes of memory taken away", asleep.dumped);
//! daemon.restore(&target, |_| {})?;
//! # Ok(())
//! # }
//! ```
//!
//! A process is named by a pidfd that the caller opens in its own pid namespace, so that neither
//! namespaces nor the reuse of a number can make it another process.

#![deny(unsafe_code)]

pub mod c_interface;
mod connection;
mod daemon;
mod error;
#[cfg(test)]
mod fake;
mod legacy;
mod location;
mod socket;
mod target;

pub use connection::{Connection, DEFAULT_PATIENCE, Progress};
pub use error::Error;
pub use legacy::LegacyClient;
pub use location::Location;
pub use memcr_protocol::client::CheckpointOptions;
pub use memcr_protocol::code::{Code, Failure};
pub use memcr_protocol::image::{Checksum, Compression};
pub use memcr_protocol::legacy::Command;
pub use memcr_protocol::report::{Entry, Guard, SleepReport, State, WakeReport};
pub use target::open_target;
