//! Functions that say why something failed, and what was done.

#![allow(unsafe_code, reason = "symbols and pointers of C")]
#![allow(clippy::missing_safety_doc, reason = "these comments are the header's, for C")]

use super::codes::MemcrCode;
use super::guard::{lock, or_failed};
use super::pointers::{self, Room, Versioned};
use super::session::{Fault, Session};
use super::structures::{MemcrCheckpointOptions, MemcrSleepResult, MemcrStatusResult, MemcrWakeResult};
use crate::{CheckpointOptions, DEFAULT_PATIENCE};
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A connection to a daemon. One thread uses it at a time; several connections may be used at the same time.
#[derive(Debug)]
pub struct MemcrConnection(Mutex<Session>);

// SAFETY: repr(C), begins with a u32; two times 4 bytes and one pointer, no padding; any pointer is a value.
unsafe impl Versioned for MemcrCheckpointOptions {
    const SMALLEST: usize = 8 + size_of::<*const c_char>();
}
// SAFETY: repr(C), begins with a u32; 16 bytes, ten times 8 bytes, 40 bytes: no padding; numbers only.
unsafe impl Versioned for MemcrSleepResult {
    const SMALLEST: usize = 136;
}
// SAFETY: repr(C), begins with a u32; 8 bytes, four times 8 bytes, 40 bytes: no padding; numbers only.
unsafe impl Versioned for MemcrWakeResult {
    const SMALLEST: usize = 80;
}
// SAFETY: repr(C), begins with a u32; four times 4 bytes, 8 bytes: no padding; numbers only.
unsafe impl Versioned for MemcrStatusResult {
    const SMALLEST: usize = 24;
}

// these are the sizes of the first version, which has no padding
const _: () = assert!(size_of::<MemcrCheckpointOptions>() == MemcrCheckpointOptions::SMALLEST);
const _: () = assert!(size_of::<MemcrSleepResult>() == MemcrSleepResult::SMALLEST);
const _: () = assert!(size_of::<MemcrWakeResult>() == MemcrWakeResult::SMALLEST);
const _: () = assert!(size_of::<MemcrStatusResult>() == MemcrStatusResult::SMALLEST);

/// Connects to a daemon. `location` is the path of its UNIX socket, a TCP port of this machine (`9000`), or an
/// address with a port (`127.0.0.1:12345`, `[::1]:9000`). `patience_seconds` is how long the daemon may say
/// nothing, now and in later requests; 0 means a minute.
///
/// `*connection` is set also when this fails, so that memcr_error_message() can tell why, and a later request can
/// try again; it is NULL only if `location` is. End it by memcr_close() in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_open(
    location: *const c_char,
    patience_seconds: u32,
    connection: *mut *mut MemcrConnection,
) -> MemcrCode {
    or_failed(MemcrCode::Internal, || {
        if connection.is_null() {
            return MemcrCode::InvalidArgument;
        }
        // SAFETY: not null, so a place for a pointer, as the header says.
        unsafe { connection.write(ptr::null_mut()) };
        // SAFETY: a text or null, as the header says.
        let Some(location) = (unsafe { pointers::text(location) }) else {
            return MemcrCode::InvalidArgument;
        };
        let patience = match patience_seconds {
            0 => DEFAULT_PATIENCE,
            seconds => Duration::from_secs(seconds.into()),
        };
        let mut session = Session::new(location, patience);
        let code = session.run(|session| Ok(session.daemon().map(drop)?));
        let opened = Box::into_raw(Box::new(MemcrConnection(Mutex::new(session))));
        // SAFETY: as above.
        unsafe { connection.write(opened) };
        code
    })
}

/// Ends a connection and frees what belongs to it; NULL is allowed. What was put to sleep sleeps on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_close(connection: *mut MemcrConnection) {
    or_failed((), || {
        if !connection.is_null() {
            // SAFETY: made by memcr_open() and not closed before, as the header says.
            drop(unsafe { Box::from_raw(connection) });
        }
    });
}

/// Puts the process that has this number for the caller to sleep: frees its memory until it is woken. Returns
/// when it sleeps.
///
/// `options` may be NULL: as the daemon does by default. `result` may be NULL; else its size must be set, and the
/// rest is filled in on success. After a failure the process runs on, unless the code is
/// MEMCR_CODE_ALREADY_ASLEEP or MEMCR_CODE_TARGET_LOST; with MEMCR_CODE_DISCONNECTED, MEMCR_CODE_SILENT and
/// MEMCR_CODE_NOT_DONE it isn't known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_checkpoint(
    connection: *mut MemcrConnection,
    pid: c_int,
    options: *const MemcrCheckpointOptions,
    result: *mut MemcrSleepResult,
) -> MemcrCode {
    or_failed(MemcrCode::Internal, || {
        // SAFETY: a connection or null, as the header says.
        let Some(mut session) = (unsafe { session(connection) }) else {
            return MemcrCode::InvalidArgument;
        };
        session.run(|session| {
            // SAFETY: a structure with a text, or null, as the header says.
            let options = unsafe { checkpoint_options(options) }?;
            // SAFETY: a structure or null, as the header says.
            let room = unsafe { Room::new(result) }?;
            let report = session.daemon()?.checkpoint(pid, options)?;
            if let Some(room) = room {
                room.fill(&report.as_ref().into());
            }
            Ok(())
        })
    })
}

