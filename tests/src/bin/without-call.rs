//! Runs a program on a kernel that lacks a system call: `without-call NAME PROGRAM ARGUMENTS...`.

use memcr_tests::sys::take_call_away;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let name = words.next().expect("the name of a call is needed");
    take_call_away(match name.to_str() {
        Some("pidfd_getfd") => libc::SYS_pidfd_getfd,
        Some("landlock_create_ruleset") => libc::SYS_landlock_create_ruleset,
        Some("landlock_restrict_self") => libc::SYS_landlock_restrict_self,
        Some("seccomp") => libc::SYS_seccomp,
        _ => panic!("no such call is known here"),
    });
    let program = words.next().expect("a program is needed");
    let error = Command::new(program).args(words).exec();
    panic!("cannot execute it: {error}");
}
