//! The connections of the original's functions, by their descriptors.

use super::guard::lock;
use crate::daemon::Daemon;
use crate::{DEFAULT_PATIENCE, Error, Location};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

/// All of them. It is locked for moments only: each connection has a lock of its own for its requests.
static TABLE: Mutex<BTreeMap<RawFd, Arc<Mutex<Entry>>>> = Mutex::new(BTreeMap::new());

/// Device and inode of a socket, by which it is known again.
type Identity = (u64, u64);

#[derive(Debug)]
struct Entry {
    /// `None` only when it is being dropped.
    daemon: Option<Daemon>,
    identity: Option<Identity>,
}

/// Connects; gives the descriptor of the socket.
pub(super) fn connect(location: &Location) -> Result<RawFd, Error> {
    let daemon = Daemon::connect(location, DEFAULT_PATIENCE)?;
    let descriptor = daemon.as_fd().as_raw_fd();
    let identity = identity(&daemon);
    let entry = Arc::new(Mutex::new(Entry { daemon: Some(daemon), identity }));
    let stale = lock(&TABLE).insert(descriptor, entry);
    // the program has closed that one itself: its entry must not close the new one, see below
    drop(stale);
    Ok(descriptor)
}

/// Ends a connection; one that is in use ends after that.
pub(super) fn disconnect(descriptor: RawFd) {
    let entry = lock(&TABLE).remove(&descriptor);
    // closed without the table's lock
    drop(entry);
}

/// Does something with the connection that has this descriptor; `None` if there is none.
pub(super) fn with<T>(
    descriptor: RawFd,
    act: impl FnOnce(&mut Daemon) -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    let entry = lock(&TABLE).get(&descriptor).cloned()?;
    let mut entry = lock(&entry);
    if !entry.is_ours() {
        return None;
    }
    let daemon = entry.daemon.as_mut()?;
    let outcome = act(daemon);
    let identity = identity(daemon);
    entry.identity = identity;
    Some(outcome)
}

impl Entry {
    /// Whether the descriptor is still of the socket that it was: a program may have closed it itself,
    /// and have been given its number for another file.
    fn is_ours(&self) -> bool {
        self.daemon.as_ref().and_then(identity).is_some_and(|found| self.identity == Some(found))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_ours() {
            // would close another file
            std::mem::forget(self.daemon.take());
        }
    }
}

fn identity(daemon: &Daemon) -> Option<Identity> {
    let facts = rustix::fs::fstat(daemon.as_fd()).ok()?;
    Some((facts.st_dev, facts.st_ino))
}
