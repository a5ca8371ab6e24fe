//! Where records go: a file opened before privileges were dropped, or standard error.

use super::record::{Event, Gap, Record, SCHEMA};
use crate::error::{Attempt, BrokerError};
use crate::standard_error::StandardError;
use crate::startup::identity::Identity;
use crate::startup::paths::{Place, Purpose, is, open_parent};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;
use tracing::error;

/// Back to the start of the line, and all of it erased (ECMA-48).
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// The open log. A record is one line; in a file, one write.
#[derive(Debug)]
pub(crate) struct AuditLog {
    sink: Sink,
    missed: u64,
    /// The last write may have left half a line.
    torn: bool,
}

#[derive(Debug)]
enum Sink {
    StandardError,
    File(File),
    /// One shot on a terminal, where a progress bar may stand on the line.
    Terminal,
}

impl AuditLog {
    /// Records go to standard error.
    pub(crate) fn standard_error() -> Self {
        Self::to(Sink::StandardError)
    }

    /// Records go to standard error, a terminal: each on a line of its own, whatever was drawn there.
    pub(crate) fn terminal() -> Self {
        Self::to(Sink::Terminal)
    }

    /// Records are appended to the file at `path`, which is made with mode 0600.
    ///
    /// # Errors
    /// [`BrokerError`] when it can't be opened, or a stranger could read or change it.
    pub(crate) fn append_to(path: &Path, identity: &Identity) -> Result<Self, BrokerError> {
        let place = Place { purpose: Purpose::AuditLog, path };
        let (parent, name) = open_parent(place)?;
        // NONBLOCK: a named pipe without a reader must not stop us here
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&parent, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .attempt_at("open", place)?;
        let status = fstat(&file).attempt_at("look at", place)?;
        let ours = identity.may_have_left(status.st_uid) || status.st_uid == nix::unistd::geteuid().as_raw();
        // a device (/dev/null, a terminal) is what it is, whoever may write to it
        let device = is(&status, SFlag::S_IFCHR);
        if !device && (!ours || status.st_mode & 0o022 != 0 || status.st_nlink != 1) {
            return Err(BrokerError::Unsuitable {
                path: place.to_string(),
                reason: format!(
                    "it must belong to root or to the daemon's user, have one name, and be writable by its owner only: name another, or change that (it is user {}'s, mode {:o}, {} names)",
                    status.st_uid,
                    status.st_mode & 0o7777,
                    status.st_nlink
                ),
            });
        }
        Ok(Self::to(Sink::File(File::from(file))))
    }

    fn to(sink: Sink) -> Self {
        Self { sink, missed: 0, torn: false }
    }

    /// Writes a record. What can't be written is said in the operational log, and counted in a later record.
    pub(crate) fn write(&mut self, event: Event<'_>) {
        if self.missed > 0 {
            let gap = Event::Gap(Gap { missed: self.missed });
            if self.write_line(gap).is_ok() {
                self.missed = 0;
            }
        }
        if let Err(cause) = self.write_line(event) {
            self.missed += 1;
            error!("write the audit log: {cause}; {} records are missing", self.missed);
        }
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
        serde_json::to_writer(&mut line, &Record { schema: SCHEMA, time, event })?;
        line.push(b'\n');
        let written = match &mut self.sink {
            Sink::StandardError | Sink::Terminal => StandardError.write_all(&line),
            Sink::File(file) => file.write_all(&line),
        };
        self.torn = written.is_err();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Stop;
    use nix::unistd::{getegid, geteuid};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

    fn user() -> Identity {
        Identity { uid: geteuid(), gid: getegid(), changes: false }
    }

    #[test]
    fn a_record_is_one_line_of_json_however_odd_its_strings() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit");
        let mut log = AuditLog::append_to(&path, &user()).unwrap();
        log.write(Event::Stop(Stop { reason: "new\nline \"quoted\" \u{1b}[2J" }));
        log.write(Event::Stop(Stop { reason: "second" }));
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
        let good = std::mem::replace(&mut log.sink, Sink::File(File::open(&path).unwrap()));
        log.write(Event::Stop(Stop { reason: "lost" }));
        log.sink = good;
        log.write(Event::Stop(Stop { reason: "kept" }));
        let text = fs::read_to_string(&path).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&records[0]["event"], &records[0]["missed"]), (&"gap".into(), &1.into()));
        assert_eq!(records[1]["reason"], "kept");
    }
}
