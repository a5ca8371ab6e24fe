//! A thread that closes what clients sent besides pidfds.
//!
//! close(2) may wait for somebody else: for a FUSE file for its server, for a TCP socket with
//! SO_LINGER for its peer, and either may be the client itself. Nobody waits for a stranger, so such
//! descriptors are closed here. Whoever blocks this thread keeps others' descriptors open, no more.

use crate::error::{Attempt, BrokerError};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Hands descriptors to the thread.
#[derive(Debug)]
pub(crate) struct Closer {
    sender: Sender<OwnedFd>,
}

impl Closer {
    /// Starts the thread; returns when it waits, and makes no system calls that a later filter would
    /// have to allow for starting.
    ///
    /// # Errors
    /// [`BrokerError`] when there can be no thread.
    pub(crate) fn start() -> Result<Self, BrokerError> {
        let (sender, receiver) = channel::<OwnedFd>();
        // the thread never finds the channel closed: it ends with the process, for the filter allows no other end
        let never_closed = sender.clone();
        let (ready, started) = channel::<()>();
        let close_all = move || {
            // nobody is left to tell if this fails
            let _ = ready.send(());
            while let Ok(descriptor) = receiver.recv() {
                close(descriptor);
            }
            drop(never_closed);
        };
        thread::Builder::new()
            .name("memcr-close".into())
            .spawn(close_all)
            .attempt("start", "the closing thread")?;
        // an error would mean that the thread has ended, which it does not
        let _ = started.recv();
        Ok(Self { sender })
    }

    /// Closes `descriptor`, some time.
    pub(crate) fn close(&self, descriptor: OwnedFd) {
        // comes back if the thread is gone, and is closed here then
        let _ = self.sender.send(descriptor);
    }
}

fn close(descriptor: OwnedFd) {
    // fails for everything that is no socket
    let _ = setsockopt(&descriptor, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
    drop(descriptor);
}
