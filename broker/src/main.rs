//! The `memcr` command; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcr_broker::main()
}
