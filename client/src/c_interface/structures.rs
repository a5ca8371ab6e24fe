//! Structures that C programs share with this library. Each begins with its size, so that it can grow at its end:
//! a program and a library of different versions understand each other.

use super::codes::{MemcrCompression, MemcrGuard, MemcrState};
use super::session::Fault;
use crate::{Checksum, Compression, Entry, SleepReport, WakeReport};
use std::ffi::c_char;

/// How to put a process to sleep. A member that is zero means: as the daemon does by default.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemcrCheckpointOptions {
    /// sizeof(memcr_checkpoint_options).
    pub size: u32,
    /// How the image is compressed: one of enum memcr_compression.
    pub compression: i32,
    /// One of the daemon's image directories, as it was given to the daemon; its first if NULL.
    pub directory: *const c_char,
}

/// A process that was put to sleep. Sizes are bytes, times are microseconds. Over TCP nothing is reported: all
/// is zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemcrSleepResult {
    /// sizeof(memcr_sleep_result); to be set before the call.
    pub size: u32,
    /// Threads frozen.
    pub threads: u32,
    /// One of enum memcr_guard.
    pub guard: i32,
    /// Zero.
    pub reserved: u32,
    /// Anonymous resident memory before.
    pub rss_before: u64,
    /// Anonymous resident memory asleep.
    pub rss_asleep: u64,
    /// Memory taken away, pages of zeros included.
    pub dumped: u64,
    /// Memory taken away that was all zero and takes no bytes of the image.
    pub zero: u64,
    /// Pages taken away.
    pub pages: u64,
    /// Size of the image.
    pub image: u64,
    /// Memory of mapped files that was dropped besides; it comes back from the files.
    pub file_dropped: u64,
    /// From the request to all threads frozen.
    pub attach_micros: u64,
    /// Writing the image.
    pub dump_micros: u64,
    /// Guarding and freeing the pages.
    pub free_micros: u64,
    /// MD5 of the memory in hexadecimal; empty unless the daemon makes checksums.
    pub checksum: [c_char; 40],
}

/// A process that was woken. Sizes are bytes, times are microseconds. Over TCP nothing is reported: all is zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemcrWakeResult {
    /// sizeof(memcr_wake_result); to be set before the call.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Memory given back, pages of zeros included.
    pub restored: u64,
    /// Pages given back.
    pub pages: u64,
    /// Anonymous resident memory after.
    pub rss_after: u64,
    /// From the order to the process running on.
    pub restore_micros: u64,
    /// MD5 of the memory in hexadecimal, which was compared before any of it was given back; empty if the
    /// image has none.
    pub checksum: [c_char; 40],
}

/// The state of a process.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemcrStatusResult {
    /// sizeof(memcr_status_result); to be set before the call.
    pub size: u32,
    /// One of enum memcr_state.
    pub state: i32,
    /// Its number for the daemon.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Seconds since this state began.
    pub since_seconds: u64,
}

impl MemcrCheckpointOptions {
    /// The compression that is asked for; an unknown number may be one of a later version.
    pub(super) fn compression(&self) -> Result<Option<Compression>, Fault> {
        let unknown = Fault::Unknown("that compression is not known: take one of enum memcr_compression");
        MemcrCompression::of(self.compression).ok_or(unknown)
    }
}

impl From<Option<&SleepReport>> for MemcrSleepResult {
    fn from(report: Option<&SleepReport>) -> Self {
        let figure = |of: fn(&SleepReport) -> u64| report.map_or(0, of);
        Self {
            size: 0,
            threads: report.map_or(0, |report| report.threads),
            guard: report.map_or(MemcrGuard::Unknown, |report| report.guard.into()) as i32,
            reserved: 0,
            rss_before: figure(|report| report.rss_before),
            rss_asleep: figure(|report| report.rss_asleep),
            dumped: figure(|report| report.dumped),
            zero: figure(|report| report.zero),
            pages: figure(|report| report.pages),
            image: figure(|report| report.image),
            file_dropped: figure(|report| report.file_dropped),
            attach_micros: figure(|report| report.attach_micros),
            dump_micros: figure(|report| report.dump_micros),
            free_micros: figure(|report| report.free_micros),
            checksum: text(report.and_then(|report| report.checksum)),
        }
    }
}

impl From<Option<&WakeReport>> for MemcrWakeResult {
    fn from(report: Option<&WakeReport>) -> Self {
        let figure = |of: fn(&WakeReport) -> u64| report.map_or(0, of);
        Self {
            size: 0,
            reserved: 0,
            restored: figure(|report| report.restored),
            pages: figure(|report| report.pages),
            rss_after: figure(|report| report.rss_after),
            restore_micros: figure(|report| report.restore_micros),
            checksum: text(report.and_then(|report| report.checksum)),
        }
    }
}

impl From<&Entry> for MemcrStatusResult {
    fn from(entry: &Entry) -> Self {
        Self {
            size: 0,
            state: MemcrState::from(entry.state) as i32,
            pid: entry.pid,
            uid: entry.uid,
            since_seconds: entry.since_seconds,
        }
    }
}

/// A checksum as a text of C; the place is longer than it, so that a zero byte follows.
fn text(checksum: Option<Checksum>) -> [c_char; 40] {
    let text = checksum.map_or(String::new(), |checksum| checksum.to_string());
    let mut place = [0; 40];
    for (to, from) in place.iter_mut().zip(text.bytes()) {
        // hexadecimal digits are ASCII
        *to = c_char::try_from(from).unwrap_or(0);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_a_text_that_ends() {
        let place = text(Some(Checksum([0xab; 16])));
        let (digits, rest) = place.split_at(32);
        let digits: String =
            digits.iter().map(|digit| char::from(u8::from_ne_bytes(digit.to_ne_bytes()))).collect();
        assert_eq!(digits, "ab".repeat(16));
        assert_eq!(rest, [0; 8]);
        assert_eq!(text(None), [0; 40]);
    }
}
