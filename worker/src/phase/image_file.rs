//! The image file: created for one sleep, where nobody else can put one in its place.

use crate::error::{Error, Result};
use memcr_protocol::deposit::Deposit;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{Pid, UnlinkatFlags, geteuid, unlinkat};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};

/// Creates `pages-PID.img` in the directory, for this user only; the file and the deposit that lets
/// the launcher remove it.
///
/// A file of that name that is a stranger's is left alone and another name is taken; one of ours is
/// the debris of a daemon that died, since a process that sleeps is not put to sleep again.
pub(super) fn create(directory: BorrowedFd<'_>, pid: Pid) -> Result<(File, Deposit)> {
    let name = format!("pages-{pid}.img");
    let storage = |cause: Errno| Error::Storage { pid: pid.as_raw(), cause: cause.desc().into() };
    let created = match create_new(directory, &name) {
        Err(Errno::EEXIST) if is_ours(directory, &name) => {
            unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir).map_err(storage)?;
            create_new(directory, &name).map(|file| (file, name))
        }
        Err(Errno::EEXIST) => {
            let name = format!("pages-{pid}-{:016x}.img", random()?);
            create_new(directory, &name).map(|file| (file, name))
        }
        created => created.map(|file| (file, name)),
    };
    let (file, name) = created.map_err(storage)?;
    let inode = fstat(file.as_fd()).map_err(storage)?.st_ino;
    Ok((file, Deposit::Image { name, inode }))
}

fn create_new(directory: BorrowedFd<'_>, name: &str) -> std::result::Result<File, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn is_ours(directory: BorrowedFd<'_>, name: &str) -> bool {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|status| status.st_uid == geteuid().as_raw())
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Unsupported("the kernel gives no random numbers".into()))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Removes an image, if the name still belongs to it.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &str, inode: u64) {
    let same =
        fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|status| status.st_ino == inode);
    if same {
        // the directory may have become read-only meanwhile; the file is of no use to anybody
        let _ = unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
    }
}
