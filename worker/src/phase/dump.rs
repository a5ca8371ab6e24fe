//! Dump: write all memory that will be freed to the image. Nothing of the target changes.

use crate::channel::Broker;
use crate::confine::Confined;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::image::{FrameBuffer, Header, ImageError, ImageWriter, IndexBuilder, Key, Target, Totals};
use crate::phase::attach::Attached;
use crate::phase::parallel;
use crate::phase::{Judge, Plan};
use crate::sys::memory;
use crate::target::mappings::Mapping;
use crate::target::pages::{Kind, PageMap};
use memcr_protocol::image::Checksum;
use memcr_protocol::parasite::Range;
use memcr_protocol::report::State;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Memory read at most before another look at whether the work was called off, in bytes: pages of
/// zeros never fill a frame.
const BATCH: u64 = 16 * 1024 * 1024;

/// Memory that is looked at before another look at whether the work was called off, in bytes.
const WINDOW: u64 = 256 * 1024 * 1024;

/// A complete image.
pub(crate) struct Dumped {
    /// Its key.
    pub(crate) key: Key,
    /// What it holds.
    pub(crate) totals: Totals,
    /// Checksum of the memory in its frames, if it has checksums.
    pub(crate) checksum: Option<Checksum>,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// Mappings to guard.
    pub(crate) guarded: Vec<Range>,
    /// Memory to free.
    pub(crate) freed: Vec<Range>,
    /// Memory of files to drop besides.
    pub(crate) dropped: Vec<Range>,
    /// How long it took.
    pub(crate) duration: Duration,
}

/// Writes the image.
///
/// # Errors
/// The target is as it was; the caller undoes.
pub(crate) fn dump(
    attached: &Attached,
    _: &Confined,
    plan: Plan<'_>,
    judge: &Judge<'_>,
    broker: &Broker,
    host: &Host,
) -> Result<Dumped> {
    let began = Instant::now();
    let pid = attached.facts.pid;
    let taken: Vec<&Mapping> = attached.mappings.iter().filter(|mapping| mapping.is_taken()).collect();
    let total = taken.iter().map(|mapping| mapping.anonymous).sum();
    let page_size = memory::page_size();
    let pagemap = PageMap::new(&attached.handles.pagemap, page_size, &attached.keep);
    let storage = |error: ImageError| Error::Storage { pid, cause: error.to_string() };

    let dropped = if plan.settings.drop_file_pages {
        pages_of_files(attached, &pagemap, judge, broker)?
    } else {
        Vec::new()
    };
    let key = Key::random().map_err(storage)?;
    memory::lock(key.bytes()).map_err(Error::system("locking", "the image key in memory"))?;
    let target = Target { pid, start_time: attached.facts.start_time, boot_id: host.boot_id };
    let page_size_32 = u32::try_from(page_size).unwrap_or(0);
    let header = Header::new(target, page_size_32, plan.settings.image, plan.options.compression);
    let writer = ImageWriter::create(&attached.image, &key, header.map_err(storage)?).map_err(storage)?;
    memory::lock_at(writer.sealer().secret_memory())
        .map_err(Error::system("locking", "the expanded image key in memory"))?;

    let planner = Mutex::new(Planner {
        pagemap,
        mappings: taken.iter(),
        mapping: None,
        pieces: VecDeque::new(),
        guarded: Vec::new(),
        freed: Vec::new(),
    });
    let index = Mutex::new(IndexBuilder::new());
    let work = |progress: &parallel::Progress| {
        let mut buffer = FrameBuffer::new(page_size_32);
        while !progress.is_stopped() {
            let bytes = fill(&mut buffer, &planner, progress, attached)?;
            let zeros = buffer.take_zeros();
            let frame = if buffer.is_empty() {
                None
            } else {
                Some(writer.write_frame(&mut buffer).map_err(storage)?)
            };
            let mut index = lock(&index);
            zeros.into_iter().for_each(|zero| index.add_zero(zero));
            frame.into_iter().for_each(|frame| index.add_frame(frame));
            drop(index);
            progress.add(bytes);
            if bytes == 0 {
                break;
            }
        }
        Ok(())
    };
    let mut aborted = false;
    let listen = |order| {
        aborted |= judge.calls_off(order, broker, &attached.facts);
        aborted
    };
    parallel::run(broker, host.cores, State::Dumping, total, plan.deadline, work, listen)?;
    if aborted {
        return Err(Error::Aborted { pid });
    }
    // one that came when the last byte was written still counts
    judge.go_on(broker, &attached.facts)?;
    plan.require_time(pid)?;
    let planner = planner.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut index = index.into_inner().unwrap_or_else(PoisonError::into_inner);
    planner.guarded.iter().for_each(|&mapping| index.add_mapping(mapping));
    let (index, length) = writer.finish(index).map_err(storage)?;
    // nothing is freed that is not in the image
    let planned: u64 = planner.freed.iter().map(|range| range.length).sum();
    if planned != index.totals().pages * page_size {
        return Err(Error::Storage {
            pid,
            cause: "the image does not hold all of the planned memory".into(),
        });
    }
    Ok(Dumped {
        key,
        totals: index.totals(),
        checksum: index.checksum(),
        length,
        guarded: planner.guarded,
        freed: planner.freed,
        dropped,
        duration: began.elapsed(),
    })
}

