//! A file system in user space, by the kernel's own protocol (linux/fuse.h): one directory, one file.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Bytes of the file.
pub const LENGTH: u64 = 256 * 1024;
/// Its name: that of a C library, whose code is looked at.
pub const NAME: &str = "libc.so.6";

const ROOT: u64 = 1;
const FILE: u64 = 2;
const IN_HEADER: usize = 40;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Mounted; unmounted when dropped.
#[derive(Debug)]
pub struct FileSystem {
    device: File,
    directory: PathBuf,
    is_silent: bool,
    /// Reads that wait: number of the request, length in bytes.
    waiting: Vec<(u64, usize)>,
}

impl FileSystem {
    /// Mounts it for everybody.
    ///
    /// # Panics
    /// When this process may not, or the kernel has no FUSE.
    pub fn mount(directory: &Path) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse is needed");
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let (name, flags) = (Some("memcr-tests"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        mount(name, directory, Some("fuse"), flags, Some(options.as_str())).expect("cannot mount FUSE");
        Self { device, directory: directory.to_owned(), is_silent: false, waiting: Vec::new() }
    }

    /// Answers reads, or keeps them waiting.
    pub fn set_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
        if !is_silent {
            for (request, length) in std::mem::take(&mut self.waiting) {
                self.reply(request, &vec![0; length]);
            }
        }
    }

    /// How many reads wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Answers what there is.
    pub fn serve_for_a_moment(&mut self) {
        let mut polled = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(20_u8)).expect("poll") == 0 {
            return;
        }
        let mut request = vec![0; 1024 * 1024];
        // one that was given up meanwhile is gone
        if let Ok(length @ IN_HEADER..) = self.device.read(&mut request) {
            self.serve(&request[..length]);
        }
    }

    fn serve(&mut self, request: &[u8]) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        let (operation, number, node) = (word(4), long(8), long(16));
        let body = &request[IN_HEADER..];
        match operation {
            INIT => {
                // major, minor, max_readahead, flags, max_background, congestion_threshold, max_write; zeros
                let mut answer = words(&[7, 31, 65536, 0, 0x0010_0010, 65536]);
                answer.resize(64, 0);
                self.reply(number, &answer);
            }
            LOOKUP if body.strip_suffix(&[0]) == Some(NAME.as_bytes()) => {
                // nodeid, generation, validity of entry and attributes
                let mut answer = longs(&[FILE, 0, 3600, 3600, 0]);
                answer.extend(attributes(FILE));
                self.reply(number, &answer);
            }
            LOOKUP => self.fail(number, libc::ENOENT),
            GETATTR => {
                let mut answer = longs(&[3600, 0]);
                answer.extend(attributes(node));
                self.reply(number, &answer);
            }
            OPEN => self.reply(number, &longs(&[7, 0])),
            READ => {
                let (offset, length) = (long(IN_HEADER + 8), word(IN_HEADER + 16));
                let length = u64::from(length).min(LENGTH.saturating_sub(offset)) as usize;
                if self.is_silent {
                    self.waiting.push((number, length));
                } else {
                    self.reply(number, &vec![0; length]);
                }
            }
            RELEASE | FLUSH => self.reply(number, &[]),
            FORGET | BATCH_FORGET | INTERRUPT => {}
            _ => self.fail(number, libc::ENOSYS),
        }
    }

    fn reply(&mut self, request: u64, answer: &[u8]) {
        self.write(request, 0, answer);
    }

    fn fail(&mut self, request: u64, error: i32) {
        self.write(request, -error, &[]);
    }

    fn write(&mut self, request: u64, error: i32, answer: &[u8]) {
        let length = u32::try_from(16 + answer.len()).expect("short");
        let mut packet = [length.to_ne_bytes(), error.to_ne_bytes()].concat();
        packet.extend(request.to_ne_bytes());
        packet.extend(answer);
        // whoever asked may be gone
        let _ = self.device.write(&packet);
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }
}

/// struct fuse_attr.
fn attributes(node: u64) -> Vec<u8> {
    let is_file = node != ROOT;
    let size = if is_file { LENGTH } else { 0 };
    // ino, size, blocks, atime, mtime, ctime
    let mut bytes = longs(&[node, size, size / 512, 0, 0, 0]);
    let mode = if is_file { libc::S_IFREG | 0o755 } else { libc::S_IFDIR | 0o755 };
    // nanoseconds of the times, mode, nlink, uid, gid, rdev, blksize, flags
    bytes.extend(words(&[0, 0, 0, mode, 1, 0, 0, 0, 512, 0]));
    bytes
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
