//! Pid namespaces to start processes in.

use crate::target::Target;
use crate::{procfs, wait};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::{Child, Command, Stdio};

/// A pid namespace with a first process that does nothing; all in it are killed when dropped.
#[derive(Debug)]
pub struct PidNamespace {
    /// `unshare`, which stays outside.
    outside: Child,
    file: File,
}

impl PidNamespace {
    /// One below that of the test.
    pub fn new() -> Self {
        Self::of(command().spawn().expect("cannot run unshare"))
    }

    /// One below this one.
    pub fn nested(&self) -> Self {
        Self::of(self.spawn(command()))
    }

    fn of(outside: Child) -> Self {
        let unshare = i32::try_from(outside.id()).expect("a pid is an i32");
        let first = wait::until_some("the first process is there", wait::BOUND, || {
            procfs::children(unshare).first().copied()
        });
        let file = File::open(format!("/proc/{first}/ns/pid")).expect("root may open it");
        Self { outside, file }
    }

    /// Has children of this thread be in it, for good.
    ///
    /// # Panics
    /// When this process isn't root's.
    pub fn enter(&self) {
        setns(&self.file, CloneFlags::CLONE_NEWPID).expect("root may enter it");
    }

    /// Starts a target in it.
    pub fn start(&self, mut command: Command) -> Target {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Target::of(self.spawn(command))
    }

    fn spawn(&self, mut command: Command) -> Child {
        // of a thread of its own, since it can't come back
        std::thread::scope(|scope| {
            let spawned = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWPID).expect("root may enter it");
                command.spawn().expect("cannot start a process")
            });
            spawned.join().expect("it starts")
        })
    }
}

impl Default for PidNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        let _ = self.outside.kill();
        let _ = self.outside.wait();
    }
}

fn command() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--", "sleep", "infinity"]).stdin(Stdio::null());
    command
}
