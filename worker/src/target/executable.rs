//! The contents of a target's executable, for rules that ask for their hash.
//!
//! It is hashed before the target is frozen, since that takes a while, and counts only if the frozen target still runs the same file, unchanged. The
//! kernel lets nobody write to a file that is executed; a file system that is not this kernel's own (FUSE, a network's) can do as it likes.

use crate::sys::status::{self, FileType, Stat, is};
use crate::target::proc_directory::ProcDirectory;
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::Read as _;

/// Largest executable that is hashed, in bytes: a client that is denied must not keep a worker busy for long.
const LIMIT: i64 = 512 << 20;

/// Which file it was, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    length: i64,
    /// Seconds and nanoseconds, of a type that architectures don't agree about.
    changed: (i128, i128),
}

impl Identity {
    fn of(status: &Stat) -> Self {
        Self {
            file: (status.st_dev, status.st_ino),
            length: status.st_size,
            changed: (status.st_ctime.into(), status.st_ctime_nsec.into()),
        }
    }
}

/// The hash of an executable, while it is that one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashed {
    identity: Identity,
    sha256: [u8; 32],
}

impl Hashed {
    /// Hashes that of a process; nothing if it can't be read, or is too long.
    pub(crate) fn of(directory: &ProcDirectory) -> Option<Self> {
        let mut file = directory.file("exe").ok()?;
        let identity = Identity::of(&status::of(&file).ok().filter(is_hashed)?);
        let sha256 = sha256(&mut file)?;
        let unchanged = Identity::of(&status::of(&file).ok()?) == identity;
        unchanged.then_some(Self { identity, sha256 })
    }

    /// The hash, if it is still what the process runs.
    pub(crate) fn sha256(self, directory: &ProcDirectory) -> Option<[u8; 32]> {
        let now = Identity::of(&directory.stat("exe").ok()?);
        (now == self.identity).then_some(self.sha256)
    }
}

fn is_hashed(status: &Stat) -> bool {
    is(status, FileType::RegularFile) && status.st_size <= LIMIT
}

fn sha256(file: &mut File) -> Option<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return context.finish().as_ref().try_into().ok(),
            length => context.update(buffer.get(..length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_file_that_runs() {
        let directory = ProcDirectory::open(nix::unistd::getpid()).unwrap();
        let hashed = Hashed::of(&directory).unwrap();
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let expected = ring::digest::digest(&SHA256, &bytes);
        assert_eq!(hashed.sha256(&directory).unwrap(), expected.as_ref());
    }

    #[test]
    fn it_counts_for_no_other_file_and_no_other_version_of_it() {
        let directory = ProcDirectory::open(nix::unistd::getpid()).unwrap();
        let hashed = Hashed::of(&directory).unwrap();
        for identity in [
            Identity { file: (hashed.identity.file.0, 1), ..hashed.identity },
            Identity { length: 1, ..hashed.identity },
            Identity { changed: (0, 0), ..hashed.identity },
        ] {
            assert_eq!(Hashed { identity, ..hashed }.sha256(&directory), None);
        }
    }
}
