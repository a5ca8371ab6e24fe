//! A worker has died: its successor takes the target back, restores what was freed and removes what
//! was left in it.

use crate::channel::{Broker, Launcher};
use crate::confine::{self, Terms};
use crate::error::Result;
use crate::image::Key;
use crate::phase::asleep::Asleep;
use crate::phase::restore::restore_persistently;
use crate::sys::kcmp;
use crate::sys::memory::{self, TargetMemory};
use crate::target::facts;
use crate::target::mappings;
use crate::target::proc_directory::ProcDirectory;
use crate::trace::parasite::{close_in_target, unmap_in_target};
use crate::trace::place;
use crate::trace::puppet::Puppet;
use crate::trace::tracees::Tracees;
use crate::trace::way_home::{Site, WayHome};
use memcr_protocol::deposit::{Debris, Deposit};
use memcr_protocol::report::WakeReport;
use memcr_protocol::subject::TargetFacts;
use nix::unistd::Pid;
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
    /// What is needed to restore, if memory may have been freed.
    pub(crate) sleep: Option<Bequest>,
    /// The guard, if all memory is back and the target may still have its copy.
    pub(crate) guard: Option<OwnedFd>,
}

/// What a worker leaves before it frees anything.
pub(crate) struct Bequest {
    /// The complete image.
    pub(crate) image: File,
    /// The guard.
    pub(crate) guard: OwnedFd,
    /// The target's memory file.
    pub(crate) memory: File,
    /// Key of the image.
    pub(crate) key: Key,
}

/// Takes over. Figures of the restore, if there was something to restore.
pub(crate) fn succeed(
    inheritance: Inheritance,
    broker: &Broker,
    launcher: &Launcher,
    terms: &Terms,
    cores: usize,
) -> Result<Option<WakeReport>> {
    let Inheritance { target, debris, sleep, guard } = inheritance;
    let taken = take_back(&target, &debris)?;
    let Some(Bequest { image, guard, memory, key }) = sleep else {
        clean(taken, debris.guard, guard.as_ref(), launcher)?;
        return Ok(None);
    };
    // a fork doesn't inherit the lock of the launcher's copy; one that can't be locked still restores
    let _ = memory::lock(key.bytes());
    // the program may have closed it, or may use the number for something else by now
    let is_guard = |&number: &i32| kcmp::same_file(taken.tid, number, guard.as_fd()).unwrap_or(false);
    let debris = Debris { place: taken.place, guard: debris.guard.filter(is_guard), ..Debris::default() };
    let keep = [
        libc::STDERR_FILENO,
        broker.number(),
        launcher.number(),
        target.as_raw_fd(),
        image.as_raw_fd(),
        guard.as_raw_fd(),
        memory.as_raw_fd(),
        taken.status.as_raw_fd(),
        taken.tracees.signals_number(),
    ];
    let confined = confine::confine(&keep, &taken.tracees.tids(), terms, 0)?;
    let asleep = Asleep {
        tracees: taken.tracees,
        site: taken.site,
        way_home: None,
        memory,
        guard,
        debris,
        image,
        key,
        left: None,
        status: Some(taken.status),
        may_be_stopped: true,
        facts: taken.facts,
        target,
    };
    restore_persistently(asleep, &confined, broker, launcher, cores).map(Some)
}

/// The target, stopped again, and what is needed of it.
struct TakenBack {
    tracees: Tracees,
    /// One of its threads.
    tid: Pid,
    site: Site,
    /// The parasite's place, if it is still there.
    place: (u64, u64),
    status: File,
    facts: TargetFacts,
}

fn take_back(target: &OwnedFd, debris: &Debris) -> Result<TakenBack> {
    let pid = facts::pid_of(target.as_fd())?;
    let directory = ProcDirectory::open(pid)?;
    let mut tracees = Tracees::seize_until(pid, &directory, Instant::now() + PATIENCE)?;
    // any thread will do, even one that can't stop yet
    let tid = tracees.tids().pop().ok_or_else(|| tracees.lost())?;
    let thread = directory.thread(tid)?;
    let mappings = mappings::read(&thread.file("smaps")?)?;
    let site = Site::find(pid, tid, &mappings)?;
    // a place that is the program's own by now is none of ours
    let place = if place::is_ours(tid, debris.place, &mappings) { debris.place } else { (0, 0) };
    // an orphaned parasite goes home by itself: its socket has closed with its worker. Until it is there it
    // may still be freeing memory, and whatever was put back would be lost again.
    tracees.let_parasite_home(debris.socket, place, (&directory, target.as_fd()))?;
    // so does a thread in the middle of a single call; behind that it may have to wait for its frame,
    // which is in the image
    tracees.let_home(PATIENCE, |registers| site.is_calling(registers, debris.frame))?;
    tracees.note_interrupted_calls(&directory)?;
    // a call under way may just have mapped it, or unmapped it
    let mappings = mappings::read(&thread.file("smaps")?)?;
    let place = if place::is_ours(tid, debris.place, &mappings) { debris.place } else { (0, 0) };
    let (status, facts) = (thread.file("status")?, facts::target(pid, &directory)?);
    Ok(TakenBack { tracees, tid, site, place, status, facts })
}

/// Nothing is to be restored: the parasite closed what it had opened, its memory is left, and perhaps the
/// target's copy of the guard.
fn clean(taken: TakenBack, number: Option<i32>, guard: Option<&OwnedFd>, launcher: &Launcher) -> Result<()> {
    let TakenBack { mut tracees, site, place, .. } = taken;
    tracees.wait_for_rest()?;
    tracees.let_home_from(place)?;
    tracees.wait_for_rest()?;
    let is_guard = |number, guard: &OwnedFd| {
        kcmp::same_file(taken.tid, number, guard.as_fd()).unwrap_or(false).then_some(number)
    };
    let number = number.zip(guard).and_then(|(number, guard)| is_guard(number, guard));
    if place.1 > 0 || number.is_some() {
        let tid = tracees.puppet_candidate().ok_or_else(|| tracees.lost())?;
        tracees.find_restart(tid)?;
        let memory = TargetMemory::Thread(tid);
        let way_home = WayHome::lay(&site, &tracees, tid, &memory)?;
        let frame = way_home.as_ref().map_or((0, 0), WayHome::range);
        launcher.leave(&Deposit::Debris(Debris { place, frame, guard: number, socket: None }), &[])?;
        let mut puppet = Puppet::borrow(&tracees, tid, &site, way_home.as_ref())?;
        if let Some(number) = number {
            close_in_target(&mut puppet, &mut tracees, number)?;
        }
        if place.1 > 0 {
            unmap_in_target(&mut puppet, &mut tracees, place)?;
            launcher.leave(&Deposit::Debris(Debris { frame, guard: number, ..Debris::default() }), &[])?;
        }
        puppet.release(&mut tracees)?;
        way_home.map_or(Ok(()), |way| way.clear(&memory, tracees.pid()))?;
    }
    tracees.release();
    launcher.leave(&Deposit::Settled, &[])
}
