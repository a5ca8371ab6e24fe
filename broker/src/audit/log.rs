//! Where records go: a file opened before privileges were dropped, or standard error.

use super::chain::{End, Link};
use super::escape;
use super::file::LogFile;
use super::record::{Event, Gap, Record, SCHEMA};
use crate::error::BrokerError;
use crate::standard_error::StandardError;
use crate::startup::identity::Identity;
use serde::Serialize;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;
use tracing::{error, info, warn};

/// Back to the start of the line, and all of it erased (ECMA-48).
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// The open log. A record is one line; in a file, one write.
#[derive(Debug)]
pub(crate) struct AuditLog {
    sink: Sink,
    /// Where the next record is hung up.
    next: Link,
    missed: u64,
    /// The last write may have left half a line.
    torn: bool,
    /// How the log begins.
    origin: Origin,
    /// Whether nothing may be done without a record.
    required: bool,
}

/// Where the first record of this process is hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// Nowhere: nothing is before it.
    New,
    /// On the last record of the file.
    Continued,
    /// Nowhere, though the file holds something, whose end is no record.
    BegunAnew,
}

#[derive(Debug)]
enum Sink {
    StandardError,
    File(LogFile),
    /// One shot on a terminal, where a progress bar may stand on the line.
    Terminal,
    /// A disk with room for so many bytes more.
    #[cfg(test)]
    Disk(Vec<u8>, usize),
}

impl AuditLog {
    /// Records go to standard error.
    pub(crate) fn standard_error() -> Self {
        Self::to(Sink::StandardError, End { link: Some(Link::FIRST), torn: false })
    }

    /// Records go to standard error, a terminal: each on a line of its own, whatever was drawn there.
    pub(crate) fn terminal() -> Self {
        Self::to(Sink::Terminal, End { link: Some(Link::FIRST), torn: false })
    }

    /// Records are appended to the file at `path`, which is made with mode 0600, and hung up on its last one.
    ///
    /// # Errors
    /// [`BrokerError`] when it can't be opened, or a stranger could read or change it.
    pub(crate) fn append_to(path: &Path, identity: &Identity) -> Result<Self, BrokerError> {
        let (file, end) = LogFile::open(path, identity)?;
        if end.link.is_none() {
            warn!(
                "the last line of the audit log {} is no record: a new chain begins, and `memcr audit verify` will say so",
                path.display()
            );
        }
        Ok(Self::to(Sink::File(file), end))
    }

    fn to(sink: Sink, End { link, torn }: End) -> Self {
        let origin = match link {
            None => Origin::BegunAnew,
            Some(Link::FIRST) => Origin::New,
            Some(_) => Origin::Continued,
        };
        Self { sink, next: link.unwrap_or(Link::FIRST), missed: 0, torn, origin, required: false }
    }

    /// How the log begins.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Nothing is to be done without a record.
    pub(crate) fn require(mut self) -> Self {
        self.required = true;
        self
    }

