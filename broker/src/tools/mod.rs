//! `memcr policy ...` and `memcr audit ...`: commands of an administrator that need no daemon and no privilege.
//!
//! They read the files they are given, say what they found on standard output, and end.

mod audit;
mod policy;
mod subjects;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// The first words that mean one of these commands rather than the daemon.
const NAMES: [&str; 2] = ["policy", "audit"];

/// The command line of these commands.
#[derive(Debug, Parser)]
#[command(name = "memcr", disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
enum Tool {
    /// Check a policy file, or tell what it decides and why
    #[command(subcommand)]
    Policy(policy::Command),
    /// Check the chain of an audit log
    #[command(subcommand)]
    Audit(audit::Command),
}

/// Does what a command line asks for if it is one of these commands; its exit status.
pub(crate) fn run(line: &[OsString]) -> Option<ExitCode> {
    let first = line.get(1)?.to_str()?;
    if !NAMES.contains(&first) {
        return None;
    }
    Some(match Line::try_parse_from(line) {
        Ok(Line { tool: Tool::Policy(command) }) => policy::run(&command),
        Ok(Line { tool: Tool::Audit(command) }) => audit::run(&command),
        Err(error) => crate::cli::refuse(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Line::command().debug_assert();
    }
}
