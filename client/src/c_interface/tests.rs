//! The C functions as C calls them, in this process; daemons are pretended.

#![allow(unsafe_code, reason = "calls of C functions")]

use super::codes::{MemcrCode, MemcrCompression};
use super::guard::lock;
use super::original::{
    memcr_client_checkpoint, memcr_client_connect, memcr_client_disconnect, memcr_client_restore,
};
use super::ours::{
    MemcrConnection, memcr_checkpoint, memcr_close, memcr_code_name, memcr_error_message, memcr_open,
    memcr_restore, memcr_status,
};
use super::structures::{MemcrCheckpointOptions, MemcrSleepResult, MemcrStatusResult, MemcrWakeResult};
use crate::fake::{Answer, FakeDaemon, woken};
use crate::{Checksum, Code, Failure, WakeReport};
use memcr_protocol::client::Completion;
use std::ffi::{CStr, CString, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::{Mutex, MutexGuard};

/// The table of descriptors is this process's: a number that one test has given back is another's at once.
static TABLE_TESTS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    lock(&TABLE_TESTS)
}

fn text(daemon: &FakeDaemon) -> CString {
    CString::new(daemon.location().to_string()).unwrap()
}

fn connect(daemon: &FakeDaemon) -> c_int {
    // SAFETY: a text.
    let cd = unsafe { memcr_client_connect(text(daemon).as_ptr()) };
    assert!(cd >= 0, "cannot connect");
    cd
}

fn open(daemon: &FakeDaemon) -> *mut MemcrConnection {
    let mut connection = ptr::null_mut();
    // SAFETY: a text and a place.
    let code = unsafe { memcr_open(text(daemon).as_ptr(), 0, &raw mut connection) };
    assert_eq!(code, MemcrCode::Ok);
    connection
}

fn message(connection: *const MemcrConnection) -> String {
    // SAFETY: a connection or null; the text is copied.
    unsafe { CStr::from_ptr(memcr_error_message(connection)) }.to_str().unwrap().to_owned()
}

#[test]
fn the_four_functions_give_the_numbers_of_the_wire() {
    let _alone = alone();
    let daemon = FakeDaemon::tcp([0, 0, -1, -2, -2].map(Answer::Number).to_vec());
    let cd = connect(&daemon);
    let answers = [
        memcr_client_checkpoint(cd, 7),
        memcr_client_restore(cd, 7),
        memcr_client_checkpoint(cd, 7),
        memcr_client_checkpoint(cd, 7),
        memcr_client_restore(cd, 7),
    ];
    assert_eq!(answers, [0, 0, -1, -2, -2]);
    memcr_client_disconnect(cd);
    assert_eq!(memcr_client_restore(cd, 7), -1, "it is not disconnected");
}

#[test]
fn what_is_no_connection_or_no_process_is_an_error() {
    let _alone = alone();
    let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
    let cd = connect(&daemon);
    for pid in [0, i32::MAX as u32 + 1, u32::MAX] {
        assert_eq!((memcr_client_checkpoint(cd, pid), memcr_client_restore(cd, pid)), (-1, -1), "{pid}");
    }
    for other in [-1, 0, 1, c_int::MAX, c_int::MIN] {
        assert_eq!((memcr_client_checkpoint(other, 7), memcr_client_restore(other, 7)), (-1, -1), "{other}");
        memcr_client_disconnect(other);
    }
    assert_eq!(memcr_client_restore(cd, 7), 0);
    memcr_client_disconnect(cd);
    for location in [c"", c"0", c"99999", c"/no/such/place", c"::1:9000"] {
        // SAFETY: a text.
        assert_eq!(unsafe { memcr_client_connect(location.as_ptr()) }, -1, "{location:?}");
    }
    // SAFETY: null is an error, and no more.
    assert_eq!(unsafe { memcr_client_connect(ptr::null()) }, -1);
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_made_again_under_its_descriptor() {
    let _alone = alone();
    let done = || vec![Ok(Completion::Awake(woken()))];
    let daemon = FakeDaemon::framed(vec![done(), done()]);
    let cd = connect(&daemon);
    for _ in 0..2 {
        assert_eq!(memcr_client_restore(cd, std::process::id()), 0);
        // SAFETY: the descriptor is open until it is disconnected below.
        daemon.wait_until_closed(unsafe { std::os::fd::BorrowedFd::borrow_raw(cd) });
    }
    memcr_client_disconnect(cd);
}

#[test]
fn a_slow_request_does_not_hold_up_another_connection() {
    let _alone = alone();
    let slow = FakeDaemon::tcp(vec![Answer::Silence]);
    let quick = FakeDaemon::tcp([0; 3].map(Answer::Number).to_vec());
    let slow_cd = connect(&slow);
    let waiting = std::thread::spawn(move || memcr_client_checkpoint(slow_cd, 7));
    slow.received();
    let cd = connect(&quick);
    assert_eq!((memcr_client_checkpoint(cd, 7), memcr_client_restore(cd, 7)), (0, 0));
    memcr_client_disconnect(cd);
    assert!(!waiting.is_finished());
    // nor is it cut off by its own end
    memcr_client_disconnect(slow_cd);
    assert!(!waiting.is_finished());
    drop(slow);
    assert_eq!(waiting.join().unwrap(), -1);
}

#[test]
fn a_descriptor_that_the_program_gave_to_another_file_is_left_alone() {
    let _alone = alone();
    let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
    let cd = connect(&daemon);
    let (mut reader, writer) = UnixStream::pair().unwrap();
    // SAFETY: open, and closed by nobody else in what follows, since it is ours no more.
    let mut number = unsafe { OwnedFd::from_raw_fd(cd) };
    rustix::io::dup2(&writer, &mut number).unwrap();
    drop(writer);
    assert_eq!(memcr_client_restore(cd, 7), -1);
    memcr_client_disconnect(cd);
    let mut file = File::from(number);
    file.write_all(b"x").expect("the program's own file was closed");
    drop(file);
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"x");
    assert_eq!(daemon.received_so_far(), None);
}

