//! Walking to a directory that an administrator named, without being led astray by a stranger.
//!
//! memcr starts as root and takes paths in directories that anybody may write to. /tmp may well be
//! a symbolic link (it is on many devices), so links can't just be refused; but one that a stranger
//! planted in such a directory must not decide where root makes directories, sockets and logs. So the
//! path is walked component by component, and a link counts only if root or the user who starts
//! memcr owns it. Nobody can swap a component between look and use: each is held by a descriptor.

use crate::error::{Attempt, BrokerError};
use crate::sys::status::{self, FileType, is};
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// Links followed in one walk, as in the kernel.
const MAX_LINKS: usize = 40;

/// A path that the command line gave, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// What is there, or is to be.
    pub(crate) purpose: Purpose,
    /// Where, as it was given.
    pub(crate) path: &'a Path,
}

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Socket,
    ImageDirectory,
    AuditLog,
    PolicyFile,
    Worker,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, option) = match self.purpose {
            Purpose::Socket => ("socket", "-l"),
            Purpose::ImageDirectory => ("image directory", "-d"),
            Purpose::AuditLog => ("audit log", "--audit-log"),
            Purpose::PolicyFile => ("policy file", "--policy"),
            Purpose::Worker => ("program", "--worker"),
        };
        write!(formatter, "{what} {} ({option})", self.path.display())
    }
}

const HOLD: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The directory at `place`, opened for reading and for making files in it.
///
/// # Errors
/// [`BrokerError`] when it can't be opened, is no directory, or a foreign link leads to it.
pub(crate) fn open_directory(place: Place<'_>) -> Result<OwnedFd, BrokerError> {
    let held = walk(place.path, place)?;
    openat(&held, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .attempt_at("open", place)
}

/// The directory that holds the file at `place`, and the name of the file in it. Whether the file
/// is there, and is a link, is not looked at.
///
/// # Errors
/// [`BrokerError`] as [`open_directory`], and when `place` names no file.
pub(crate) fn open_parent(place: Place<'_>) -> Result<(OwnedFd, OsString), BrokerError> {
    let name = place.path.file_name().ok_or_else(|| BrokerError::Unsuitable {
        path: place.to_string(),
        reason: "names no file; give a path that ends in a name".into(),
    })?;
    let parent = place.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((walk(parent.unwrap_or(Path::new(".")), place)?, name.to_owned()))
}

/// Walks to the directory at `path`, for the sake of `place`.
fn walk(path: &Path, place: Place<'_>) -> Result<OwnedFd, BrokerError> {
    let mut left: VecDeque<Step> = steps(path);
    let mut at = open(".", HOLD | OFlag::O_DIRECTORY, Mode::empty()).attempt("open", ".")?;
    let mut links = 0;
    while let Some(step) = left.pop_front() {
        let name = match step {
            Step::Root => {
                at = open("/", HOLD | OFlag::O_DIRECTORY, Mode::empty()).attempt("open", "/")?;
                continue;
            }
            Step::Name(name) => name,
        };
        let next = openat(&at, name.as_os_str(), HOLD, Mode::empty()).attempt_at("find", place)?;
        let status = status::of(&next).attempt_at("look at", place)?;
        if is(&status, FileType::Symlink) {
            links += 1;
            if links > MAX_LINKS {
                return Err(BrokerError::TooManyLinks { path: place.to_string() });
            }
            if status.st_uid != 0 && status.st_uid != geteuid().as_raw() {
                return Err(BrokerError::ForeignLink {
                    path: place.to_string(),
                    link: Path::new(&name).display().to_string(),
                    owner: status.st_uid,
                });
            }
            let target = readlinkat(&next, "").attempt_at("read a link on the way to", place)?;
            for step in steps(Path::new(&target)).into_iter().rev() {
                left.push_front(step);
            }
        } else if is(&status, FileType::Directory) {
            at = next;
        } else {
            return Err(BrokerError::Unsuitable {
                path: place.to_string(),
                reason: format!("{} is not a directory; name another path", Path::new(&name).display()),
            });
        }
    }
    Ok(at)
}

enum Step {
    Root,
    Name(OsString),
}

fn steps(path: &Path) -> VecDeque<Step> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Name("..".into())),
            Component::Normal(name) => Some(Step::Name(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{lchown, symlink};

    fn open_directory(path: &Path) -> Result<OwnedFd, BrokerError> {
        super::open_directory(Place { purpose: Purpose::ImageDirectory, path })
    }

    #[test]
    fn a_link_of_our_own_is_followed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("real")).unwrap();
        symlink("real", place.path().join("link")).unwrap();
        let opened = open_directory(&place.path().join("link")).unwrap();
        let real = std::fs::metadata(place.path().join("real")).unwrap();
        assert_eq!(status::of(&opened).unwrap().st_ino, std::os::unix::fs::MetadataExt::ino(&real));
    }

    #[test]
    fn a_link_of_a_stranger_is_refused_even_in_the_middle_of_a_path() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("real/inner")).unwrap();
        symlink("real", place.path().join("link")).unwrap();
        lchown(place.path().join("link"), Some(65_000), Some(65_000)).unwrap();
        let refused = open_directory(&place.path().join("link/inner")).unwrap_err();
        assert!(matches!(refused, BrokerError::ForeignLink { owner: 65_000, .. }), "{refused}");
    }

    #[test]
    fn links_in_a_circle_end() {
        let place = tempfile::tempdir().unwrap();
        symlink("b", place.path().join("a")).unwrap();
        symlink("a", place.path().join("b")).unwrap();
        let refused = open_directory(&place.path().join("a")).unwrap_err();
        assert!(matches!(refused, BrokerError::TooManyLinks { .. }), "{refused}");
    }

    #[test]
    fn a_file_is_no_directory() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        let refused = open_directory(&place.path().join("file")).unwrap_err();
        assert!(refused.to_string().contains("file is not a directory"), "{refused}");
    }

    #[test]
    fn what_can_not_be_used_is_named_with_its_option_the_cause_and_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("missing/name");
        let refused = open_directory(&path).unwrap_err();
        let said = refused.to_string();
        assert!(
            said.starts_with(&format!("find the image directory {} (-d): ENOENT", path.display())),
            "{said}"
        );
        assert!(said.contains("make that, or name another path"), "{said}");
        assert_eq!(refused.exit_status(), 1);
        let log = Place { purpose: Purpose::AuditLog, path: &path };
        let said = open_parent(log).unwrap_err().to_string();
        assert!(said.contains(&format!("audit log {} (--audit-log)", path.display())), "{said}");
    }
}
