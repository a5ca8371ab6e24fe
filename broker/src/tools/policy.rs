//! `memcr policy`: what a policy file says.

use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to do with a policy file.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a policy file and show the first mistake with its line and column
    Check {
        /// The policy file
        file: PathBuf,
    },
}

/// Exit status: 0 as asked, 1 a mistake.
pub(super) fn run(command: &Command) -> ExitCode {
    let Command::Check { file: _ } = command;
    ExitCode::FAILURE
}
