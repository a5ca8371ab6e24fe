//! Directories for one test, below one that only root may write to, and gone with their owner.

use crate::users::{self, User};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Where all that the tests make lies. Not in /tmp: daemons run as root are started from here, and
/// nobody else may get there first.
pub fn root() -> &'static Path {
    let root = Path::new("/var/lib/memcr-tests");
    users::require_root();
    std::fs::create_dir_all(root).expect("cannot make /var/lib/memcr-tests");
    root
}

/// A directory that goes when this does.
#[derive(Debug)]
pub struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// A directory that everybody may enter and read, and root may write to.
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("run-").tempdir_in(root()).expect("cannot make a directory");
        set_mode(directory.path(), 0o755);
        Self { directory }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A directory in it that belongs to `user` alone.
    pub fn directory_of(&self, user: &User, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).expect("cannot make a directory");
        chown(&path, Some(user.uid), Some(user.gid)).expect("cannot chown");
        set_mode(&path, 0o700);
        path
    }

    /// A file in it with this text, which everybody may read.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("cannot write a file");
        set_mode(&path, 0o644);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets the permission bits of a file.
pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("cannot chmod");
}

/// A small file system of its own; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size, which belongs to `owner`, at an empty directory.
    pub fn at(path: PathBuf, owner: &User, size: &str) -> Self {
        let options = format!("size={size},uid={},gid={},mode=700", owner.uid, owner.gid);
        let kind = Some("tmpfs");
        mount(kind, &path, kind, MsFlags::MS_NOSUID, Some(options.as_str())).expect("cannot mount a tmpfs");
        Self(path)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
