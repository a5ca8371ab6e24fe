//! Free: guard the memory that is in the image, then let the parasite free it. Only ever called with a
//! complete image.

use crate::channel::{Broker, Launcher};
use crate::confine::Confined;
use crate::error::{Error, Result};
use crate::phase::Judge;
use crate::phase::asleep::Asleep;
use crate::phase::attach::Attached;
use crate::phase::dump::Dumped;
use crate::phase::handles::Handles;
use crate::sys::error_of;
use crate::sys::userfaultfd;
use crate::target::mappings;
use crate::target::status::Status;
use crate::trace::way_home::WayHome;
use memcr_protocol::deposit::{Debris, Deposit};
use memcr_protocol::parasite::{FREE, MAX_RANGES, Range};
use memcr_protocol::report::{Guard, SleepReport};
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

/// Memory freed by one order, in bytes, before another look at whether it was called off.
const SLICE: usize = 256 * 1024 * 1024;

/// Why nothing sleeps: what to undo, and the reason.
pub(crate) enum NotFreed {
    /// Nothing was freed.
    Undo(Box<Attached>, Error),
    /// Something was freed, and the target must be restored from its image.
    Restore(Box<Asleep>, Error),
    /// Something was freed, and nobody knows where the parasite is: a successor must wait for that.
    Abandon(Error),
}

/// Guards and frees; the sleeping target.
pub(crate) fn free(
    mut attached: Attached,
    dumped: Dumped,
    _: &Confined,
    judge: &Judge<'_>,
    broker: &Broker,
    launcher: &Launcher,
) -> std::result::Result<(Asleep, SleepReport), NotFreed> {
    let began = Instant::now();
    if let Err(error) = guard(&attached, &dumped) {
        unguard(&attached, &dumped.guarded);
        return Err(NotFreed::Undo(Box::new(attached), error));
    }
    if let Err(error) = entrust(&attached, &dumped, launcher) {
        unguard(&attached, &dumped.guarded);
        return Err(NotFreed::Undo(Box::new(attached), error));
    }
    let freed = order_all(&mut attached, &dumped.freed, judge, broker)
        .and_then(|()| drop_all(&mut attached, &dumped.dropped, judge, broker));
    let Attached {
        mut tracees,
        parasite,
        handles,
        image,
        facts,
        target,
        site,
        way_home,
        rss_before,
        rss_file,
        may_be_stopped,
        duration,
        ..
    } = attached;
    let guard_kind = if handles.guard_is_full { Guard::Full } else { Guard::ExitKill };
    let guard_number = parasite.debris((0, 0)).guard;
    let frame = way_home.as_ref().map_or((0, 0), WayHome::range);
    let removed = parasite.remove(&mut tracees);
    if let Err(error) = removed {
        return Err(NotFreed::Abandon(error));
    }
    let debris = Debris { frame, guard: guard_number, ..Debris::default() };
    // the parasite's place may be used by others from now on
    let told = launcher.leave(&Deposit::Debris(debris), &[]);
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let page = dumped.totals.zero_pages.checked_mul(crate::sys::memory::page_size()).unwrap_or(0);
    let report = SleepReport {
        rss_before,
        rss_asleep: resident(&handles.status).map_or(0, |now| now.rss_anonymous),
        dumped: dumped.totals.plain + page,
        zero: page,
        pages: dumped.totals.pages,
        image: dumped.length,
        file_dropped: rss_file.saturating_sub(resident(&handles.status).map_or(rss_file, |now| now.rss_file)),
        checksum: dumped.checksum,
        threads: u32::try_from(tracees.tids().len()).unwrap_or(u32::MAX),
        guard: guard_kind,
        attach_micros: micros(duration),
        dump_micros: micros(dumped.duration),
        free_micros: micros(began.elapsed()),
    };
    let asleep = Asleep {
        tracees,
        site,
        way_home,
        memory: handles.memory,
        guard: handles.guard,
        debris,
        image,
        key: dumped.key,
        left: None,
        status: Some(handles.status),
        may_be_stopped,
        facts,
        target,
    };
    // all is freed by now, or what was freed is given back
    match freed.and(told) {
        Ok(()) => Ok((asleep, report)),
        Err(error) => Err(NotFreed::Restore(Box::new(asleep), error)),
    }
}

