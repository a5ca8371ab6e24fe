//! Unit tests of our programs, built for the architecture of this guest: of what only that architecture has.

use std::process::Command;

/// Where they are.
const PLACE: &str = "/programs/units";

/// What is tested: registers, signal frames and code of the architecture, filters, which name its system calls, and files that are long for 32 bits.
const NAMES: [&str; 4] = ["arch::", "filter", "seccomp", "longer_than_2_gib"];

/// Runs them all; ends this process.
///
/// # Panics
/// When there are none.
pub fn run_units() -> ! {
    let programs = std::fs::read_dir(PLACE).expect("no unit tests are here");
    let mut failed = 0;
    let mut count = 0;
    for program in programs {
        let path = program.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let status = Command::new(&path).args(["--test-threads", "1"]).args(NAMES).status();
        let passed = status.is_ok_and(|status| status.success());
        println!("TEST units of {name}: {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
        count += 1;
    }
    assert!(count > 0, "no unit tests are here");
    std::process::exit(i32::from(failed > 0))
}
