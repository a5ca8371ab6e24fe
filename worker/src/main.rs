//! `memcr-worker`: started by `memcr` only, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcr_worker::launcher::run()
}
