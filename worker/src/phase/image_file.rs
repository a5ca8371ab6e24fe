//! The image file: created for one sleep, where nobody else can put one in its place.

use crate::channel::Launcher;
use crate::error::{Error, Result};
use crate::sys::status::{self, AtFlags};
use memcr_protocol::deposit::Deposit;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, geteuid, unlinkat};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::File;
use std::os::fd::BorrowedFd;

/// Name of the image of a process: `pages-PID.img`, or with a random number if a stranger has taken that.
pub(crate) fn name(pid: Pid, random: Option<u64>) -> String {
    random.map_or_else(|| format!("pages-{pid}.img"), |random| format!("pages-{pid}-{random:016x}.img"))
}

/// Creates the image of a process in the directory, for this user only. The launcher knows its name before.
///
/// A file of that name that is a stranger's is left alone and another name is taken; one of ours is
/// the debris of a daemon that died, since a process that sleeps is not put to sleep again.
pub(super) fn create(directory: BorrowedFd<'_>, pid: Pid, launcher: &Launcher) -> Result<File> {
    let usual = name(pid, None);
    let storage = |cause: Errno| Error::Storage { pid: pid.as_raw(), cause: cause.desc().into() };
    let mut random = None;
    if is_ours(directory, &usual) {
        unlinkat(directory, usual.as_str(), UnlinkatFlags::NoRemoveDir).map_err(storage)?;
    } else if exists(directory, &usual) {
        random = Some(random_number()?);
    }
    launcher.leave(&Deposit::Image { random }, &[])?;
    create_new(directory, &name(pid, random)).map_err(storage)
}

fn create_new(directory: BorrowedFd<'_>, name: &str) -> std::result::Result<File, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // on 32 bits a file without it ends at 2 GiB
    let flags = flags | OFlag::O_LARGEFILE;
    openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn is_ours(directory: BorrowedFd<'_>, name: &str) -> bool {
    status::at(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|status| status.st_uid == geteuid().as_raw())
}

fn exists(directory: BorrowedFd<'_>, name: &str) -> bool {
    status::at(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn random_number() -> Result<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Unsupported("the kernel gives no random numbers".into()))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Removes an image, if there is one of that name that is ours.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &str) {
    if is_ours(directory, name) {
        // the directory may have become read-only meanwhile; the file is of no use to anybody
        let _ = unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn an_image_may_be_longer_than_2_gib() {
        let place = tempfile::tempdir().unwrap();
        let directory = File::open(place.path()).unwrap();
        let image = create_new(directory.as_fd(), "image").unwrap();
        image.write_all_at(b"end", 3 << 30).unwrap();
        let mut end = [0; 3];
        image.read_exact_at(&mut end, 3 << 30).unwrap();
        assert_eq!(&end, b"end");
        assert!(is_ours(directory.as_fd(), "image"));
        remove(directory.as_fd(), "image");
        assert!(!exists(directory.as_fd(), "image"));
    }
}
