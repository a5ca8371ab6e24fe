//! Limits of resources (getrlimit(2)), as small as the work allows. None can be raised again: that would need a
//! capability that nobody here has.

use crate::error::{Error, Result};
use crate::sys::status::{self, FileType, is};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use std::io;

/// Descriptors of the launcher for each worker, at least: its control and deposit sockets, the target's pidfd,
/// the image directory.
const FOR_EACH_WORKER: rlim_t = 4;
/// Processes of this user besides workers: the launcher, the broker and its threads.
const OTHERS: rlim_t = 8;
/// What may be written to a log file behind standard error, in bytes: a panic's message.
const LAST_WORDS: u64 = 1 << 20;

/// Those of the launcher, for workers with up to `threads` threads each. A worker writes an image as long as its
/// target is large, so only the soft limit of files is small here.
pub(crate) fn of_launcher(threads: usize) -> Result<()> {
    set(Resource::RLIMIT_CORE, 0)?;
    let (descriptors, _) = get(Resource::RLIMIT_NOFILE)?;
    set(Resource::RLIMIT_NOFILE, descriptors)?;
    let threads = rlim_t::try_from(threads).unwrap_or(rlim_t::MAX);
    // one for the worker itself, which waits while its threads work
    let workers = (descriptors / FOR_EACH_WORKER).saturating_mul(threads.saturating_add(1));
    set(Resource::RLIMIT_NPROC, workers.saturating_add(OTHERS))?;
    let (_, hard) = get(Resource::RLIMIT_FSIZE)?;
    set_both(Resource::RLIMIT_FSIZE, log_size().min(hard), hard)
}

/// Those of a worker that is about to be confined: its image is no longer than this, in bytes.
///
/// It keeps the launcher's limit of descriptors though it has few: whoever sends descriptors is refused (ETOOMANYREFS)
/// as soon as all processes of its user together have more of them on the way than the sender's own limit says.
pub(super) fn of_worker(image: u64) -> Result<()> {
    let (_, hard) = get(Resource::RLIMIT_FSIZE)?;
    let size = rlim_t::try_from(image).unwrap_or(rlim_t::MAX).max(log_size()).min(hard);
    set_both(Resource::RLIMIT_FSIZE, size, size)
}

/// The length up to which a file behind standard error may be written.
fn log_size() -> rlim_t {
    let written = status::of(io::stderr()).ok().filter(|status| is(status, FileType::RegularFile));
    let written = written.map_or(0, |status| u64::try_from(status.st_size).unwrap_or(0));
    rlim_t::try_from(written.saturating_add(LAST_WORDS)).unwrap_or(rlim_t::MAX)
}

/// Lowers both limits to a value, or leaves them where they are lower.
fn set(resource: Resource, value: rlim_t) -> Result<()> {
    let (soft, hard) = get(resource)?;
    set_both(resource, value.min(soft), value.min(hard))
}

fn get(resource: Resource) -> Result<(rlim_t, rlim_t)> {
    getrlimit(resource).map_err(Error::system("reading the limit", format!("{resource:?}")))
}

fn set_both(resource: Resource, soft: rlim_t, hard: rlim_t) -> Result<()> {
    setrlimit(resource, soft, hard).map_err(Error::system("setting the limit", format!("{resource:?}")))
}
