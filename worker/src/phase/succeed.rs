//! A worker has died: its successor takes the target back, restores what was freed and removes what
//! was left in it.

use crate::channel::{Broker, Launcher};
use crate::confine;
use crate::error::{Error, Result};
use crate::image::Key;
use crate::phase::asleep::Asleep;
use crate::phase::restore::restore;
use crate::sys::poll;
use crate::target::facts;
use crate::target::mappings;
use crate::target::proc_directory::ProcDirectory;
use crate::trace::parasite::unmap_in_target;
use crate::trace::puppet::{Puppet, find_instruction};
use crate::trace::tracees::Tracees;
use memcr_protocol::deposit::Debris;
use memcr_protocol::report::WakeReport;
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Time for threads to stop that don't wait for a guarded page.
const PATIENCE: Duration = Duration::from_millis(300);
/// Time between two looks whether an orphaned parasite has gone home, and how many there are.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: usize = 500;

/// What a dead worker left.
pub(crate) struct Inheritance {
    /// The target's pidfd.
    pub(crate) target: OwnedFd,
    /// What of ours is in the target.
    pub(crate) debris: Debris,
    /// Image, guard and key, if memory may have been freed.
    pub(crate) sleep: Option<(File, OwnedFd, Key)>,
}

/// Takes over. Figures of the restore, if there was something to restore.
pub(crate) fn succeed(
    inheritance: Inheritance,
    broker: &Broker,
    launcher: &Launcher,
    cores: usize,
) -> Result<Option<WakeReport>> {
    let Inheritance { target, debris, sleep } = inheritance;
    let pid = facts::pid_of(target.as_fd())?;
    let directory = ProcDirectory::open(pid)?;
    let mut tracees = seize_at_home(pid, &directory, &debris)?;
    let live = tracees.puppet_candidate().ok_or_else(|| tracees.lost())?;
    let thread = directory.thread(live)?;
    let mappings = mappings::read(&thread.file("smaps")?)?;
    let instruction = find_instruction(pid, &mappings)?;
    let Some((image, guard, key)) = sleep else {
        // nothing was freed: the parasite closed what it had opened, its memory is left
        let mut puppet = Puppet::borrow(&tracees, live, instruction)?;
        for (address, length) in debris.mappings.into_iter().filter(|mapping| mapping.1 > 0) {
            unmap_in_target(&mut puppet, &mut tracees, address, length)?;
        }
        puppet.release(&mut tracees)?;
        tracees.release();
        return Ok(None);
    };
    let status = thread.file("status")?;
    let facts = facts::target(pid, &directory)?;
    let is_mapped = |mapping: &(u64, u64)| mappings.iter().any(|one| one.start == mapping.0);
    let left = debris.mappings.map(|mapping| if is_mapped(&mapping) { mapping } else { (0, 0) });
    let keep = [
        libc::STDERR_FILENO,
        broker.number(),
        launcher.number(),
        target.as_raw_fd(),
        image.as_raw_fd(),
        guard.as_raw_fd(),
        status.as_raw_fd(),
        tracees.signals_number(),
    ];
    let confined = confine::confine(&keep, &tracees.tids())?;
    let asleep = Asleep {
        tracees,
        puppet: live,
        instruction,
        guard,
        debris: Debris { mappings: left, guard: debris.guard },
        image,
        key,
        status: Some(status),
        facts,
        target,
    };
    restore(asleep, &confined, broker, launcher, cores).map(Some)
}

/// Stops the threads at a moment when none of them is in the parasite.
///
/// An orphaned parasite goes home by itself: its socket has closed with its worker.
fn seize_at_home(pid: Pid, directory: &ProcDirectory, debris: &Debris) -> Result<Tracees> {
    let [(code, length), _] = debris.mappings;
    for _ in 0..LOOKS {
        let tracees = Tracees::seize_until(pid, directory, Instant::now() + PATIENCE)?;
        if !tracees.is_inside(code, length) {
            return Ok(tracees);
        }
        tracees.release();
        poll::wait(&mut [], Some(LOOK)).map_err(Error::system("waiting for", "the parasite"))?;
    }
    Err(Error::Refused { pid: pid.as_raw(), reason: "an orphaned parasite does not go home".into() })
}