#[test]
fn a_failure_has_a_code_and_a_sentence_and_a_success_has_none() {
    let failure = Failure::new(Code::Denied, "the policy denies it");
    let daemon = FakeDaemon::framed(vec![vec![Err(failure), Ok(Completion::Awake(woken()))]]);
    let connection = open(&daemon);
    let pid = c_int::try_from(std::process::id()).unwrap();
    // SAFETY: a connection, and no structures.
    let restore = || unsafe { memcr_restore(connection, pid, ptr::null_mut()) };
    assert_eq!((restore(), message(connection).as_str()), (MemcrCode::Denied, "the policy denies it"));
    assert_eq!((restore(), message(connection).as_str()), (MemcrCode::Ok, ""));
    // SAFETY: open until now.
    unsafe { memcr_close(connection) };
}

#[test]
fn a_result_has_the_figures_and_the_checksum() {
    let report = WakeReport { restored: 3, checksum: Some(Checksum([0xab; 16])), ..woken() };
    let daemon = FakeDaemon::framed(vec![vec![Ok(Completion::Awake(report))]]);
    let connection = open(&daemon);
    let mut result: MemcrWakeResult = None.into();
    result.size = 80;
    let pid = c_int::try_from(std::process::id()).unwrap();
    // SAFETY: a connection and a structure with its size.
    let code = unsafe { memcr_restore(connection, pid, &raw mut result) };
    assert_eq!((code, result.size, result.restored), (MemcrCode::Ok, 80, 3));
    // SAFETY: a zero byte follows.
    let checksum = unsafe { CStr::from_ptr(result.checksum.as_ptr()) };
    assert_eq!(checksum.to_str().unwrap(), "ab".repeat(16));
    // SAFETY: open until now.
    unsafe { memcr_close(connection) };
}

#[test]
fn a_connection_that_can_not_be_made_tells_why_and_is_tried_again() {
    let mut connection = ptr::null_mut();
    // SAFETY: a text and a place.
    let code = unsafe { memcr_open(c"/no/such/place".as_ptr(), 1, &raw mut connection) };
    assert_eq!(code, MemcrCode::NotConnected);
    assert!(message(connection).contains("/no/such/place"), "{}", message(connection));
    // SAFETY: a connection, and no structures.
    let code = unsafe { memcr_restore(connection, 7, ptr::null_mut()) };
    assert_eq!(code, MemcrCode::NotConnected);
    // SAFETY: open until now.
    unsafe { memcr_close(connection) };
}

