//! Descriptors that the parasite opens for us and sends: verified, since a hostile target may hand over
//! anything.

use crate::error::{Error, Result};
use crate::sys::error_of;
use crate::sys::status;
use crate::sys::userfaultfd;
use crate::target::proc_directory::ProcDirectory;
use crate::trace::parasite::Parasite;
use crate::trace::tracees::Tracees;
use memcr_protocol::parasite::CLOSE;
use nix::fcntl::{AT_FDCWD, readlinkat};
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

/// What is needed of the target once we are confined.
pub(crate) struct Handles {
    /// Its memory.
    pub(crate) memory: File,
    /// Its page map.
    pub(crate) pagemap: File,
    /// A userfaultfd of its memory.
    pub(crate) guard: OwnedFd,
    /// Whether that one also guards against the kernel's own accesses.
    pub(crate) guard_is_full: bool,
    /// Its list of mappings.
    pub(crate) smaps: File,
    /// Its status.
    pub(crate) status: File,
}

/// Lets the parasite open them and takes them.
pub(super) fn take(
    parasite: &mut Parasite,
    tracees: &mut Tracees,
    live: &ProcDirectory,
    device: Option<BorrowedFd<'_>>,
    is_protected: bool,
) -> Result<Handles> {
    let mut passed = vec![live.descriptor().as_raw_fd()];
    passed.extend(device.map(|device| device.as_raw_fd()));
    let (answer, descriptors) = parasite.open(tracees, &passed, is_protected)?;
    if answer.status != 0 {
        return Err(refusal(tracees, answer.done, answer.status));
    }
    let [_, _, number, full] = answer.numbers;
    parasite.set_guard(number);
    let [memory, pagemap, guard] =
        <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| not_what_was_asked_for(tracees))?;
    let handles = Handles {
        memory: memory.into(),
        pagemap: pagemap.into(),
        guard,
        guard_is_full: full == 1,
        smaps: live.file("smaps")?,
        status: live.file("status")?,
    };
    verify(&handles, live, tracees)?;
    parasite.order(tracees, CLOSE, &[])?;
    userfaultfd::enable(handles.guard.as_fd()).map_err(Error::system("enabling", "the userfaultfd"))?;
    Ok(handles)
}

fn verify(handles: &Handles, live: &ProcDirectory, tracees: &Tracees) -> Result<()> {
    let same_file = |file: &File, name: &str| -> Result<bool> {
        let ours = status::of(file).map_err(Error::system("looking at", name))?;
        let real = live.stat(name)?;
        Ok((ours.st_dev, ours.st_ino) == (real.st_dev, real.st_ino))
    };
    let link = readlinkat(AT_FDCWD, format!("/proc/self/fd/{}", handles.guard.as_raw_fd()).as_str());
    let link = link.unwrap_or_default();
    if same_file(&handles.memory, "mem")?
        && same_file(&handles.pagemap, "pagemap")?
        && link.to_str() == Some("anon_inode:[userfaultfd]")
    {
        Ok(())
    } else {
        Err(not_what_was_asked_for(tracees))
    }
}

fn not_what_was_asked_for(tracees: &Tracees) -> Error {
    Error::Refused {
        pid: tracees.pid().as_raw(),
        reason: "it handed over a descriptor that is not what was asked for".into(),
    }
}

/// Why the parasite could not open something.
fn refusal(tracees: &Tracees, step: u64, status: i64) -> Error {
    let cause = error_of(status);
    let what = match step {
        1 => "receive its /proc directory",
        2 => "open its own memory",
        3 => "open its own page map",
        5 => "hand over what it has opened",
        _ => "make a userfaultfd (Linux 5.11 and CONFIG_USERFAULTFD are needed)",
    };
    Error::Refused { pid: tracees.pid().as_raw(), reason: format!("it can't {what}: {}", cause.desc()) }
}
