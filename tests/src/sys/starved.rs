//! A process that gets a processor only when nobody else wants it, which is hardly ever.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};

/// A process on one processor with one that never rests; both go on as usual when this is dropped.
#[derive(Debug)]
pub struct Starved {
    pid: i32,
    rival: Child,
}

impl Starved {
    /// Starves a process with one thread.
    pub fn new(pid: i32) -> Self {
        let mut rival = Command::new("/bin/sh");
        rival.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        let rival = rival.spawn().expect("cannot start a shell");
        let mut only = CpuSet::new();
        only.set(0).expect("there is a processor");
        for pid in [i32::try_from(rival.id()).expect("a pid"), pid] {
            sched_setaffinity(Pid::from_raw(pid), &only).expect("root may say where it runs");
        }
        set_policy(pid, libc::SCHED_IDLE);
        Self { pid, rival }
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        let _ = self.rival.kill();
        let _ = self.rival.wait();
        set_policy(self.pid, libc::SCHED_OTHER);
    }
}

fn set_policy(pid: i32, policy: i32) {
    // SAFETY: all zeros are a valid structure, and the right one for these policies.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel only reads the parameters.
    let outcome = unsafe { libc::sched_setscheduler(pid, policy, &raw const parameters) };
    assert_eq!(outcome, 0, "sched_setscheduler");
}
