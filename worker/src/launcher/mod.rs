//! The launcher: holds CAP_SYS_PTRACE, parses nothing but jobs, forks a worker for each.
//!
//! It has no landlock domain, since that would forbid ptrace to its children (kernel fact 2).

mod filter;
mod naming;
mod policy;
mod serve;
mod setup;
mod ward;

use crate::sys::descriptors;
use std::os::fd::RawFd;
use std::process::ExitCode;

/// Descriptor of the job socket in this process, agreed with the broker.
const JOBS: RawFd = 3;

/// Serves the broker that started this process until it is gone and every target is awake.
#[must_use]
pub fn run() -> ExitCode {
    let Ok(jobs) = descriptors::inherited(JOBS) else {
        return complain("memcr-worker is started by memcr, not by hand");
    };
    match setup::prepare(&jobs).and_then(|mut setup| serve::serve(&jobs, &mut setup)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            setup::tell_failure(&jobs, &error);
            complain(&error.to_string())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last words, when nobody else can be told")]
fn complain(sentence: &str) -> ExitCode {
    eprintln!("memcr-worker: {sentence}");
    ExitCode::FAILURE
}
