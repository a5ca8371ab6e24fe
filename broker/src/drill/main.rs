//! The `memcr` command with an attacker in it; see the module `drill` of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcr_broker::main()
}
