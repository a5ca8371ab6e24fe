//! Deposits with the launcher: what a successor needs.

use crate::error::{Error, Result};
use crate::sys::socket;
use memcr_protocol::deposit::Deposit;
use memcr_protocol::frame;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use zeroize::Zeroizing;

/// The worker's end of the deposit socket.
pub(crate) struct Launcher {
    socket: OwnedFd,
}

impl Launcher {
    /// Takes over the deposit socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// For the list of descriptors that survive.
    pub(crate) fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Leaves something with the launcher. It is safe there once this returns: the packet is in the
    /// socket's buffer, where this process's death doesn't reach it.
    pub(crate) fn leave(&self, deposit: &Deposit, descriptors: &[RawFd]) -> Result<()> {
        let frame = frame::encode(deposit)
            .map(Zeroizing::new)
            .map_err(|error| Error::Protocol(format!("a deposit can't be encoded: {error}")))?;
        socket::send(&self.socket, &frame, descriptors)
            .map_err(Error::system("leaving a deposit with", "the launcher"))
    }
}
