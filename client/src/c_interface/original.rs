//! The four functions of the original's library.

#![allow(unsafe_code, reason = "symbols and pointers of C")]
#![allow(clippy::missing_safety_doc, reason = "these comments are the header's, for C")]

use super::guard::or_failed;
use super::{pointers, table};
use crate::{CheckpointOptions, Code, Error, Location};
use memcr_protocol::legacy::{Command, Reply};
use std::ffi::{c_char, c_int, c_uint};

/// It was not done.
const FAILED: c_int = -1;

/// Connects to a daemon. `location` is the path of its UNIX socket (`/tmp/memcrcom`), a TCP port of this
/// machine (`9000`), or an address with a port (`127.0.0.1:12345`, `[::1]:9000`).
///
/// Gives the descriptor of the connected socket, or -1. It belongs to this library: end it by
/// memcr_client_disconnect(). If the daemon closes the connection between two requests, the next one
/// connects anew under the same descriptor.
///
/// Several threads may use different descriptors at the same time; requests on one descriptor wait for each
/// other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_client_connect(location: *const c_char) -> c_int {
    or_failed(FAILED, || {
        // SAFETY: a text or null, as the header says.
        let Some(text) = (unsafe { pointers::text(location) }) else { return FAILED };
        let connected = Location::parse(text).and_then(|location| table::connect(&location));
        connected.unwrap_or(FAILED)
    })
}

/// Ends a connection. What was put to sleep sleeps on. Other descriptors are left alone.
#[unsafe(no_mangle)]
pub extern "C" fn memcr_client_disconnect(cd: c_int) {
    or_failed((), || table::disconnect(cd));
}

/// Puts the process that has this number for the caller to sleep: frees its memory until it is woken. Returns
/// when it sleeps, or if the daemon says nothing for a minute.
///
/// Gives 0 on success, -2 if the process is asleep already, -1 for any other error: the descriptor is none of
/// memcr_client_connect(), there is no such process, the daemon refuses or fails.
#[unsafe(no_mangle)]
pub extern "C" fn memcr_client_checkpoint(cd: c_int, pid: c_uint) -> c_int {
    or_failed(FAILED, || {
        let Ok(pid) = i32::try_from(pid) else { return FAILED };
        let options = CheckpointOptions::default();
        let outcome = table::with(cd, |daemon| daemon.checkpoint(pid, options).map(drop));
        answer(Command::Checkpoint, outcome)
    })
}

/// Wakes a process. Returns when it runs, or if the daemon says nothing for a minute.
///
/// Gives 0 on success, -2 if the process is not asleep, -1 for any other error.
#[unsafe(no_mangle)]
pub extern "C" fn memcr_client_restore(cd: c_int, pid: c_uint) -> c_int {
    or_failed(FAILED, || {
        let Ok(pid) = i32::try_from(pid) else { return FAILED };
        let outcome = table::with(cd, |daemon| daemon.restore(pid).map(drop));
        answer(Command::Restore, outcome)
    })
}

/// The same numbers as on the wire of the original.
fn answer(command: Command, outcome: Option<Result<(), Error>>) -> c_int {
    let outcome = match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(Error::Failed(failure))) => Err(failure.code),
        Some(Err(_)) | None => Err(Code::Internal),
    };
    match Reply::of(command, outcome) {
        Reply::Ok => 0,
        Reply::Failed => FAILED,
        Reply::InvalidPid => -2,
    }
}
