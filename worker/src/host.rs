//! What the launcher knows of the machine, read before it is confined.

use crate::error::{Error, Result};
use crate::image::BootId;
use std::num::NonZero;
use std::{fs, thread};

/// Facts that don't change while it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    /// The boot in which it runs.
    pub(crate) boot_id: BootId,
    /// Cores it may use.
    pub(crate) cores: usize,
}

impl Host {
    /// Reads them.
    pub(crate) fn read() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let text = fs::read_to_string(path)
            .map_err(|error| Error::Unsupported(format!("reading {path}: {error}")))?;
        let boot_id = BootId::parse(text.trim())
            .ok_or_else(|| Error::Unsupported(format!("{path} holds no boot id")))?;
        Ok(Self { boot_id, cores: thread::available_parallelism().map_or(1, NonZero::get) })
    }
}
