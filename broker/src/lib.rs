//! The broker: the `memcr` command, which listens, names clients, orders operations and records
//! them, and has no privilege left when it does.
//!
//! | folder | when |
//! |---|---|
//! | `startup` | what is opened, made and started while there still are privileges |
//! | `confine` | giving them up |
//! | `serve` | serving clients: the event loop |
//! | `audit` | the record of every request |
//! | `probe` | before all that: what this kernel has |
//! | `tools` | never: commands of an administrator beside the daemon |
//!
//! `service` and `one_shot` put these together, `sys` holds all `unsafe`. Nothing here reads or
//! writes a target or an image: that is for the workers, which `memcr-worker` forks.

mod arch;
mod audit;
pub mod cli;
mod confine;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod one_shot;
mod probe;
mod render;
mod serve;
mod service;
mod standard_error;
mod startup;
mod sys;
mod tools;

use cli::Arguments;
use standard_error::StandardError;
use startup::activation::Passed;
use std::process::ExitCode;
use tracing::Level;

/// Does what the command line of this process asks for, and returns the exit status.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(feature = "drill")]
    memcr_drill::begin();
    let line: Vec<_> = std::env::args_os().collect();
    tools::run(&line).unwrap_or_else(|| match cli::parse() {
        Ok(arguments) if arguments.probe => probe::run(arguments.json),
        Ok(arguments) => run(&arguments),
        Err(status) => status,
    })
}

/// Does what the command line of the daemon asks for, and returns the exit status.
fn run(arguments: &Arguments) -> ExitCode {
    let passed = Passed::from_environment();
    sys::descriptors::close_inherited(passed.count());
    start_log(arguments);
    let outcome = match arguments.pid {
        Some(pid) => one_shot::run(pid, arguments, passed),
        None => service::run(arguments, passed),
    };
    outcome.unwrap_or_else(|error| {
        render::failure(&error);
        ExitCode::from(error.exit_status())
    })
}

/// The operational log: plain lines on standard error. The audit log is its own thing.
fn start_log(arguments: &Arguments) {
    let level = match (arguments.verbose, arguments.pid) {
        (true, _) => Level::DEBUG,
        (false, None) => Level::INFO,
        (false, Some(_)) => Level::WARN,
    };
    let log = tracing_subscriber::fmt().with_writer(|| StandardError).with_ansi(false).with_target(false);
    // fails if there is one already, as in tests
    let _ = log.log_internal_errors(false).with_max_level(level).try_init();
}
