//! The decision that counts: from the client's own socket, on the facts of the target.

use crate::channel::{Broker, Order};
use crate::error::{Error, Result};
use crate::target::clients::Clients;
use crate::target::facts;
use memcr_policy::{Decision, Policy};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use memcr_protocol::worker::WorkerEvent;
use std::os::fd::{AsFd as _, BorrowedFd};

/// Name of the rule that denies clients which the kernel can't name here; the broker's has the same.
const UNKNOWN_PEER: &str = "client unknown here";

/// What decisions are made by.
pub(crate) struct Authority {
    /// The policy.
    pub(crate) policy: Policy,
    /// Whose sockets are clients'.
    pub(crate) clients: Clients,
}

impl Authority {
    /// The client of a socket, if it is one and the kernel can name it.
    pub(super) fn peer(&self, client: BorrowedFd<'_>) -> Result<Peer> {
        self.clients.peer(client)?.ok_or_else(|| Error::Protocol("the kernel can't name the client".into()))
    }

    /// The rule that allows the checkpoint, or the denial.
    pub(super) fn checkpoint(&self, peer: &Peer, target: &TargetFacts) -> Result<String> {
        let Decision { allowed, rule } = self.decide(peer, Action::Checkpoint, target);
        if allowed {
            Ok(rule)
        } else {
            Err(Error::Denied { action: Action::Checkpoint.name(), pid: target.pid, rule })
        }
    }

    /// What the policy says of a restore by the client of a socket. A client that can't be named may not.
    pub(super) fn may_restore(&self, client: BorrowedFd<'_>, target: &TargetFacts) -> Decision {
        match self.clients.credentials(client) {
            Ok(Some(peer)) => self.decide(&peer, Action::Restore, target),
            Ok(None) | Err(_) => Decision { allowed: false, rule: UNKNOWN_PEER.into() },
        }
    }

    /// Whether the broker has an order that ends the checkpoint of `target`: a restore by a client that may,
    /// or the end of the daemon.
    ///
    /// # Errors
    /// [`Error::Aborted`] then.
    pub(super) fn go_on(&self, broker: &Broker, target: &TargetFacts) -> Result<()> {
        // an order that makes no sense changes nothing, as in sleep
        while let Some(order) = broker.order().unwrap_or(None) {
            if self.calls_off(order, broker, target) {
                return Err(Error::Aborted { pid: target.pid });
            }
        }
        Ok(())
    }

    /// Whether this order ends the checkpoint.
    pub(super) fn calls_off(&self, order: Order, broker: &Broker, target: &TargetFacts) -> bool {
        match order {
            Order::Wake => true,
            Order::Restore { ticket, client } => {
                let decision = self.may_restore(client.as_fd(), target);
                broker.tell(&match decision.allowed {
                    true => WorkerEvent::RestoreAllowed { ticket, rule: decision.rule },
                    false => WorkerEvent::RestoreDenied { ticket, rule: decision.rule },
                });
                decision.allowed
            }
        }
    }

    fn decide(&self, peer: &Peer, action: Action, target: &TargetFacts) -> Decision {
        if facts::is_known(peer) {
            self.policy.decide(peer, action, target)
        } else {
            Decision { allowed: false, rule: UNKNOWN_PEER.into() }
        }
    }
}
