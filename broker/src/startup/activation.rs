//! Sockets that a service manager made and passed on (systemd's LISTEN_FDS, see sd_listen_fds(3)).

use crate::error::BrokerError;
use listenfd::ListenFd;
use std::os::unix::net::UnixListener;

/// What came with the start, if anything.
pub(crate) struct Passed(ListenFd);

impl Passed {
    /// By the environment; what is meant for another process counts for nothing. To be called before any descriptor
    /// is opened or closed.
    pub(crate) fn from_environment() -> Self {
        Self(ListenFd::from_env())
    }

    /// How many. They have the numbers from 3 on.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The one that there may be, for `-l PATH`.
    ///
    /// # Errors
    /// [`BrokerError::Activation`] if there are several, or if it is no UNIX socket that listens.
    pub(crate) fn listener(mut self) -> Result<Option<UnixListener>, BrokerError> {
        match self.count() {
            0 => Ok(None),
            1 => self.0.take_unix_listener(0).map_err(|_| {
                BrokerError::Activation(
                    "the socket is not a UNIX stream socket that listens (ListenStream=/PATH)".into(),
                )
            }),
            count => Err(BrokerError::Activation(format!("{count} sockets came, and memcr has one"))),
        }
    }

    /// Nothing may have come for what is to be done.
    ///
    /// # Errors
    /// [`BrokerError::Activation`] if something did.
    pub(crate) fn none(self) -> Result<(), BrokerError> {
        match self.count() {
            0 => Ok(()),
            _ => Err(BrokerError::Activation("a socket can be passed for -l PATH only".into())),
        }
    }
}
