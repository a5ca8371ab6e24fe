//! Runs a program on a kernel that has no pidfd_getfd(2): `without-pidfd-getfd PROGRAM ARGUMENTS...`.

use memcr_tests::sys::take_call_away;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().expect("a program is needed");
    take_call_away(libc::SYS_pidfd_getfd);
    let error = Command::new(program).args(words).exec();
    panic!("cannot execute it: {error}");
}