/// Wakes a process. Returns when it runs.
///
/// `result` may be NULL; else its size must be set, and the rest is filled in on success. After a failure a
/// process that slept sleeps on, unless the code is MEMCR_CODE_TARGET_LOST; with MEMCR_CODE_DISCONNECTED,
/// MEMCR_CODE_SILENT and MEMCR_CODE_NOT_DONE it isn't known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_restore(
    connection: *mut MemcrConnection,
    pid: c_int,
    result: *mut MemcrWakeResult,
) -> MemcrCode {
    or_failed(MemcrCode::Internal, || {
        // SAFETY: a connection or null, as the header says.
        let Some(mut session) = (unsafe { session(connection) }) else {
            return MemcrCode::InvalidArgument;
        };
        session.run(|session| {
            // SAFETY: a structure or null, as the header says.
            let room = unsafe { Room::new(result) }?;
            let report = session.daemon()?.restore(pid)?;
            if let Some(room) = room {
                room.fill(&report.as_ref().into());
            }
            Ok(())
        })
    })
}

/// The state of a process. Not over TCP, where the original's protocol has no such request:
/// MEMCR_CODE_UNSUPPORTED.
///
/// `result` and `sleep` may be NULL; else their sizes must be set, and the rest is filled in on success. `sleep`
/// is all zero unless the process sleeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_status(
    connection: *mut MemcrConnection,
    pid: c_int,
    result: *mut MemcrStatusResult,
    sleep: *mut MemcrSleepResult,
) -> MemcrCode {
    or_failed(MemcrCode::Internal, || {
        // SAFETY: a connection or null, as the header says.
        let Some(mut session) = (unsafe { session(connection) }) else {
            return MemcrCode::InvalidArgument;
        };
        session.run(|session| {
            // SAFETY: structures or null, as the header says.
            let (room, sleep_room) = unsafe { (Room::new(result)?, Room::new(sleep)?) };
            let entry = session.daemon()?.status(pid)?;
            if let Some(room) = room {
                room.fill(&(&entry).into());
            }
            if let Some(room) = sleep_room {
                room.fill(&entry.sleep.as_ref().into());
            }
            Ok(())
        })
    })
}

/// Why the last function failed on this connection: one sentence for people, empty if it didn't fail. Never NULL.
/// Valid until the next function on this connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcr_error_message(connection: *const MemcrConnection) -> *const c_char {
    let none = c"there is no connection: NULL was given".as_ptr();
    or_failed(none, || {
        // SAFETY: a connection or null, as the header says.
        match unsafe { session(connection) } {
            Some(session) => session.message().as_ptr(),
            None => none,
        }
    })
}

/// The name of a code, as in logs: "already-asleep", say; "unknown" for a number that is none. It lasts as long as
/// the program.
#[unsafe(no_mangle)]
pub extern "C" fn memcr_code_name(code: i32) -> *const c_char {
    let found = MemcrCode::ALL.iter().find(|known| **known as i32 == code);
    found.map_or(c"unknown", |code| code.name()).as_ptr()
}

/// What is behind a connection, for this thread alone.
///
/// # Safety
/// `connection` is null, or was made by memcr_open() and is not closed as long as the result is used.
unsafe fn session<'a>(connection: *const MemcrConnection) -> Option<MutexGuard<'a, Session>> {
    // SAFETY: as promised by the caller.
    let connection = unsafe { connection.as_ref() }?;
    Some(lock(&connection.0))
}

/// # Safety
/// `options` is null, or a structure whose directory is null or a text.
unsafe fn checkpoint_options(options: *const MemcrCheckpointOptions) -> Result<CheckpointOptions, Fault> {
    // SAFETY: as promised by the caller.
    let Some(options) = (unsafe { pointers::read(options) })? else {
        return Ok(CheckpointOptions::default());
    };
    let compression = options.compression()?;
    // SAFETY: as promised by the caller.
    let directory = unsafe { pointers::text(options.directory) };
    let directory = directory.map(|name| {
        name.to_str().map(str::to_owned).ok_or(Fault::Argument("the image directory is no UTF-8 text"))
    });
    Ok(CheckpointOptions { directory: directory.transpose()?, compression })
}
