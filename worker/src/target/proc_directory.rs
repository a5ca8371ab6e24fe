//! A /proc/PID directory, opened once: it can't turn into another process's.

use crate::error::{Error, Result};
use crate::sys::status::{self, AtFlags, Stat};
use memcr_protocol::text;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Longest small /proc file that is read, in bytes.
const TEXT_LIMIT: u64 = 1024 * 1024;

/// The kernel doesn't tell that of descriptors of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotTold;

/// `/proc/PID` or `/proc/PID/task/TID`.
#[derive(Debug)]
pub(crate) struct ProcDirectory {
    descriptor: OwnedFd,
    path: String,
}

impl ProcDirectory {
    /// The directory of a process or thread.
    pub(crate) fn open(pid: Pid) -> Result<Self> {
        Self::open_path(format!("/proc/{pid}"))
    }

    /// `/proc` itself.
    pub(crate) fn open_all() -> Result<Self> {
        Self::open_path("/proc".into())
    }

    /// The directory of one thread of this process.
    pub(crate) fn thread(&self, tid: Pid) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let path = format!("{}/task/{tid}", self.path);
        let descriptor = openat(&self.descriptor, format!("task/{tid}").as_str(), flags, Mode::empty())
            .map_err(Error::system("opening", &path))?;
        Ok(Self { descriptor, path })
    }

    fn open_path(path: String) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let descriptor = open(path.as_str(), flags, Mode::empty()).map_err(|cause| match cause {
            Errno::ENOENT => {
                Error::System { operation: "opening", object: path.clone(), cause: Errno::ESRCH }
            }
            cause => Error::System { operation: "opening", object: path.clone(), cause },
        })?;
        Ok(Self { descriptor, path })
    }

    /// The directory itself.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Opens one of its files for reading.
    pub(crate) fn file(&self, name: &str) -> Result<File> {
        openat(&self.descriptor, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(Error::system("opening", self.object(name)))
    }

    /// The text of one of its files.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        let mut bytes = Vec::new();
        self.file(name)?.take(TEXT_LIMIT).read_to_end(&mut bytes).map_err(|error| {
            let cause = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Error::System { operation: "reading", object: self.object(name), cause }
        })?;
        Ok(text::of_bytes(&bytes))
    }

    /// Where one of its links points.
    pub(crate) fn link(&self, name: &str) -> Result<String> {
        let target =
            readlinkat(&self.descriptor, name).map_err(Error::system("reading", self.object(name)))?;
        Ok(text::of_bytes(target.as_bytes()))
    }

    /// A directory as the process finds it: from its own root on, in its own mount namespace. To be gone
    /// through, not to be read.
    pub(crate) fn directory_of_its_own(&self, path: &Path) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let root = openat(&self.descriptor, "root", flags, Mode::empty())?;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        match openat2(&root, path, how) {
            // before Linux 5.6, or in a sandbox: then a link from the root on leads to ours
            Err(Errno::ENOSYS | Errno::EPERM) => {
                let path = path.strip_prefix("/").unwrap_or(path);
                openat(
                    &root,
                    if path.as_os_str().is_empty() { Path::new(".") } else { path },
                    flags,
                    Mode::empty(),
                )
            }
            opened => opened,
        }
    }

    /// Inode of the file behind a descriptor of the process; `None` if that is not open.
    ///
    /// # Errors
    /// [`NotTold`] by a kernel before Linux 5.14.
    pub(crate) fn inode_of_descriptor(&self, number: i32) -> std::result::Result<Option<u64>, NotTold> {
        match self.text(&format!("fdinfo/{number}")) {
            Ok(text) => {
                let inode = text.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok());
                inode.map(Some).ok_or(NotTold)
            }
            // nobody else may look
            Err(Error::System { cause: Errno::EACCES, .. }) => Err(NotTold),
            Err(_) => Ok(None),
        }
    }

    /// Status of one of its files.
    pub(crate) fn stat(&self, name: &str) -> Result<Stat> {
        status::at(&self.descriptor, name, AtFlags::empty())
            .map_err(Error::system("looking at", self.object(name)))
    }

    /// Numbers that are names in one of its directories: threads of `task`, descriptors of `fdinfo`.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<i32>> {
        self.first_numbers(name, usize::MAX)
    }

    /// The first of them, at most `limit`.
    pub(crate) fn first_numbers(&self, name: &str, limit: usize) -> Result<Vec<i32>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(&self.descriptor, name, flags, Mode::empty())
            .map_err(Error::system("opening", self.object(name)))?;
        let mut numbers = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(Error::system("listing", self.object(name)))?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
            if numbers.len() >= limit {
                break;
            }
        }
        Ok(numbers)
    }

    fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}
