//! Restore: put every byte back from outside, end the guard, let the target run.

use crate::channel::{Broker, Launcher};
use crate::confine::Confined;
use crate::error::{Error, Result};
use crate::image::{Image, ImageError, ReadBuffer};
use crate::phase::asleep::Asleep;
use crate::phase::doomed;
use crate::phase::free::resident;
use crate::phase::guarded::Guarded;
use crate::phase::parallel;
use crate::sys::memory::{self, TargetMemory};
use crate::sys::{poll, userfaultfd};
use crate::trace::parasite::{close_in_target, unmap_in_target};
use crate::trace::puppet::Puppet;
use crate::trace::way_home::WayHome;
use memcr_protocol::deposit::{Debris, Deposit};
use memcr_protocol::image::Checksum;
use memcr_protocol::report::{State, WakeReport};
use memcr_protocol::worker::WorkerEvent;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Time between two attempts to wake a target for nobody, who could try again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the target does not run.
pub(crate) enum NotRestored {
    /// It sleeps on, guarded, and can be tried again: what is back already is passed over then.
    SleepsOn(Box<Asleep>, Error),
    /// It is dead, or about to be killed since its image can't be authenticated.
    Lost(Error),
}

/// Restores however often it takes: for when nobody is there who could ask for it again.
pub(crate) fn restore_persistently(
    mut asleep: Asleep,
    confined: &Confined,
    broker: &Broker,
    launcher: &Launcher,
    cores: usize,
) -> Result<WakeReport> {
    loop {
        match restore(asleep, confined, broker, launcher, cores) {
            Ok(report) => return Ok(report),
            Err(NotRestored::Lost(error)) => return Err(error),
            Err(NotRestored::SleepsOn(back, error)) => {
                broker.tell(&WorkerEvent::SleepsOn(error.failure()));
                asleep = *back;
            }
        }
        poll::wait(&mut [], Some(RETRY)).map_err(Error::system("waiting", "to try again"))?;
        if let Err(error) = asleep.reap() {
            if matches!(error, Error::Lost { .. }) {
                launcher.leave(&Deposit::Settled, &[])?;
            }
            return Err(error);
        }
    }
}

/// Puts everything back and lets the target run.
pub(crate) fn restore(
    mut asleep: Asleep,
    _: &Confined,
    broker: &Broker,
    launcher: &Launcher,
    cores: usize,
) -> std::result::Result<WakeReport, NotRestored> {
    let began = Instant::now();
    if let Some(doom) = doomed::find(&asleep) {
        return Err(NotRestored::Lost(doomed::let_die(asleep, &doom, launcher)));
    }
    let restored = match put_back(&mut asleep, broker, cores) {
        Ok(restored) => restored,
        // a thread that has not stopped can't be killed by us: one that waits in the kernel for its memory. Nor
        // can children, whose guards must stay with somebody then.
        Err(error)
            if matches!(error, Error::Lost { .. })
                || error.is_final() && asleep.tracees.has_stopped() && !asleep.has_children() =>
        {
            let _ = launcher.leave(&Deposit::Settled, &[]);
            // the guard is still there: nobody has read a wrong byte, and nobody will
            let _ = asleep.tracees.set_exit_kill(true);
            return Err(NotRestored::Lost(error));
        }
        Err(Error::Unreadable { pid, cause }) => {
            return Err(NotRestored::SleepsOn(Box::new(asleep), Error::NotReadYet { pid, cause }));
        }
        Err(error) => return Err(NotRestored::SleepsOn(Box::new(asleep), error)),
    };
    // nor does it have to die with us any more, if there was no full guard
    let _ = asleep.tracees.set_exit_kill(false);
    // all memory is back: from here on a successor has only to clean up. One that doesn't hear of it
    // restores once more, and passes over all.
    let _ = launcher.leave(&Deposit::Restored, &[]);
    Ok(wake(asleep, launcher, &restored, began))
}

/// Lets the target run, whose memory is all back. What can't be cleaned away is no reason to hold it up, and
/// left to a successor.
fn wake(mut asleep: Asleep, launcher: &Launcher, restored: &Restored, began: Instant) -> WakeReport {
    let cleaned = clean(&mut asleep, launcher);
    let rss_after = asleep.status.as_ref().and_then(resident).map_or(0, |now| now.rss_anonymous);
    if cleaned.is_ok() {
        // without it a successor looks for what isn't there any more
        let _ = launcher.leave(&Deposit::Settled, &[]);
    }
    asleep.tracees.release();
    WakeReport {
        restored: restored.bytes,
        pages: restored.pages,
        checksum: restored.checksum,
        rss_after,
        restore_micros: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    }
}

/// Takes what is left of ours out of the target.
fn clean(asleep: &mut Asleep, launcher: &Launcher) -> Result<()> {
    // one that does not stop just now is no matter, unless it may be in the parasite's code
    let all_stopped = asleep.tracees.wait_for_rest();
    if asleep.debris.place.1 > 0 {
        all_stopped?;
        asleep.tracees.let_home_from(asleep.debris.place)?;
        asleep.tracees.wait_for_rest()?;
    }
    let laid = asleep.way_home.as_ref().map(|way| way.tid);
    let tid = laid.or_else(|| asleep.tracees.puppet_candidate()).ok_or_else(|| asleep.tracees.lost())?;
    if laid.is_none() {
        let memory = TargetMemory::File(&asleep.memory);
        asleep.way_home = WayHome::lay(&asleep.site, &asleep.tracees, tid, &memory)?;
        let frame = asleep.way_home.as_ref().map_or((0, 0), WayHome::range);
        launcher.leave(&Deposit::Debris(Debris { frame, ..asleep.debris }), &[])?;
    }
    let mut puppet = Puppet::borrow(&asleep.tracees, tid, &asleep.site, asleep.way_home.as_ref())?;
    remove_debris(&mut puppet, asleep, launcher)?;
    puppet.release(&mut asleep.tracees)?;
    let (memory, pid) = (TargetMemory::File(&asleep.memory), asleep.tracees.pid());
    asleep.way_home.take().map_or(Ok(()), |way| way.clear(&memory, pid))
}

