//! Status of files (inode(7)), with lengths, inodes and times of 64 bits everywhere: what the C library has on armv7 knows no file
//! of more than 2 GiB, and none that was changed after January 2038.

use nix::errno::Errno;
use rustix::fs::{fstat, statat};
use rustix::path::Arg;
use std::os::fd::AsFd;

pub(crate) use rustix::fs::{AtFlags, FileType, Stat};

/// Of an open file.
pub(crate) fn of(file: impl AsFd) -> Result<Stat, Errno> {
    fstat(file).map_err(errno)
}

/// Of what has a name in a directory.
pub(crate) fn at(directory: impl AsFd, name: impl Arg, flags: AtFlags) -> Result<Stat, Errno> {
    statat(directory, name, flags).map_err(errno)
}

/// Whether it is of this kind.
pub(crate) fn is(status: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(status.st_mode) == kind
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
