//! The `memcr` command; see the library.

use memcr_broker::{cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(arguments) => run(&arguments),
        Err(status) => status,
    }
}
