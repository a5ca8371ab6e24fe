//! Code of an attacker inside of memcr, for test builds only (feature `drill` of broker and worker).
//!
//! A test build of a role calls [`Role::reached`] where an attacker's bytes would have taken it over. What then
//! happens is ordered by a file beside the program, read at the start: by then nothing can be opened any more, and a
//! launcher has no environment. What comes of it goes to standard error, a line for each attempt.
//!
//! Nothing here is in a normal build; `tests/tests/escape.rs` looks whether that is so.

#![allow(
    clippy::cast_lossless,
    reason = "arguments of calls are of whatever type the crate libc gives constants"
)]

mod files;
mod kernel;
mod memory;
mod network;
mod orders;
mod processes;
mod rights;
mod roles;
mod sys;

pub use orders::{begin, fact, know, know_first};
pub use roles::{Role, next_sleep, successor};

use std::fmt::{self, Display, Formatter};

/// The beginning of every line that is said here.
pub const MARK: &str = "drill:";

/// Name of the file with the orders, in the directory of the program.
pub const ORDERS: &str = "drill";

/// Why an attempt came to nothing: the call that failed, and its error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Name of the call.
    pub call: &'static str,
    /// Error number.
    pub number: i32,
}

impl Display for Refused {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} gave {}", self.call, self.number)
    }
}

/// What came of an attempt: it worked, or a call was refused.
pub type Outcome = Result<(), Refused>;

/// Something an attacker would try.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Its name.
    pub name: &'static str,
    /// Tries it.
    pub run: fn() -> Outcome,
}

/// All of them. Those that would end or replace this process if they worked come last.
pub fn attempts() -> impl Iterator<Item = &'static Attempt> {
    [files::ALL, network::ALL, memory::ALL, rights::ALL, kernel::ALL, processes::ALL].into_iter().flatten()
}

/// Says a line on standard error, in one write.
pub fn say(line: &str) {
    sys::write(2, format!("{MARK} {line}\n").as_bytes());
}
