//! The first process of a guest: a machine of its own, in which the core of the end-to-end tests meets one kernel of one
//! architecture (tests/guests).
//!
//! It says on the console what it does: `TEST name: ok` or `FAILED` for each case, `PROBE` lines, and `DONE` at the end.
//! Under the name `setpriv` it is as much of that program as the tests need, which the guest has no other of.

use memcr_tests::binaries::PROGRAMS;
use memcr_tests::guest;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, wait};
use std::path::Path;
use std::process::Command;

fn main() {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    match (name.rsplit('/').next(), words.next().as_deref()) {
        (Some("setpriv"), _) => guest::setpriv(),
        (_, Some("cases")) => guest::run_cases(),
        (_, Some("units")) => guest::run_units(),
        _ if std::process::id() == 1 => init(),
        _ => {
            eprintln!("guest: the first process of a guest of tests/guests; nothing else can use it");
            std::process::exit(2);
        }
    }
}

/// Makes the machine ready, has the cases run, or the unit tests if the kernel's command line asks for them, and switches it off.
fn init() -> ! {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        std::fs::create_dir_all(place).expect("cannot make a directory");
        mount(Some(kind), Path::new(place), Some(kind), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|error| println!("cannot mount {place}: {error}"));
    }
    println!("BOOTED");
    let mut command = Command::new("/proc/self/exe");
    let asked = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let what = if asked.split_whitespace().any(|word| word == "memcr.units") { "units" } else { "cases" };
    let child = command.arg(what).env("PATH", "/usr/bin").env(PROGRAMS, "/programs").spawn();
    let child = child.expect("cannot start this program again").id();
    // everybody whose parent has ended is a child of this process
    let passed = loop {
        match wait().expect("there is a child") {
            WaitStatus::Exited(pid, status) if pid.as_raw().unsigned_abs() == child => break status == 0,
            WaitStatus::Signaled(pid, ..) if pid.as_raw().unsigned_abs() == child => break false,
            _ => {}
        }
    };
    println!("DONE {}", if passed { "ok" } else { "FAILED" });
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1)
}
