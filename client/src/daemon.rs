//! A daemon wherever it listens, asked for processes by their numbers: what the C library is made of.

use crate::{
    CheckpointOptions, Connection, Entry, Error, LegacyClient, Location, SleepReport, WakeReport, open_target,
};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A connection to it.
#[derive(Debug)]
pub(crate) enum Daemon {
    /// By a UNIX socket, in frames.
    Framed(Connection),
    /// By TCP, in the original's protocol.
    Legacy(LegacyClient),
}

impl Daemon {
    pub(crate) fn connect(location: &Location, patience: Duration) -> Result<Self, Error> {
        match location {
            Location::Path(path) => Connection::connect_within(path, patience).map(Self::Framed),
            Location::Tcp { .. } => LegacyClient::connect(location, patience).map(Self::Legacy),
        }
    }

    /// Puts a process to sleep; by TCP there is no report.
    pub(crate) fn checkpoint(
        &mut self,
        pid: i32,
        options: CheckpointOptions,
    ) -> Result<Option<SleepReport>, Error> {
        match self {
            Self::Framed(connection) => {
                let target = open_target(pid)?;
                connection.renew()?;
                connection.checkpoint(&target, options, |_| {}).map(Some)
            }
            Self::Legacy(client) => client.checkpoint(pid, options).map(|()| None),
        }
    }

    /// Wakes a process; by TCP there is no report.
    pub(crate) fn restore(&mut self, pid: i32) -> Result<Option<WakeReport>, Error> {
        match self {
            Self::Framed(connection) => {
                let target = open_target(pid)?;
                connection.renew()?;
                connection.restore(&target, |_| {}).map(Some)
            }
            Self::Legacy(client) => client.restore(pid).map(|()| None),
        }
    }

    /// The state of a process.
    pub(crate) fn status(&mut self, pid: i32) -> Result<Entry, Error> {
        match self {
            Self::Framed(connection) => {
                let target = open_target(pid)?;
                connection.renew()?;
                connection.status(&target)
            }
            Self::Legacy(_) => Err(Error::OnlyUnix { request: "the state of a process" }),
        }
    }
}

impl AsFd for Daemon {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Framed(connection) => connection.as_fd(),
            Self::Legacy(client) => client.as_fd(),
        }
    }
}
