//! What holds for all sleeps of a daemon, and what for one.

use crate::confine::Terms;
use crate::error::{Error, Result};
use crate::trace::rendezvous::Way;
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::SleepOptions;
use std::time::{Duration, Instant};

/// How the daemon was started. The broker can't change it once it listens: a captured one must not switch
/// encryption off.
pub(crate) struct Settings {
    /// How images are written.
    pub(crate) image: ImageSettings,
    /// Whether clean pages of mapped files are dropped as well.
    pub(crate) drop_file_pages: bool,
    /// How workers meet their parasites.
    pub(crate) way: Way,
    /// How workers are confined.
    pub(crate) terms: Terms,
}

/// How one process is put to sleep.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// What holds for all.
    pub(crate) settings: &'a Settings,
    /// What holds for this one.
    pub(crate) options: SleepOptions,
    /// When it is undone if it isn't done.
    pub(crate) deadline: Option<Instant>,
}

impl<'a> Plan<'a> {
    /// A plan whose time begins now.
    pub(crate) fn new(settings: &'a Settings, options: SleepOptions) -> Self {
        let limit = options.limit_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Self { settings, options, deadline: limit.and_then(|limit| Instant::now().checked_add(limit)) }
    }

    /// Whether there is time left.
    ///
    /// # Errors
    /// [`Error::Timeout`] when there is none.
    pub(super) fn require_time(&self, pid: i32) -> Result<()> {
        match (self.deadline, self.options.limit_seconds) {
            (Some(deadline), Some(seconds)) if Instant::now() >= deadline => {
                Err(Error::Timeout { pid, what: "the checkpoint", seconds: seconds.into() })
            }
            _ => Ok(()),
        }
    }
}
