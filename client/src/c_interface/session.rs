//! A connection of ours as C sees it: it connects when it must, and remembers why the last function failed.

use super::codes::MemcrCode;
use super::pointers::Refusal;
use crate::daemon::Daemon;
use crate::{Error, Location};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Session {
    location: OsString,
    patience: Duration,
    daemon: Option<Daemon>,
    /// Why the last function failed; empty if it didn't.
    message: CString,
}

/// Why a function fails.
#[derive(Debug)]
pub(super) enum Fault {
    /// As the Rust library says.
    Error(Error),
    /// An argument can't be right.
    Argument(&'static str),
    /// An argument asks for what this version doesn't have.
    Unknown(&'static str),
}

impl Session {
    pub(super) fn new(location: &OsStr, patience: Duration) -> Self {
        Self { location: location.to_owned(), patience, daemon: None, message: CString::default() }
    }

    /// Does something, and keeps why it failed.
    pub(super) fn run(&mut self, act: impl FnOnce(&mut Self) -> Result<(), Fault>) -> MemcrCode {
        let (code, message) = match act(self) {
            Ok(()) => (MemcrCode::Ok, String::new()),
            Err(Fault::Error(error)) => ((&error).into(), error.to_string()),
            Err(Fault::Argument(message)) => (MemcrCode::InvalidArgument, message.to_owned()),
            Err(Fault::Unknown(message)) => (MemcrCode::Unsupported, message.to_owned()),
        };
        self.message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
        code
    }

    /// The daemon, connected to at the latest now.
    pub(super) fn daemon(&mut self) -> Result<&mut Daemon, Error> {
        let daemon = match self.daemon.take() {
            Some(daemon) => daemon,
            None => Daemon::connect(&Location::parse(&self.location)?, self.patience)?,
        };
        Ok(self.daemon.insert(daemon))
    }

    pub(super) fn message(&self) -> &CStr {
        &self.message
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Size => {
                Self::Argument("a structure doesn't say its size: set the member size to its sizeof")
            }
            Refusal::Unknown => {
                Self::Unknown("a structure asks for what this version of libmemcrclient.so doesn't have")
            }
        }
    }
}
