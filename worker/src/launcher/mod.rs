//! The launcher: holds CAP_SYS_PTRACE, parses nothing but jobs, forks a worker for each.
//!
//! It has no landlock domain, since that would forbid ptrace to its children (kernel fact 2).

mod filter;
mod naming;
mod policy;
mod serve;
mod setup;
mod ward;

use crate::error::Error;
use crate::record::{self, Role};
use crate::sys::descriptors;
use nix::unistd::Pid;
use std::os::fd::RawFd;
use std::process::ExitCode;

/// Descriptor of the job socket in this process, agreed with the broker.
const JOBS: RawFd = 3;

/// Serves the broker that started this process until it is gone and every target is awake.
#[must_use]
pub fn run() -> ExitCode {
    #[cfg(feature = "drill")]
    {
        crate::drill::begin();
        crate::drill::know("launcher", &std::process::id().to_string());
    }
    record::know_process();
    let Ok(jobs) = descriptors::inherited(JOBS) else {
        return complain("memcr-worker is started by memcr, not by hand");
    };
    let mut setup = match setup::prepare(&jobs) {
        Ok(setup) => setup,
        Err(error) => {
            let is_on_record = serve::put_on_record(&error);
            setup::part(&jobs, &error);
            return if is_on_record { ExitCode::FAILURE } else { complain(&error.to_string()) };
        }
    };
    match serve::serve(&jobs, &mut setup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Fault(_)) => {
            record::fault(Role::Launcher, Pid::this(), &error.to_string());
            setup::part(&jobs, &error);
            ExitCode::FAILURE
        }
        // it was put on record when it happened
        Err(Error::Violation { .. }) => ExitCode::FAILURE,
        Err(error) => {
            setup::part(&jobs, &error);
            complain(&error.to_string())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last words, when nobody else can be told")]
fn complain(sentence: &str) -> ExitCode {
    eprintln!("memcr-worker: {sentence}");
    ExitCode::FAILURE
}
