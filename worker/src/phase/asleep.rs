//! Asleep: all threads stopped, nothing of ours in the target but its copy of the guard.

use crate::channel::{Broker, Order};
use crate::error::{Error, Result};
use crate::image::Key;
use crate::phase::Judge;
use crate::phase::guarded::Guarded;
use crate::sys::pidfd;
use crate::sys::poll;
use crate::trace::tracees::Tracees;
use crate::trace::way_home::{Site, WayHome};
use memcr_protocol::deposit::Debris;
use memcr_protocol::subject::TargetFacts;
use memcr_protocol::worker::WorkerEvent;
use nix::poll::{PollFd, PollFlags};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

/// A sleeping target and all that is needed to wake it.
pub(crate) struct Asleep {
    /// Its threads.
    pub(crate) tracees: Tracees,
    /// Where calls are made in it.
    pub(crate) site: Site,
    /// The way home of the thread that makes them. It was laid before the dump: asleep it is in the image.
    pub(crate) way_home: Option<WayHome>,
    /// Its memory, to be touched only once all of it is back.
    pub(crate) memory: File,
    /// The guard.
    pub(crate) guard: OwnedFd,
    /// What of ours is in the target: the guard; after a worker's death perhaps its parasite.
    pub(crate) debris: Debris,
    /// The image.
    pub(crate) image: File,
    /// Its key.
    pub(crate) key: Key,
    /// What is still to be put back once a restore has begun: its memory, that of children born meanwhile.
    pub(crate) left: Option<Vec<Guarded>>,
    /// Its open status file.
    pub(crate) status: Option<File>,
    /// Whether it may have been stopped by job control before: then nothing ends it until it is continued.
    pub(crate) may_be_stopped: bool,
    /// Who it is.
    pub(crate) facts: TargetFacts,
    /// Its pidfd.
    pub(crate) target: OwnedFd,
}

/// Who wants the target to run.
pub(crate) enum Waker {
    /// A client that may.
    Client,
    /// The daemon, which ends or is gone.
    Daemon,
}

impl Asleep {
    /// Whether children born meanwhile still wait for memory.
    pub(super) fn has_children(&self) -> bool {
        self.left.iter().flatten().any(Guarded::is_child)
    }

    /// Waits until it is to be woken.
    ///
    /// # Errors
    /// [`Error::Lost`] when the target dies.
    pub(crate) fn wait(&mut self, judge: &Judge<'_>, broker: &Broker) -> Result<Waker> {
        loop {
            let mut polled = [
                PollFd::new(broker.descriptor(), PollFlags::POLLIN),
                PollFd::new(self.target.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.tracees.signals(), PollFlags::POLLIN),
            ];
            poll::wait(&mut polled, None).map_err(Error::system("waiting for", "orders"))?;
            self.reap()?;
            // an order that makes no sense wakes nobody, and the broker that sent it is told nothing
            let order = broker.order().unwrap_or(None);
            #[cfg(feature = "drill")]
            if order.is_some() {
                crate::drill::reached(crate::drill::Role::Asleep);
            }
            match order {
                Some(Order::Wake) => return Ok(Waker::Daemon),
                Some(Order::Restore { ticket, client }) if self.may(ticket, &client, judge, broker) => {
                    return Ok(Waker::Client);
                }
                Some(Order::Restore { .. }) | None => {}
            }
        }
    }

    /// Whether the client may wake it.
    fn may(&self, ticket: u64, client: &OwnedFd, judge: &Judge<'_>, broker: &Broker) -> bool {
        let decision = judge.may_restore(client.as_fd(), &self.facts);
        broker.tell(&match decision.allowed {
            true => WorkerEvent::RestoreAllowed { ticket, rule: decision.rule },
            false => WorkerEvent::RestoreDenied { ticket, rule: decision.rule },
        });
        decision.allowed
    }

    /// Notes threads that have exited, so that their real parent learns of it.
    pub(super) fn reap(&mut self) -> Result<()> {
        self.tracees.note_stops()?;
        let dead =
            pidfd::has_exited(&self.target).map_err(Error::system("looking at", "the target's pidfd"))?;
        if dead || self.tracees.tids().is_empty() {
            return Err(Error::Lost { pid: self.facts.pid, when: "while it slept" });
        }
        Ok(())
    }
}