/// Says which memory comes next, to one thread at a time, in ascending order.
struct Planner<'a, M> {
    pagemap: PageMap<'a>,
    mappings: M,
    /// The mapping under way, and where to go on in it.
    mapping: Option<(&'a Mapping, u64)>,
    pieces: VecDeque<Range>,
    guarded: Vec<Range>,
    freed: Vec<Range>,
}

impl<'a, M: Iterator<Item = &'a &'a Mapping>> Planner<'a, M> {
    /// The next memory of at most `room` bytes; nothing when all is handed out, or the work is called off.
    fn next(&mut self, room: u64, progress: &parallel::Progress) -> Result<Vec<Range>> {
        let mut batch = Vec::new();
        let mut left = room;
        while left > 0 && !progress.is_stopped() {
            let Some(piece) = self.pieces.pop_front() else {
                let next = self.mapping.take();
                let next = next.or_else(|| self.mappings.next().map(|&mapping| (mapping, mapping.start)));
                let Some((mapping, position)) = next else { break };
                self.plan(mapping, position)?;
                continue;
            };
            let length = piece.length.min(left);
            batch.push(Range { address: piece.address, length });
            if length < piece.length {
                self.pieces
                    .push_front(Range { address: piece.address + length, length: piece.length - length });
            }
            left -= length;
        }
        Ok(batch)
    }

    /// Looks at the next window of a mapping.
    fn plan(&mut self, mapping: &'a Mapping, position: u64) -> Result<()> {
        let end = position.saturating_add(WINDOW).min(mapping.end);
        self.mapping = (end < mapping.end).then_some((mapping, end));
        let runs = self.pagemap.runs(&(position..end), Kind::Own)?;
        let is_new = self.guarded.last().is_none_or(|last| last.address != mapping.start);
        if is_new && !runs.is_empty() {
            self.guarded.push(Range { address: mapping.start, length: mapping.length() });
        }
        for run in runs {
            let piece = Range { address: run.start, length: run.end - run.start };
            self.pieces.push_back(piece);
            // one call frees what two windows share
            match self.freed.last_mut() {
                Some(last)
                    if run.start == position && position > mapping.start && ends_at(last, position) =>
                {
                    last.length += piece.length;
                }
                _ => self.freed.push(piece),
            }
        }
        Ok(())
    }
}

fn ends_at(range: &Range, address: u64) -> bool {
    range.address + range.length == address
}

/// The pages of mapped files, which need not be written anywhere.
fn pages_of_files(
    attached: &Attached,
    pagemap: &PageMap<'_>,
    judge: &Judge<'_>,
    broker: &Broker,
) -> Result<Vec<Range>> {
    let mut pages = Vec::new();
    for mapping in attached.mappings.iter().filter(|mapping| mapping.is_of_file()) {
        judge.go_on(broker, &attached.facts)?;
        let runs = pagemap.runs(&(mapping.start..mapping.end), Kind::OfFile)?;
        pages.extend(runs.into_iter().map(|run| Range { address: run.start, length: run.end - run.start }));
    }
    Ok(pages)
}

/// Reads the next memory into the buffer until that is full; the bytes read, 0 at the end.
fn fill<'a, M: Iterator<Item = &'a &'a Mapping>>(
    buffer: &mut FrameBuffer,
    planner: &Mutex<Planner<'a, M>>,
    progress: &parallel::Progress,
    attached: &Attached,
) -> Result<u64> {
    let mut bytes = 0;
    while !buffer.is_full() && bytes < BATCH {
        let room = buffer.space().len() as u64;
        let batch = lock(planner).next(room, progress)?;
        if batch.is_empty() {
            break;
        }
        for piece in batch {
            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
            let space = buffer.space().get_mut(..length).unwrap_or_default();
            attached.handles.memory.read_exact_at(space, piece.address).map_err(|error| Error::System {
                operation: "reading memory",
                object: format!("at {:#x} of process {}", piece.address, attached.facts.pid),
                cause: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
            })?;
            #[cfg(feature = "drill")]
            crate::drill::reached(crate::drill::Role::Dumping);
            buffer
                .commit(piece.address, length)
                .map_err(|error| Error::Storage { pid: attached.facts.pid, cause: error.to_string() })?;
            bytes += piece.length;
        }
    }
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // a thread that failed inside ends the whole dump anyway
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
