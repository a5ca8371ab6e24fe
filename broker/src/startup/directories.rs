//! Image directories: opened once, before privileges are dropped, and known by descriptor from then on.

use super::identity::Identity;
use super::paths::{Place, Purpose, open_directory};
use crate::error::{Attempt, BrokerError};
use crate::sys::status::{self, FileType, is};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, fchown};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tracing::info;

/// Random names that are tried when the usual one belongs to a stranger.
const RANDOM_NAMES: usize = 8;

/// The image directories, in the order of the command line. There is at least one.
#[derive(Debug)]
pub(crate) struct ImageDirectories {
    directories: Vec<(String, OwnedFd)>,
}

impl ImageDirectories {
    /// Opens `names`; where the final user may not create files, makes it a private subdirectory.
    ///
    /// # Errors
    /// [`BrokerError`] for the first that can't be used.
    pub(crate) fn open(names: &[String], identity: &Identity) -> Result<Self, BrokerError> {
        let open = |name: &String| Ok((name.clone(), open_for(name, identity)?));
        Ok(Self { directories: names.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// The directory that was given as `name`; the first without a name.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<BorrowedFd<'_>> {
        let found = match name {
            None => self.directories.first(),
            Some(name) => self.directories.iter().find(|(known, _)| known == name),
        };
        found.map(|(_, directory)| directory.as_fd())
    }

    /// Their names, as given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.directories.iter().map(|(name, _)| name.as_str())
    }
}

fn open_for(name: &str, identity: &Identity) -> Result<OwnedFd, BrokerError> {
    let place = place(name);
    let directory = open_directory(place)?;
    // by the kernel's own judgement, which knows of access lists, read-only mounts and security modules
    let may = identity
        .acting(|| faccessat(&directory, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS))?;
    match may {
        Ok(()) => Ok(directory),
        Err(Errno::EACCES | Errno::EPERM) if identity.changes => {
            private_subdirectory(name, &directory, identity)
        }
        Err(cause) => Err(cause).attempt_at("create files in", place),
    }
}

fn place(name: &str) -> Place<'_> {
    Place { purpose: Purpose::ImageDirectory, path: Path::new(name) }
}

/// `memcr-UID` in `parent`, private to that user.
///
/// A stranger who may write to `parent` could have made it beforehand, to read the images or to
/// have root give away a directory of theirs: what is there is used only if it is the daemon's own
/// and closed to others, and what root makes is looked at through a descriptor before it is given
/// away.
fn private_subdirectory(
    parent_name: &str,
    parent: &OwnedFd,
    identity: &Identity,
) -> Result<OwnedFd, BrokerError> {
    let usual = format!("memcr-{}", identity.uid);
    let random = (0..RANDOM_NAMES).map(|_| format!("{usual}-{:016x}", RandomState::new().hash_one(0)));
    for name in std::iter::once(usual.clone()).chain(random) {
        let path = format!("{parent_name}/{name}");
        let made = match mkdirat(parent, name.as_str(), Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(cause) => return Err(cause).attempt_at("make", place(&path)),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match openat(parent, name.as_str(), flags, Mode::empty()) {
            Ok(opened) => opened,
            // swapped for something else, or somebody's link or file
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT) => continue,
            Err(cause) => return Err(cause).attempt_at("open", place(&path)),
        };
        if take(&opened, made, identity.uid, identity.gid).attempt_at("give away", place(&path))? {
            info!("user {} may not create files in {parent_name}: images go to {path}", identity.uid);
            return Ok(opened);
        }
    }
    Err(BrokerError::Unsuitable {
        path: place(&format!("{parent_name}/{usual}")).to_string(),
        reason: format!("is not a private directory of user {}; remove it", identity.uid),
    })
}

/// Makes `directory` the user's, if that is harmless; says whether it is now the user's own.
fn take(directory: &OwnedFd, made: bool, uid: Uid, gid: Gid) -> Result<bool, Errno> {
    let status = status::of(directory)?;
    let private = is(&status, FileType::Directory) && status.st_mode & 0o077 == 0;
    if private && status.st_uid == uid.as_raw() {
        return Ok(true);
    }
    // what root owns under the name we just made is ours, unless somebody moved another directory of root's there: that
    // would not be empty
    if made && private && status.st_uid == 0 && is_empty(directory)? {
        fchown(directory, Some(uid), Some(gid))?;
        return Ok(true);
    }
    Ok(false)
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty())?;
    for entry in listing.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getegid, geteuid};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    const DAEMON: u32 = 61_990;
    const STRANGER: u32 = 61_991;

    fn daemon() -> Identity {
        Identity { uid: Uid::from_raw(DAEMON), gid: Gid::from_raw(DAEMON), changes: true }
    }

    fn open(place: &tempfile::TempDir) -> Result<ImageDirectories, BrokerError> {
        ImageDirectories::open(&[place.path().display().to_string()], &daemon())
    }

    fn inode(directories: &ImageDirectories) -> u64 {
        status::of(directories.find(None).unwrap()).unwrap().st_ino
    }

    #[test]
    fn a_directory_that_the_user_may_write_to_is_used_itself() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
        let directories = open(&place).unwrap();
        assert_eq!(inode(&directories), fs::metadata(place.path()).unwrap().ino());
    }

    #[test]
    fn a_closed_directory_gets_a_private_subdirectory_that_is_used_again() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let first = inode(&open(&place).unwrap());
        let made = fs::metadata(place.path().join(format!("memcr-{DAEMON}"))).unwrap();
        assert_eq!(
            (made.uid(), made.gid(), made.mode() & 0o7777, made.ino()),
            (DAEMON, DAEMON, 0o700, first)
        );
        assert_eq!(inode(&open(&place).unwrap()), first);
    }

    #[test]
    fn what_a_stranger_made_beforehand_is_not_used() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let trap = place.path().join(format!("memcr-{DAEMON}"));
        fs::create_dir(&trap).unwrap();
        chown(&trap, Some(STRANGER), Some(STRANGER)).unwrap();
        assert_ne!(inode(&open(&place).unwrap()), fs::metadata(&trap).unwrap().ino());
        assert_eq!(fs::metadata(&trap).unwrap().uid(), STRANGER);
    }

    #[test]
    fn a_link_and_an_open_directory_under_the_usual_name_are_not_used() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let usual = place.path().join(format!("memcr-{DAEMON}"));
        symlink("/etc", &usual).unwrap();
        assert_ne!(inode(&open(&place).unwrap()), fs::metadata("/etc").unwrap().ino());
        fs::remove_file(&usual).unwrap();
        fs::create_dir(&usual).unwrap();
        chown(&usual, Some(DAEMON), Some(DAEMON)).unwrap();
        fs::set_permissions(&usual, Permissions::from_mode(0o755)).unwrap();
        assert_ne!(inode(&open(&place).unwrap()), fs::metadata(&usual).unwrap().ino());
    }

    #[test]
    fn a_request_finds_a_directory_by_the_name_it_was_given() {
        let place = tempfile::tempdir().unwrap();
        let name = place.path().display().to_string();
        let user = Identity { uid: geteuid(), gid: getegid(), changes: false };
        let directories = ImageDirectories::open(&[name.clone(), "/tmp".into()], &user).unwrap();
        assert_eq!(directories.names().collect::<Vec<_>>(), [name.as_str(), "/tmp"]);
        assert!(directories.find(Some("/tmp")).is_some() && directories.find(Some("/etc")).is_none());
    }
}
