//! The decision that counts: from the client's own socket, on the facts of the target.

use crate::error::{Error, Result};
use crate::target::clients::Clients;
use crate::target::facts;
use memcr_policy::{Decision, Policy};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use std::os::fd::BorrowedFd;

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

    fn decide(&self, peer: &Peer, action: Action, target: &TargetFacts) -> Decision {
        if facts::is_known(peer) {
            self.policy.decide(peer, action, target)
        } else {
            Decision { allowed: false, rule: UNKNOWN_PEER.into() }
        }
    }
}