/// Leaves with the launcher what a successor needs; without a full guard the target dies with this process
/// from here on. The last thing before memory is freed.
fn entrust(attached: &Attached, dumped: &Dumped, launcher: &Launcher) -> Result<()> {
    if attached.handles.guard_is_full {
        let Handles { guard, memory, .. } = &attached.handles;
        let descriptors = [attached.image.as_raw_fd(), guard.as_raw_fd(), memory.as_raw_fd()];
        launcher.leave(&Deposit::Sleep { key: dumped.key.to_deposit() }, &descriptors)
    } else {
        launcher.leave(&Deposit::ExitKill, &[])?;
        attached.tracees.set_exit_kill(true)
    }
}

/// Registers every mapping with the guard.
fn guard(attached: &Attached, dumped: &Dumped) -> Result<()> {
    let guard = attached.handles.guard.as_fd();
    for mapping in &dumped.guarded {
        userfaultfd::register(guard, mapping.address, mapping.length).map_err(|cause| Error::Refused {
            pid: attached.facts.pid,
            reason: format!("its memory at {:#x} can't be guarded: {}", mapping.address, cause.desc()),
        })?;
    }
    // the guard came from the target: this is the proof that it guards the target's own memory
    let guarded: HashSet<u64> = mappings::read(&attached.handles.smaps)?
        .iter()
        .filter(|mapping| mapping.is_guarded())
        .map(|mapping| mapping.start)
        .collect();
    match dumped.guarded.iter().find(|mapping| !guarded.contains(&mapping.address)) {
        None => Ok(()),
        Some(mapping) => Err(Error::Refused {
            pid: attached.facts.pid,
            reason: format!(
                "its memory at {:#x} is not guarded by the guard that it handed over",
                mapping.address
            ),
        }),
    }
}

fn unguard(attached: &Attached, guarded: &[Range]) {
    for mapping in guarded {
        // those that were not registered fail, which changes nothing
        let _ = userfaultfd::unregister(attached.handles.guard.as_fd(), mapping.address, mapping.length);
    }
}

/// Frees all ranges, unless a client that may wants the target back meanwhile.
fn order_all(attached: &mut Attached, freed: &[Range], judge: &Judge<'_>, broker: &Broker) -> Result<()> {
    let slices: Vec<Range> = freed.iter().flat_map(|range| slices(*range)).collect();
    let mut rest = slices.as_slice();
    while !rest.is_empty() {
        judge.go_on(broker, &attached.facts)?;
        let (ranges, behind) = rest.split_at(one_order(rest));
        rest = behind;
        let answer = attached.parasite.order(&mut attached.tracees, FREE, ranges)?;
        if answer.status != 0 {
            return Err(Error::System {
                operation: "freeing memory",
                object: format!("of process {}", attached.facts.pid),
                cause: error_of(answer.status),
            });
        }
    }
    Ok(())
}

/// The range in pieces of at most [`SLICE`] bytes.
fn slices(range: Range) -> impl Iterator<Item = Range> {
    let starts = (0..range.length).step_by(SLICE);
    starts.map(move |start| Range {
        address: range.address + start,
        length: (range.length - start).min(SLICE as u64),
    })
}

/// How many ranges go with one order.
fn one_order(ranges: &[Range]) -> usize {
    let mut bytes = 0;
    let fits = |range: &&Range| {
        bytes += range.length;
        bytes <= SLICE as u64
    };
    ranges.iter().take(MAX_RANGES).take_while(fits).count().max(1)
}

/// Drops pages of files. They are there again when they are needed, so one that stays is no failure.
fn drop_all(attached: &mut Attached, dropped: &[Range], judge: &Judge<'_>, broker: &Broker) -> Result<()> {
    let slices: Vec<Range> = dropped.iter().flat_map(|range| slices(*range)).collect();
    let mut rest = slices.as_slice();
    while !rest.is_empty() {
        judge.go_on(broker, &attached.facts)?;
        let ranges = rest.get(..one_order(rest)).unwrap_or_default();
        let answer = attached.parasite.order(&mut attached.tracees, FREE, ranges)?;
        let done = usize::try_from(answer.done).unwrap_or(usize::MAX).min(ranges.len());
        // the one that can't be dropped is passed over
        let next = if answer.status == 0 { ranges.len() } else { done + 1 };
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(())
}

/// The status of the process of an open status file.
pub(super) fn resident(status: &File) -> Option<Status> {
    let mut bytes = vec![0; 8192];
    let length = status.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(length);
    Status::parse(&String::from_utf8_lossy(&bytes))
}
