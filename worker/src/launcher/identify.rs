//! Naming a client: only the privileged side can read the executable of a stranger's process.

use crate::confine;
use crate::target::facts;
use memcr_protocol::subject::Peer;
use std::os::fd::OwnedFd;

/// The peer of a client's socket; `None` if it has no name here.
pub(super) fn identify(client: &OwnedFd) -> Option<Peer> {
    use std::os::fd::AsFd as _;
    // in effect for one reading of a link
    confine::raise_ptrace().ok()?;
    let peer = facts::peer(client.as_fd());
    confine::lower_ptrace().ok()?;
    peer.ok().flatten()
}
