//! Processes that sleep though nobody of memcr lives any more: what holds them is the guard, a userfaultfd among
//! their own descriptors.

use crate::error::{Error, Result};
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Descriptors that are looked at.
const LOOKS: usize = 2000;
/// Time for that. What the kernel tells of some descriptors is long, and nobody is to make us look for long.
const TIME: Duration = Duration::from_millis(50);

/// Whether a process may be one: it has a userfaultfd, or nobody can tell. A live thread of one whose first has
/// ended must not be traced either, which the others of memcr can't see.
pub(crate) fn may_be_asleep(directory: &ProcDirectory) -> bool {
    look(directory).unwrap_or(true)
}

fn look(directory: &ProcDirectory) -> Result<bool> {
    if !has_ended(directory)? {
        return has_userfaultfd(directory);
    }
    // a first thread that has ended has no descriptors (kernel fact 29)
    for tid in directory.first_numbers("task", LOOKS)?.into_iter().map(Pid::from_raw) {
        let thread = directory.thread(tid)?;
        if !has_ended(&thread)? {
            return Ok(Status::read(&thread)?.tracer != 0 || has_userfaultfd(&thread)?);
        }
    }
    Ok(false)
}

fn has_ended(thread: &ProcDirectory) -> Result<bool> {
    Ok(matches!(Status::read(thread)?.state, 'Z' | 'X'))
}

fn has_userfaultfd(thread: &ProcDirectory) -> Result<bool> {
    let numbers = thread.first_numbers("fdinfo", LOOKS + 1)?;
    if numbers.len() > LOOKS {
        return Ok(true);
    }
    let deadline = Instant::now() + TIME;
    for number in numbers {
        if Instant::now() >= deadline {
            return Ok(true);
        }
        match thread.text(&format!("fdinfo/{number}")) {
            Ok(text) if is_userfaultfd(&text) => return Ok(true),
            Ok(_) | Err(Error::System { cause: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether an fdinfo text is that of a userfaultfd.
pub(super) fn is_userfaultfd(fdinfo: &str) -> bool {
    let has = |name| fdinfo.lines().any(|line| line.starts_with(name));
    has("API:") && has("total:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_userfaultfd_is_known_by_what_it_tells() {
        assert!(is_userfaultfd("pos:\t0\nflags:\t02\npending:\t0\ntotal:\t3\nAPI:\taa:0:1ff\n"));
        assert!(!is_userfaultfd("pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t7\n"));
        assert!(!is_userfaultfd("pos:\t0\neventfd-count:\t0\neventfd-id:\t1\n"));
    }

    #[test]
    fn a_program_like_others_is_no_orphan_and_one_that_is_gone_can_not_be_told() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let directory = ProcDirectory::open(Pid::from_raw(child.id().try_into().unwrap())).unwrap();
        assert!(!may_be_asleep(&directory));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(may_be_asleep(&directory));
    }
}
