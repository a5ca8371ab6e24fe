//! Sockets of parasites: directories for them (`-S`), what is in these, and what strangers may send there.

use crate::daemon::Setup;
use crate::scratch::{Scratch, set_mode};
use crate::users::User;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A directory that belongs to `user`, who alone may make files in it; everybody may enter it.
pub fn directory_of(user: &User, scratch: &Scratch) -> PathBuf {
    let path = scratch.directory_of(user, "sockets");
    set_mode(&path, 0o711);
    path
}

/// A daemon whose parasites make their sockets there.
pub fn daemon_with(directory: &Path) -> Setup {
    Setup::new().arguments(&["-S", directory.to_str().expect("a path of ours is text")])
}

/// The names in a directory.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("root may read it");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Asserts that nothing was left in a directory.
///
/// # Panics
/// When something was.
#[track_caller]
pub fn assert_empty(directory: &Path) {
    let names = names(directory);
    assert!(names.is_empty(), "left in {}: {names:?}", directory.display());
}

/// Abstract names of this network namespace that begin like this.
pub fn abstract_names(beginning: &str) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/net/unix").expect("cannot read /proc/net/unix");
    let names = all.lines().filter_map(|line| line.split_whitespace().nth(7)?.strip_prefix('@'));
    names.filter(|name| name.starts_with(beginning)).map(str::to_owned).collect()
}

/// A connection whose other end is never accepted, let alone read: whoever closes it last waits a minute for that,
/// unless he is interrupted.
pub fn slow_to_close(listener: &TcpListener) -> OwnedFd {
    let address = listener.local_addr().expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection to ourselves");
    stream.set_nonblocking(true).expect("a flag");
    while stream.write(&[0; 65536]).is_ok() {}
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 60 }).expect("SO_LINGER");
    stream.into()
}