fn remove_debris(puppet: &mut Puppet, asleep: &mut Asleep, launcher: &Launcher) -> Result<()> {
    if let Some(number) = asleep.debris.guard {
        close_in_target(puppet, &mut asleep.tracees, number)?;
    }
    if asleep.debris.place.1 > 0 {
        unmap_in_target(puppet, &mut asleep.tracees, asleep.debris.place)?;
        // others may use it from now on
        asleep.debris.place = (0, 0);
        let frame = asleep.way_home.as_ref().map_or((0, 0), WayHome::range);
        launcher.leave(&Deposit::Debris(Debris { frame, ..asleep.debris }), &[])?;
    }
    Ok(())
}

struct Restored {
    bytes: u64,
    pages: u64,
    checksum: Option<Checksum>,
}

/// Copies all memory into place and ends the guard.
fn put_back(asleep: &mut Asleep, broker: &Broker, cores: usize) -> Result<Restored> {
    let pid = asleep.facts.pid;
    // header and index are authenticated here, before a byte goes back
    let image = Image::open(&asleep.image, &asleep.key).map_err(|cause| Error::unreadable(pid, cause))?;
    // one that can't be locked is no reason to lose the target: it lives as long as this restore
    let _ = memory::lock_at(image.sealer().secret_memory());
    let target = image.header().target();
    if (target.pid, target.start_time) != (pid, asleep.facts.start_time) {
        return Err(Error::Unreadable { pid, cause: ImageError::Target { found: target.pid, pid } });
    }
    let index = image.index();
    let page_size = u64::from(index.page_size());
    if asleep.left.is_none() {
        let guarded = Guarded::target(asleep.guard.as_fd(), page_size);
        asleep.left = Some(vec![guarded.map_err(Error::system("duplicating", "the guard"))?]);
    }
    let left = asleep.left.get_or_insert_default();
    let mut lost = None;
    while let Some(guarded) = left.last() {
        let done = put_back_behind(guarded, &image, pid, broker, cores);
        // known before anything is given up: another attempt goes on with them
        let children = guarded.take_children();
        match done {
            Ok(()) => {}
            // who dies meanwhile needs nothing more, but may have left children
            Err(Error::Lost { .. }) if guarded.is_child() => {}
            Err(error @ Error::Lost { .. }) => lost = Some(error),
            Err(error) => {
                left.extend(children);
                return Err(error);
            }
        }
        left.pop();
        left.extend(children);
    }
    if let Some(error) = lost {
        return Err(error);
    }
    if let Some(stack) = asleep.site.stack() {
        // it may have grown meanwhile, and is written to when the way home is cleared
        let _ = userfaultfd::unregister(asleep.guard.as_fd(), stack.start, stack.end - stack.start);
    }
    let totals = index.totals();
    let zero: u64 = index.zeros().map(|zero| zero.length).sum();
    Ok(Restored { bytes: totals.plain + zero, pages: totals.pages, checksum: image.checksum() })
}

/// Puts all memory back behind one guard and ends that.
fn put_back_behind(
    guarded: &Guarded,
    image: &Image<&File>,
    pid: i32,
    broker: &Broker,
    cores: usize,
) -> Result<()> {
    let index = image.index();
    let next = AtomicU32::new(0);
    let work = |progress: &parallel::Progress| {
        let mut buffer = ReadBuffer::new();
        while !progress.is_stopped() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = index.frames().get(number as usize) else { break };
            let memory =
                image.read_frame(number, &mut buffer).map_err(|cause| Error::unreadable(pid, cause))?;
            #[cfg(feature = "drill")]
            crate::drill::reached(crate::drill::Role::Restoring);
            for (address, piece) in index.pieces(number, memory) {
                settle(guarded.copy(address, piece), pid)?;
            }
            progress.add(u64::from(entry.plain_length()));
        }
        Ok(())
    };
    // nothing calls a restore off
    parallel::run(broker, cores, State::Restoring, index.totals().plain, None, work, |_| false)?;
    for zero in index.zeros() {
        settle(guarded.zero(zero.address, zero.length), pid)?;
    }
    for mapping in index.mappings() {
        settle(guarded.release(mapping.address, mapping.length), pid)?;
    }
    guarded.take_events().map_err(Error::system("reading events of", "the guard"))
}

/// ESRCH: the target is dead.
fn settle(result: std::result::Result<(), Errno>, pid: i32) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(Error::Lost { pid, when: "while it was being restored" }),
        Err(Errno::ENOMEM) => Err(Error::OutOfMemory { pid }),
        Err(cause) => Err(Error::System {
            operation: "putting back memory",
            object: format!("of process {pid}"),
            cause,
        }),
    }
}
