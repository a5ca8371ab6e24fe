//! What a broker does that no broker of ours does, and ends of our own processes that no good one has, are put on record
//! by the privileged side itself: a captured broker can leave its own audit records out, but what is written here it can
//! neither see nor stop.
//!
//! A record is one line of JSON in one write to standard error; doc/audit.md has its members.

use crate::sys::poll;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// Version of the records, that of the audit log.
const SCHEMA: u32 = 1;

/// Records of one process. A launcher ends at the first violation; a worker goes on, and nobody may fill the
/// disk by it.
const MAX_RECORDS: u32 = 8;

/// Longest message in a record, in characters: with all of them escaped, a line is written to a pipe at once.
const MAX_MESSAGE: usize = 300;

/// How long a reader of standard error that is behind is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

static RECORDS: AtomicU32 = AtomicU32::new(0);
/// Id of this process.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Who was lied to, or whose fault it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// The launcher.
    Launcher,
    /// A worker.
    Worker,
}

/// Takes note of the id of this process, which a confined worker can't ask for any more.
pub(crate) fn know_process() {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
}

/// Puts a violation on record: the job or order that it was, if that could be made out, and what was wrong.
pub(crate) fn violation(role: Role, job: Option<&str>, message: &str) {
    if RECORDS.fetch_add(1, Ordering::Relaxed) >= MAX_RECORDS {
        return;
    }
    let event = match role {
        Role::Launcher => "launcher-violation",
        Role::Worker => "worker-violation",
    };
    let job = format!("\"job\":{},", job.map_or_else(|| "null".into(), quoted));
    write(&line(event, &now(), PROCESS.load(Ordering::Relaxed), &job, message));
}

/// Puts the end of a process by a fault of its own on record.
pub(crate) fn fault(role: Role, pid: Pid, message: &str) {
    let event = match role {
        Role::Launcher => "launcher-fault",
        Role::Worker => "worker-fault",
    };
    write(&line(event, &now(), pid.as_raw().unsigned_abs(), "", message));
}

/// Puts it on record that a worker was killed for a system call that it may not make.
pub(crate) fn forbidden_call(worker: Pid) {
    let message = "it was killed for a system call that it may not make: it was in strange hands, or has a grave fault. \
                   The kernel's log tells which call, where the kernel's audit is there";
    write(&line("worker-forbidden-call", &now(), worker.as_raw().unsigned_abs(), "", message));
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

fn write(line: &str) {
    let mut standard_error = std::io::stderr();
    let mut ready = [PollFd::new(standard_error.as_fd(), PollFlags::POLLOUT)];
    // nobody is left to be told if that fails
    if poll::wait(&mut ready, Some(PATIENCE)).is_ok_and(|ready| ready > 0) {
        let _ = standard_error.write_all(line.as_bytes());
    }
}

/// A record; `more` are further members, each with a comma behind it.
fn line(event: &str, time: &str, pid: u32, more: &str, message: &str) -> String {
    let message = quoted(message);
    format!(
        "{{\"schema\":{SCHEMA},\"time\":\"{time}\",\"event\":\"{event}\",\"pid\":{pid},{more}\"message\":{message}}}\n"
    )
}

/// A string of JSON, cut to the longest message. Whatever is no printable ASCII is escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars().take(MAX_MESSAGE) {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // writing to a string never fails
                    let _ = write!(quoted, "\\u{unit:04x}");
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_whatever_the_message_is() {
        let message = "a \"job\" \\ with\n\u{1b}[2J\u{7f}\u{202e} and \u{1f600} in it";
        let job = "\"job\":\"sleep\",";
        let line = line("launcher-violation", "2026-11-26T21:02:15.041151Z", 7, job, message);
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "time": "2026-11-26T21:02:15.041151Z", "event": "launcher-violation", "pid": 7,
            "job": "sleep", "message": message,
        });
        assert_eq!(record, expected);
        assert!(
            line.ends_with("}\n") && line.trim_end().chars().all(|character| matches!(character, ' '..='~'))
        );
    }

    #[test]
    fn the_longest_record_is_written_to_a_pipe_at_once() {
        // two escapes each
        let message = "\u{1f600}".repeat(100_000);
        let longest = line("worker-violation", &"x".repeat(27), u32::MAX, "\"job\":null,", &message);
        assert!(longest.len() <= libc::PIPE_BUF, "{} bytes", longest.len());
        let text: serde_json::Value = serde_json::from_str(&longest).unwrap();
        assert!(text["job"].is_null() && text["message"].as_str().unwrap().chars().count() == MAX_MESSAGE);
    }
}
