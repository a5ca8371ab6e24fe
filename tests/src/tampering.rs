//! Images that are changed behind the daemon's back, and targets that must not get to see it.

use crate::daemon::Daemon;
use crate::target::Target;
use crate::users::cast;
use crate::{content, procfs, wait};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;

/// Flips a bit of the byte at `offset`.
pub fn flip(file: &File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the image is that long");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("root may write the image");
}

/// The image of a sleeping target, to be read and written.
pub fn open_image(daemon: &Daemon, target: &Target) -> File {
    let path = daemon.images().join(format!("pages-{}.img", target.pid()));
    File::options().read(true).write(true).open(path).expect("root may open the image")
}

/// Puts a target to sleep, flips a bit in the middle of its image, and has it woken.
///
/// # Panics
/// When anything but its own content gets to the target's memory, or when it is not lost in the end.
pub fn assert_altered_memory_never_arrives(daemon: &Daemon) {
    const LENGTH: usize = 32 << 20;
    let mut target = Target::start(&cast().target, "sample-memory", &["32", "8", "2"]);
    let worker = Pid::from_raw(daemon.put_to_sleep(&target));
    let file = open_image(daemon, &target);
    flip(&file, file.metadata().expect("its size").len() / 2);

    // the target dies with its worker, which is held just before that
    let held = Held::at_its_end(worker);
    let restore = daemon.client().start_restore(target.pid());
    wait::until("the worker is about to end", || held.is_about_to_end());
    let start = u64::from_str_radix(target.fact("address").trim_start_matches("0x"), 16).expect("a number");
    let mut expected = vec![0; LENGTH];
    content::fill(&mut expected, 8);
    let page_size = procfs::page_size();
    // whole pages of it only: the rest of the others is other memory
    let first = start.next_multiple_of(page_size as u64);
    let pages = expected[(first - start) as usize..].chunks_exact(page_size);
    let mut missing = 0;
    for (index, content) in pages.enumerate() {
        let address = first + (index * page_size) as u64;
        match procfs::present_page(target.pid(), address) {
            Some(bytes) => assert!(bytes == content, "a wrong byte has reached the page at {address:#x}"),
            None => missing += 1,
        }
    }
    assert!(missing > 0, "all of its memory is back, the altered frame too");
    drop(held);
    restore.finish().expect_status(5).expect_words(&["image"]);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGKILL));
}

/// A worker that stops when it is about to end; it ends when this is dropped.
struct Held(Pid);

impl Held {
    fn at_its_end(worker: Pid) -> Self {
        ptrace::seize(worker, Options::PTRACE_O_TRACEEXIT).expect("root may trace a worker");
        Self(worker)
    }

    /// Whether it has come to its end; lets it go on until then.
    fn is_about_to_end(&self) -> bool {
        match waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).expect("a traced worker") {
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXIT) => return true,
            WaitStatus::StillAlive => {}
            WaitStatus::Stopped(_, signal) => ptrace::cont(self.0, signal).expect("it is stopped"),
            other => panic!("the worker did something else than end: {other:?}"),
        }
        false
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // before the target is waited for, whose end the worker must see first
        let _ = ptrace::detach(self.0, None);
    }
}
