//! Everything that is said to the person at the terminal. Nothing else in this crate prints.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memcr_protocol::image::Checksum;
use memcr_protocol::report::{SleepReport, State, WakeReport};
use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};

/// Says a failure.
pub(crate) fn failure(message: &impl Display) {
    // nobody is left to tell if this can't be written
    let _ = writeln!(stderr(), "memcr: {message}");
}

/// Says something that was done, or is awaited.
pub(crate) fn note(message: &str) {
    let _ = writeln!(stdout(), "{message}");
}

/// Tells of one process that is put to sleep and woken.
#[derive(Debug)]
pub(crate) struct Renderer {
    pid: i32,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
}

impl Renderer {
    /// Asks the terminal what it must know; later it may not.
    pub(crate) fn new(pid: i32) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{msg:10} {bar:40} {bytes}/{total_bytes}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { pid, bar }
    }

    /// How far it is.
    pub(crate) fn progress(&self, state: State, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            // first, since the next line draws it
            bar.set_length(total);
            bar.set_message(state.name());
            bar.set_position(done);
        }
    }

    /// It sleeps.
    pub(crate) fn asleep(&self, report: &SleepReport) {
        self.end();
        let SleepReport { rss_before, rss_asleep, image, guard, .. } = report;
        note(&format!("process {} is asleep: image {}, guard {}", self.pid, size(*image), guard.name()));
        note(&format!("rss before: {}", size(*rss_before)));
        note(&format!("rss asleep: {}", size(*rss_asleep)));
        if report.file_dropped > 0 {
            note(&format!("file pages dropped: {}", size(report.file_dropped)));
        }
        note_checksum(report.checksum);
    }

    /// It runs again.
    pub(crate) fn awake(&self, report: &WakeReport) {
        self.end();
        note(&format!(
            "process {} is awake: {} in {} us",
            self.pid,
            size(report.restored),
            report.restore_micros
        ));
        note(&format!("rss after: {}", size(report.rss_after)));
        note_checksum(report.checksum);
    }

    /// No more progress.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Both times the same, so that they can be compared.
fn note_checksum(checksum: Option<Checksum>) {
    if let Some(checksum) = checksum {
        note(&format!("checksum: {checksum}"));
    }
}

/// Bytes, for people and for programs.
fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a tenth of a mebibyte")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB ({bytes} bytes)")
}
