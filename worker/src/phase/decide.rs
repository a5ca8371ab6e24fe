//! The decision that counts: from the client's own socket, on the facts of the target.

use crate::error::{Error, Result};
use crate::target::facts;
use memcr_policy::{Decision, Policy};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use std::os::fd::BorrowedFd;

/// The client of a socket, if the kernel can name it.
pub(super) fn peer(client: BorrowedFd<'_>) -> Result<Peer> {
    facts::peer(client)?.ok_or_else(|| Error::Protocol("the kernel can't name the client".into()))
}

/// The rule that allows the checkpoint, or the denial.
pub(super) fn checkpoint(policy: &Policy, peer: &Peer, target: &TargetFacts) -> Result<String> {
    let Decision { allowed, rule } = policy.decide(peer, Action::Checkpoint, target);
    if allowed {
        Ok(rule)
    } else {
        Err(Error::Denied { action: Action::Checkpoint.name(), pid: target.pid, rule })
    }
}

/// What the policy says of a restore by the client of a socket. A client that can't be named may not.
pub(crate) fn may_restore(policy: &Policy, client: BorrowedFd<'_>, target: &TargetFacts) -> Decision {
    match facts::credentials(client) {
        Ok(Some(peer)) => policy.decide(&peer, Action::Restore, target),
        Ok(None) | Err(_) => Decision { allowed: false, rule: "client without a name".into() },
    }
}
