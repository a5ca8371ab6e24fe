//! Everything that `memcr-client` writes: tables and sentences for people, JSON for programs.

use memcrclient::{Checksum, Entry, Error, Progress, SleepReport, WakeReport};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How results are written to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A process was put to sleep; there is no report where the original's protocol is spoken.
    pub(crate) fn asleep(self, pid: Option<i32>, report: Option<&SleepReport>) {
        let figures = report.map(|report| {
            format!(
                ": {} taken away, {} left of {} resident, image of {}, {:.2} s{}",
                size(report.dumped),
                size(report.rss_asleep),
                size(report.rss_before),
                size(report.image),
                seconds(report.attach_micros + report.dump_micros + report.free_micros),
                checksum(report.checksum),
            )
        });
        let text = format!("process {} sleeps{}", pid.unwrap_or_default(), figures.unwrap_or_default());
        self.write(text, || json!({ "pid": pid, "state": "asleep", "report": report.map(sleep) }));
    }

    /// A process was woken.
    pub(crate) fn awake(self, pid: Option<i32>, report: Option<&WakeReport>) {
        let figures = report.map(|report| {
            format!(
                ": {} given back, {} resident, {:.2} s{}",
                size(report.restored),
                size(report.rss_after),
                seconds(report.restore_micros),
                checksum(report.checksum),
            )
        });
        let text = format!("process {} runs{}", pid.unwrap_or_default(), figures.unwrap_or_default());
        let wake = |report: &WakeReport| with_checksum(json!(report), report.checksum);
        self.write(text, || json!({ "pid": pid, "state": "running", "report": report.map(wake) }));
    }

    pub(crate) fn status(self, entry: &Entry) {
        self.write(table(std::slice::from_ref(entry)), || json_entry(entry));
    }

    pub(crate) fn list(self, entries: &[Entry]) {
        let text = if entries.is_empty() { "nothing sleeps".to_owned() } else { table(entries) };
        self.write(text, || entries.iter().map(json_entry).collect());
    }

    fn write(self, text: String, json: impl FnOnce() -> Value) {
        let text = if self.json { json().to_string() } else { text };
        // a reader that has gone away (`| head`) is no failure of what was done
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}

/// How a checksum ends a sentence.
fn checksum(checksum: Option<Checksum>) -> String {
    checksum.map_or(String::new(), |checksum| format!(", checksum {checksum}"))
}

fn json_entry(entry: &Entry) -> Value {
    let mut value = json!(entry);
    if let (Some(members), Some(report)) = (value.as_object_mut(), &entry.sleep) {
        members.insert("sleep".to_owned(), sleep(report));
    }
    value
}

fn sleep(report: &SleepReport) -> Value {
    with_checksum(json!(report), report.checksum)
}

/// Programs get the checksum as people do, not as a list of numbers.
fn with_checksum(mut report: Value, checksum: Option<Checksum>) -> Value {
    if let (Some(members), Some(checksum)) = (report.as_object_mut(), checksum) {
        members.insert("checksum".to_owned(), json!(checksum.to_string()));
    }
    report
}

/// Shows why it was not done; returns the exit status that says so.
pub(crate) fn failure(error: &Error) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "memcr-client: {}", printable(&error.to_string()));
    ExitCode::from(error.exit_status())
}

/// Shows what is wrong with the command line, or the help or version that was asked for.
pub(crate) fn usage(message: &clap::Error) -> ExitCode {
    let _ = message.print();
    ExitCode::from(u8::from(message.use_stderr()))
}

/// One line on standard error that says how far an operation is; shown on a terminal only, and
/// wiped when dropped.
pub(crate) struct ProgressLine {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl ProgressLine {
    /// Between two updates.
    const PAUSE: Duration = Duration::from_millis(100);

    pub(crate) fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < Self::PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = progress.done.saturating_mul(100).checked_div(progress.total).unwrap_or(0).min(100);
        let state = progress.state.name();
        let (done, total) = (size(progress.done), size(progress.total));
        let _ = write!(io::stderr().lock(), "\r{state} {percent} % ({done} of {total})\x1b[K");
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// The entries as a table with a head line, the columns as wide as they need to be.
fn table(entries: &[Entry]) -> String {
    let head = ["PID", "UID", "STATE", "FOR", "BEFORE", "ASLEEP", "IMAGE", "GUARD", "EXECUTABLE"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(entry: &Entry) -> [String; 9] {
    let figure =
        |of: fn(&SleepReport) -> u64| entry.sleep.as_ref().map_or("-".to_owned(), |sleep| size(of(sleep)));
    [
        entry.pid.to_string(),
        entry.uid.to_string(),
        entry.state.name().to_owned(),
        format!("{} s", entry.since_seconds),
        figure(|sleep| sleep.rss_before),
        figure(|sleep| sleep.rss_asleep),
        figure(|sleep| sleep.image),
        entry.sleep.as_ref().map_or("-", |sleep| sleep.guard.name()).to_owned(),
        printable(&entry.executable),
    ]
}

/// Text of others without anything that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Bytes for people: three digits or so, in binary units.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units.get(unit).copied().unwrap_or_default())
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcrclient::{Guard, State};

    #[test]
    fn sizes_keep_few_digits() {
        assert_eq!(size(0), "0.0 KiB");
        assert_eq!(size(256 << 20), "256.0 MiB");
        assert_eq!(size(1023 << 20), "1.0 GiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn a_name_with_terminal_commands_is_shown_harmless() {
        let entry = Entry {
            pid: 7,
            uid: 1000,
            executable: "/bin/\x1b[31mred".to_owned(),
            state: State::Attaching,
            since_seconds: 3,
            sleep: None,
        };
        let shown = table(&[entry]);
        assert!(!shown.contains('\x1b'), "{shown}");
        assert!(shown.starts_with("PID  UID   STATE      FOR"), "{shown}");
    }

    #[test]
    fn a_checksum_is_shown_in_hexadecimal_to_people_and_programs() {
        let sum =
            Checksum([0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e]);
        assert_eq!(checksum(Some(sum)), ", checksum d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(checksum(None), "");
        let report = SleepReport {
            rss_before: 0,
            rss_asleep: 0,
            dumped: 0,
            zero: 0,
            pages: 0,
            image: 0,
            file_dropped: 0,
            checksum: Some(sum),
            threads: 1,
            guard: Guard::Full,
            attach_micros: 0,
            dump_micros: 0,
            free_micros: 0,
        };
        let entry = Entry {
            pid: 7,
            uid: 1000,
            executable: "/bin/a".to_owned(),
            state: State::Asleep,
            since_seconds: 3,
            sleep: Some(report),
        };
        assert_eq!(json_entry(&entry)["sleep"]["checksum"], "d41d8cd98f00b204e9800998ecf8427e");
    }
}
