//! The file of the log: opened before privileges are dropped, and anew afterwards when it was rotated.

use super::chain::End;
use crate::error::{Attempt, BrokerError};
use crate::startup::identity::Identity;
use crate::startup::paths::{Place, Purpose, open_parent};
use crate::sys::status::{self, FileType, Stat, is};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat, geteuid};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tracing::warn;

/// How the file is opened: only to append, never by a link, never waiting for a reader of a named pipe.
pub(crate) const APPEND: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC)
    .union(LARGE);

/// On 32 bits a file without it ends at 2 GiB.
const LARGE: OFlag = OFlag::O_LARGEFILE;

/// Bytes at its end in which the last record is looked for; a record with 65,536 groups is shorter.
const TAIL: u64 = 1 << 20;

/// The open file.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    /// Of a regular file: where it can be opened anew.
    home: Option<Home>,
}

#[derive(Debug)]
struct Home {
    directory: OwnedFd,
    name: OsString,
    identity: Identity,
}

impl LogFile {
    /// Opens it for appending, or makes it; how it ends.
    ///
    /// # Errors
    /// [`BrokerError`] when it can't be opened, or a stranger could read or change it.
    pub(super) fn open(path: &Path, identity: &Identity) -> Result<(Self, End), BrokerError> {
        let place = Place { purpose: Purpose::AuditLog, path };
        let (directory, name) = open_parent(place)?;
        let file = openat(&directory, name.as_os_str(), APPEND, Mode::S_IRUSR | Mode::S_IWUSR)
            .attempt_at("open", place)?;
        let status = status::of(&file).attempt_at("look at", place)?;
        check(&status, identity)
            .map_err(|reason| BrokerError::Unsuitable { path: place.to_string(), reason })?;
        if !is(&status, FileType::RegularFile) {
            return Ok((Self { file: File::from(file), home: None }, End::of(&[], true)));
        }
        claim(&file).map_err(|reason| BrokerError::Unsuitable { path: place.to_string(), reason })?;
        let end = end_of(&directory, &name, &status).attempt_at("read the end of", place)?;
        warn_unless_it_can_be_reopened(&directory, identity, place)?;
        let home = Some(Home { directory, name, identity: *identity });
        Ok((Self { file: File::from(file), home }, end))
    }

    /// Without a place where it could be opened anew.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self { file, home: None }
    }

    /// The directory in which it can be opened anew.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.home.as_ref().map(|home| home.directory.as_fd())
    }

    /// Opens what has its name now, or makes it; the same is asked of it as at the start, and that nothing is in it.
    ///
    /// # Errors
    /// Why the old file is still the open one.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        let Some(Home { directory, name, identity }) = &self.home else {
            return Err("it is no regular file".into());
        };
        let file = openat(directory, name.as_os_str(), APPEND, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|cause| format!("{cause}; the daemon's user must be able to write there"))?;
        let status = status::of(&file).map_err(|cause| cause.to_string())?;
        if !is(&status, FileType::RegularFile) {
            return Err("it is no regular file any more".into());
        }
        let old = status::of(&self.file).map_err(|cause| cause.to_string())?;
        if (status.st_dev, status.st_ino) == (old.st_dev, old.st_ino) {
            // it was not renamed
            return Ok(());
        }
        check(&status, identity)?;
        if status.st_size != 0 {
            return Err("what has its name now is not empty: the chain can't go on in it".into());
        }
        claim(&file)?;
        self.file = File::from(file);
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is wrong with a file, and what to do about it.
fn check(status: &Stat, identity: &Identity) -> Result<(), String> {
    let ours = identity.may_have_left(status.st_uid) || status.st_uid == geteuid().as_raw();
    // a device (/dev/null, a terminal) is what it is, whoever may write to it
    let device = is(status, FileType::CharacterDevice);
    if !device && (!ours || status.st_mode & 0o022 != 0 || status.st_nlink != 1) {
        return Err(format!(
            "it must belong to root or to the daemon's user, have one name, and be writable by its owner only: name another, or change that (it is user {}'s, mode {:o}, {} names)",
            status.st_uid,
            status.st_mode & 0o7777,
            status.st_nlink
        ));
    }
    Ok(())
}

/// Makes sure that nobody else continues the chain in this file, as long as it is open here.
fn claim(file: &OwnedFd) -> Result<(), String> {
    let all = libc::flock {
        l_type: truncated(libc::F_WRLCK),
        l_whence: truncated(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&all)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            Err("another memcr writes to it, and a chain has one end: name another file".into())
        }
        Err(cause @ (Errno::EOPNOTSUPP | Errno::ENOLCK | Errno::ENOSYS)) => {
            warn!("the audit log can't be locked ({cause}): see that no other memcr writes to it");
            Ok(())
        }
        Err(cause) => Err(format!("it can't be locked: {cause}")),
    }
}

/// As C has these numbers in a `struct flock`.
#[allow(clippy::cast_possible_truncation, reason = "they are 0 and 1")]
const fn truncated(number: libc::c_int) -> libc::c_short {
    number as libc::c_short
}

/// Reads how the file ends, by a descriptor of its own: the one for appending can't read, ever.
fn end_of(directory: &OwnedFd, name: &OsString, seen: &Stat) -> Result<End, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | LARGE;
    let mut file = File::from(openat(directory, name.as_os_str(), flags, Mode::empty())?);
    let status = status::of(&file)?;
    if (status.st_dev, status.st_ino) != (seen.st_dev, seen.st_ino) {
        return Err(Errno::ESTALE);
    }
    let length = u64::try_from(status.st_size).unwrap_or(0);
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(errno)?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).map_err(errno)?;
    Ok(End::of(&tail, length <= TAIL))
}

fn warn_unless_it_can_be_reopened(
    directory: &OwnedFd,
    identity: &Identity,
    place: Place<'_>,
) -> Result<(), BrokerError> {
    let may = identity
        .acting(|| faccessat(directory, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS))?;
    if let Err(cause) = may {
        warn!(
            "{place} can be opened anew when it is rotated (SIGUSR1) only if whoever renames it makes the new one for user {}, who may not make files in its directory ({cause}); logrotate does, with `create 0600`",
            identity.uid
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getegid, geteuid};

    #[test]
    fn a_log_may_be_longer_than_2_gib() {
        const LENGTH: u64 = 3 << 30;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let identity = Identity { uid: geteuid(), gid: getegid(), changes: false };
        let (mut log, _) = LogFile::open(&path, &identity).unwrap();
        // by another descriptor, as if it had grown; what is not written takes no room
        File::options().write(true).open(&path).unwrap().set_len(LENGTH).unwrap();
        log.write_all(b"a record\n").unwrap();
        drop(log);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH + 9);
        let (_, end) = LogFile::open(&path, &identity).unwrap();
        assert_eq!(end, End::of(b"a record\n", false));
    }
}