#[test]
fn over_tcp_there_are_no_figures_and_no_state() {
    let daemon = FakeDaemon::tcp([0, -1].map(Answer::Number).to_vec());
    let connection = open(&daemon);
    let options = MemcrCheckpointOptions {
        size: u32::try_from(size_of::<MemcrCheckpointOptions>()).unwrap(),
        compression: MemcrCompression::Zstd as i32,
        directory: c"/a".as_ptr(),
    };
    let mut result: MemcrSleepResult = None.into();
    result.size = 136;
    result.pages = 99;
    // SAFETY: a connection, and structures with their sizes.
    let code = unsafe { memcr_checkpoint(connection, 7, &raw const options, &raw mut result) };
    assert_eq!((code, result.pages, result.guard), (MemcrCode::Ok, 0, 0));
    assert_eq!(daemon.received().len(), 8 + 8 + 4 + 3 + 8);
    // SAFETY: a connection, and no structures.
    let code = unsafe { memcr_restore(connection, 7, ptr::null_mut()) };
    assert_eq!(code, MemcrCode::NotDone);
    // SAFETY: a connection, and no structures.
    let code = unsafe { memcr_status(connection, 7, ptr::null_mut(), ptr::null_mut()) };
    assert_eq!(code, MemcrCode::Unsupported);
    assert!(message(connection).contains("UNIX socket"), "{}", message(connection));
    // SAFETY: open until now.
    unsafe { memcr_close(connection) };
}

#[test]
fn wrong_structures_are_refused_before_anything_is_sent() {
    let daemon = FakeDaemon::tcp(vec![Answer::Number(0)]);
    let connection = open(&daemon);
    let size = u32::try_from(size_of::<MemcrCheckpointOptions>()).unwrap();
    let options = MemcrCheckpointOptions { size, compression: 0, directory: ptr::null() };
    let mut status = MemcrStatusResult { size: 0, state: 0, pid: 0, uid: 0, since_seconds: 0 };
    let mut sleep: MemcrSleepResult = None.into();
    let mut wake: MemcrWakeResult = None.into();
    let checkpoint = |options: MemcrCheckpointOptions| {
        // SAFETY: a connection, and a structure that is read no further than its size.
        unsafe { memcr_checkpoint(connection, 7, &raw const options, ptr::null_mut()) }
    };
    assert_eq!(checkpoint(MemcrCheckpointOptions { size: 0, ..options }), MemcrCode::InvalidArgument);
    assert!(message(connection).contains("sizeof"), "{}", message(connection));
    assert_eq!(checkpoint(MemcrCheckpointOptions { compression: 99, ..options }), MemcrCode::Unsupported);
    let no_text = c"\xff".as_ptr();
    assert_eq!(
        checkpoint(MemcrCheckpointOptions { directory: no_text, ..options }),
        MemcrCode::InvalidArgument
    );
    // SAFETY: a connection, and structures without a size.
    let codes = unsafe {
        [
            memcr_checkpoint(connection, 7, ptr::null(), &raw mut sleep),
            memcr_restore(connection, 7, &raw mut wake),
            memcr_status(connection, 7, &raw mut status, ptr::null_mut()),
            memcr_status(connection, 7, ptr::null_mut(), &raw mut sleep),
        ]
    };
    assert_eq!(codes, [MemcrCode::InvalidArgument; 4]);
    assert_eq!(daemon.received_so_far(), None);
    // SAFETY: open until now.
    unsafe { memcr_close(connection) };
}

#[test]
fn null_pointers_are_errors() {
    let mut connection = ptr::NonNull::dangling().as_ptr();
    // SAFETY: null is an error, and no more.
    unsafe {
        assert_eq!(memcr_open(c"/s".as_ptr(), 0, ptr::null_mut()), MemcrCode::InvalidArgument);
        assert_eq!(memcr_open(ptr::null(), 0, &raw mut connection), MemcrCode::InvalidArgument);
        assert!(connection.is_null());
        let (none, null) = (ptr::null_mut(), MemcrCode::InvalidArgument);
        assert_eq!(memcr_checkpoint(none, 7, ptr::null(), ptr::null_mut()), null);
        assert_eq!(memcr_restore(none, 7, ptr::null_mut()), null);
        assert_eq!(memcr_status(none, 7, ptr::null_mut(), ptr::null_mut()), null);
        memcr_close(none);
    }
    assert!(message(ptr::null()).contains("NULL"));
}

#[test]
fn codes_have_names_and_other_numbers_are_unknown() {
    // SAFETY: texts that last.
    let name = |code| unsafe { CStr::from_ptr(memcr_code_name(code)) }.to_str().unwrap();
    assert_eq!((name(0), name(4), name(104)), ("ok", "already-asleep", "not-done"));
    for code in [-1, 16, 99, 105, i32::MAX] {
        assert_eq!(name(code), "unknown");
    }
}
