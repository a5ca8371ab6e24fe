//! The client of a memcr daemon: asks for processes to be put to sleep and to be woken.
//!
//! ```no_run
//! use memcr_client::{CheckpointOptions, Connection, open_target};
//! # fn main() -> Result<(), memcr_client::Error> {
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

#![forbid(unsafe_code)]

mod connection;
mod error;
mod target;

pub use connection::{Connection, DEFAULT_PATIENCE, Progress};
pub use error::Error;
pub use memcr_protocol::client::CheckpointOptions;
pub use memcr_protocol::code::{Code, Failure};
pub use memcr_protocol::report::{Entry, Guard, SleepReport, State, WakeReport};
pub use target::open_target;
