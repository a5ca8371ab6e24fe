//! A worker has died: its successor takes the target back, restores what was freed and removes what
//! was left in it.

use crate::channel::{Broker, Launcher};
use crate::confine;
use crate::error::Result;
use crate::image::Key;
use crate::phase::asleep::Asleep;
use crate::phase::restore::restore;
use crate::target::facts;
use crate::target::mappings::{self, Mapping};
use crate::target::proc_directory::ProcDirectory;
use crate::trace::parasite::unmap_in_target;
use crate::trace::puppet::{Puppet, find_instruction};
use crate::trace::tracees::Tracees;
use memcr_protocol::deposit::Debris;
use memcr_protocol::report::WakeReport;
use memcr_protocol::subject::TargetFacts;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Time for threads to stop that don't wait for a guarded page.
const PATIENCE: Duration = Duration::from_millis(300);

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
    let mut taken = take_back(&target, &debris)?;
    let Some((image, guard, key)) = sleep else {
        remove_parasite(taken, &debris)?;
        return Ok(None);
    };
    let is_mapped = |mapping: &(u64, u64)| taken.mappings.iter().any(|one| one.start == mapping.0);
    let left = debris.mappings.map(|mapping| if is_mapped(&mapping) { mapping } else { (0, 0) });
    taken.mappings.clear();
    let keep = [
        libc::STDERR_FILENO,
        broker.number(),
        launcher.number(),
        target.as_raw_fd(),
        image.as_raw_fd(),
        guard.as_raw_fd(),
        taken.status.as_raw_fd(),
        taken.tracees.signals_number(),
    ];
    let confined = confine::confine(&keep, &taken.tracees.tids())?;
    let asleep = Asleep {
        tracees: taken.tracees,
        instruction: taken.instruction,
        guard,
        debris: Debris { mappings: left, guard: debris.guard },
        image,
        key,
        status: Some(taken.status),
        facts: taken.facts,
        target,
    };
    restore(asleep, &confined, broker, launcher, cores).map(Some)
}

/// The target, stopped again, and what is needed of it.
struct TakenBack {
    tracees: Tracees,
    instruction: u64,
    mappings: Vec<Mapping>,
    status: File,
    facts: TargetFacts,
}

fn take_back(target: &OwnedFd, debris: &Debris) -> Result<TakenBack> {
    let pid = facts::pid_of(target.as_fd())?;
    let directory = ProcDirectory::open(pid)?;
    let mut tracees = Tracees::seize_until(pid, &directory, Instant::now() + PATIENCE)?;
    // an orphaned parasite goes home by itself: its socket has closed with its worker
    let [(code, length), _] = debris.mappings;
    tracees.let_home(code, length)?;
    // any thread will do, even one that can't stop yet
    let tid = tracees.tids().pop().ok_or_else(|| tracees.lost())?;
    let thread = directory.thread(tid)?;
    let mappings = mappings::read(&thread.file("smaps")?)?;
    let instruction = find_instruction(pid, &mappings)?;
    let (status, facts) = (thread.file("status")?, facts::target(pid, &directory)?);
    Ok(TakenBack { tracees, instruction, mappings, status, facts })
}

/// Nothing was freed: the parasite closed what it had opened, its memory is left.
fn remove_parasite(taken: TakenBack, debris: &Debris) -> Result<()> {
    let TakenBack { mut tracees, instruction, .. } = taken;
    tracees.wait_for_rest()?;
    let tid = tracees.puppet_candidate().ok_or_else(|| tracees.lost())?;
    let mut puppet = Puppet::borrow(&tracees, tid, instruction)?;
    for (address, length) in debris.mappings.into_iter().filter(|mapping| mapping.1 > 0) {
        unmap_in_target(&mut puppet, &mut tracees, address, length)?;
    }
    puppet.release(&mut tracees)?;
    tracees.release();
    Ok(())
}