    /// Whether nothing is to be done without a record.
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// Whether there is half a line at its end, which the next record should say.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    /// The directory in which the file can be opened anew.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::File(file) => file.directory(),
            Sink::StandardError | Sink::Terminal => None,
            #[cfg(test)]
            Sink::Disk(..) => None,
        }
    }

    /// Opens the file anew by its name, since the old one was renamed (rotated). If that can't be, the old one is
    /// written on. Why not.
    pub(crate) fn reopen(&mut self) -> Option<String> {
        let Sink::File(file) = &mut self.sink else {
            return Some("it is no file (--audit-log)".into());
        };
        match file.reopen() {
            Ok(()) => {
                info!("the audit log was opened anew");
                None
            }
            Err(reason) => {
                error!("the audit log could not be opened anew, and goes on in the same file: {reason}");
                Some(reason)
            }
        }
    }

    /// Writes a record. That it could not be written is said in the operational log, and by a later record.
    pub(crate) fn record(&mut self, event: Event<'_>) {
        let _ = self.write(event);
    }

    /// Writes a record. What can't be written is said in the operational log, and counted in a later record.
    ///
    /// # Errors
    /// What was said. Whoever may do nothing without a record heeds it; the others need not.
    pub(crate) fn write(&mut self, event: Event<'_>) -> io::Result<()> {
        let written = self.write_gap().and_then(|()| self.write_line(event));
        if let Err(cause) = &written {
            self.missed += 1;
            error!("write the audit log: {cause}; {} records are missing", self.missed);
        }
        written
    }

    fn write_gap(&mut self) -> io::Result<()> {
        if self.missed > 0 {
            self.write_line(Event::Gap(Gap { missed: self.missed, torn: self.torn }))?;
            self.missed = 0;
        }
        Ok(())
    }

    fn write_line(&mut self, event: Event<'_>) -> io::Result<()> {
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let mut line = Vec::with_capacity(512);
        if matches!(self.sink, Sink::Terminal) {
            line.extend_from_slice(CLEAR_LINE);
        }
        if self.torn {
            line.push(b'\n');
        }
        let begin = line.len();
        let Link { sequence, previous } = self.next;
        escape::write(
            &mut line,
            &Record { schema: SCHEMA, sequence, previous: previous.to_string(), time, event },
        )?;
        let next = Link::after(sequence, line.get(begin..).unwrap_or_default());
        line.push(b'\n');
        let mut rest = line.as_slice();
        let written = self.write_all(&mut rest);
        // what lacks nothing but its end is there, also for who goes on behind it
        let is_there = rest.len() <= 1;
        self.torn = !rest.is_empty();
        if is_there {
            self.next = next;
            return Ok(());
        }
        written
    }

    /// Writes as much as there is room for; `rest` is what is left.
    fn write_all(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            let written = match &mut self.sink {
                Sink::StandardError | Sink::Terminal => StandardError.write(rest),
                Sink::File(file) => file.write(rest),
                #[cfg(test)]
                Sink::Disk(bytes, room) => {
                    let written = rest.get(..*room).unwrap_or(rest);
                    bytes.extend_from_slice(written);
                    *room -= written.len();
                    Ok(written.len())
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => *rest = rest.get(length..).unwrap_or_default(),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Stop;
    use crate::audit::verify::Verifier;
    use nix::sys::stat::Mode;
    use nix::unistd::{getegid, geteuid};
    use proptest::prelude::*;
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

    fn user() -> Identity {
        Identity { uid: geteuid(), gid: getegid(), changes: false }
    }

    #[test]
    fn a_record_is_one_line_of_json_however_odd_its_strings() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        log.record(Event::Stop(Stop { reason: "new\nline \"quoted\" \u{1b}[2J" }));
        log.record(Event::Stop(Stop { reason: "second" }));
        let text = fs::read_to_string(&path).unwrap();
        let records: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["schema"], 1);
        assert_eq!(records[0]["event"], "stop");
        assert_eq!(records[0]["reason"], "new\nline \"quoted\" \u{1b}[2J");
        let time = records[0]["time"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[26..]), (27, "T", "Z"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let refused = AuditLog::append_to(&path, &user()).unwrap_err();
        assert!(refused.to_string().contains("writable by its owner only"), "{refused}");
    }

    #[test]
    fn a_named_pipe_of_a_stranger_is_refused_and_a_device_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        let _reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        assert!(AuditLog::append_to(&path, &user()).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o622)).unwrap();
        assert!(AuditLog::append_to(&path, &user()).is_err());
        if geteuid().is_root() {
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, Some(61_991), None).unwrap();
            let refused = AuditLog::append_to(&path, &user()).unwrap_err().to_string();
            assert!(refused.contains("it is user 61991's"), "{refused}");
        }
        assert!(AuditLog::append_to(Path::new("/dev/null"), &user()).is_ok());
    }

    #[test]
    fn records_that_could_not_be_written_are_counted_in_the_next() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        let good = std::mem::replace(&mut log.sink, Sink::File(LogFile::of(File::open(&path).unwrap())));
        log.record(Event::Stop(Stop { reason: "lost" }));
        log.sink = good;
        log.record(Event::Stop(Stop { reason: "kept" }));
        let text = fs::read_to_string(&path).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&records[0]["event"], &records[0]["missed"]), (&"gap".into(), &1.into()));
        assert_eq!(records[1]["reason"], "kept");
    }

    fn verify(files: &[&Path]) -> Vec<String> {
        let mut verifier = Verifier::new(false);
        for file in files {
            verifier.read("log", fs::read(file).unwrap().as_slice());
        }
        verifier.finish(None).1.into_iter().map(|problem| problem.reason).collect()
    }

    /// A record of any kind.
    fn stop() -> Event<'static> {
        Event::Stop(Stop { reason: "x" })
    }

    #[test]
    fn the_chain_goes_on_over_restarts_failures_and_rotation() {
        let place = tempfile::tempdir().unwrap();
        let (path, old) = (place.path().join("audit"), place.path().join("audit.1"));
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        assert_eq!(log.origin(), Origin::New);
        log.record(stop());
        drop(log);
        // half a line, as a crash or a full disk leaves it
        Write::write_all(&mut File::options().append(true).open(&path).unwrap(), b"{\"schema\":1").unwrap();
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        assert!(log.is_torn() && log.origin() == Origin::Continued);
        log.record(Event::Gap(Gap { missed: 0, torn: log.torn }));
        log.record(stop());
        fs::rename(&path, &old).unwrap();
        log.record(stop());
        assert_eq!(log.reopen(), None);
        log.record(stop());
        assert_eq!(verify(&[&old, &path]), Vec::<String>::new());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_ends_in_something_else_is_begun_anew_and_that_is_found() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        fs::write(&path, "hello\n").unwrap();
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        assert_eq!(log.origin(), Origin::BegunAnew);
        log.record(stop());
        log.record(stop());
        assert_eq!(verify(&[&path]), ["this is no record"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn two_never_continue_one_chain() {
        let place = tempfile::tempdir().unwrap();
        let (path, old) = (place.path().join("audit"), place.path().join("audit.1"));
        let mut first = AuditLog::append_to(&path, &user()).unwrap();
        let refused = AuditLog::append_to(&path, &user()).unwrap_err().to_string();
        assert!(refused.contains("another memcr writes to it"), "{refused}");
        // nor after rotation
        fs::rename(&path, &old).unwrap();
        let second = AuditLog::append_to(&path, &user()).unwrap();
        assert!(first.reopen().is_some_and(|reason| reason.contains("another memcr")));
        drop(second);
        assert_eq!(first.reopen(), None);
        assert!(AuditLog::append_to(&path, &user()).is_err() && AuditLog::append_to(&old, &user()).is_ok());
        // what was not renamed stays as it is
        assert_eq!(first.reopen(), None);
        first.record(stop());
        first.record(stop());
        assert_eq!(first.reopen(), None);
        first.record(stop());
        assert_eq!(verify(&[&path]), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_a_stranger_put_in_its_place_is_not_opened_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        for trap in ["link", "open", "full", "two names", "directory"] {
            fs::rename(&path, place.path().join(format!("old-{trap}"))).unwrap();
            match trap {
                "link" => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
                "open" => {
                    fs::write(&path, "").unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
                }
                "full" => fs::write(&path, "{}\n").unwrap(),
                "two names" => {
                    fs::write(&path, "").unwrap();
                    fs::hard_link(&path, place.path().join("second")).unwrap();
                }
                _ => fs::create_dir(&path).unwrap(),
            }
            assert!(log.reopen().is_some(), "{trap}");
        }
        log.record(Event::Stop(Stop { reason: "kept" }));
        assert!(fs::read_to_string(place.path().join("old-link")).unwrap().contains("kept"));
    }

    proptest! {
        /// A disk that is full again and again, after any byte, and a daemon that is started again and again.
        #[test]
        fn whatever_could_be_written_is_one_chain_and_the_rest_is_counted(
            steps in prop::collection::vec((0..4_usize, 0..900_usize), 1..30)
        ) {
            let mut log = AuditLog::to(Sink::Disk(Vec::new(), 0), End::of(&[], true));
            let (mut written, mut told) = (0_u64, 0_u64);
            for (kind, room) in steps {
                let Sink::Disk(bytes, left) = &mut log.sink else { unreachable!() };
                if kind == 0 {
                    // what a daemon has not said of what is missing goes with it
                    let end = End::of(bytes, true);
                    log = AuditLog::to(Sink::Disk(std::mem::take(bytes), room), end);
                } else {
                    *left = room;
                }
                let (missed, torn) = (log.missed, log.is_torn());
                let event = if kind == 0 { Event::Gap(Gap { missed: 0, torn }) } else { stop() };
                let is_written = log.write(event).is_ok();
                let has_told = missed > 0 && log.missed <= 1;
                written += u64::from(is_written) + u64::from(has_told);
                told += if has_told { missed } else { 0 };
            }
            let Sink::Disk(bytes, _) = &log.sink else { unreachable!() };
            let mut verifier = Verifier::new(false);
            verifier.read("log", bytes.as_slice());
            let (summary, problems) = verifier.finish(None);
            let mut reasons: Vec<_> = problems.into_iter().map(|problem| problem.reason).collect();
            reasons.retain(|reason| written > 0 || reason != "there is no record in it");
            let text = String::from_utf8_lossy(bytes);
            prop_assert_eq!((reasons, summary.records, summary.missed), (Vec::new(), written, told), "{}", text);
        }
    }
}
