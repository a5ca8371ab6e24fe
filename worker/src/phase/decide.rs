//! The decision that counts: from the client's own socket, on the facts of the target.

use crate::channel::{Broker, Launcher, Order};
use crate::error::{Error, Result};
use crate::target::clients::Clients;
use crate::target::facts;
use memcr_policy::{Decision, Limits, Permits, Policy};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use memcr_protocol::worker::WorkerEvent;
use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};

/// Name of the rule that denies clients which the kernel can't name here; the broker's has the same.
const UNKNOWN_PEER: &str = "client unknown here";

/// What decisions are made by.
pub(crate) struct Authority {
    /// The policy.
    pub(crate) policy: Policy,
    /// How often it has been changed; `None` for the built-in one, which never is.
    pub(crate) generation: Option<u32>,
    /// Whose sockets are clients'.
    pub(crate) clients: Clients,
}

/// The rule that allows a checkpoint.
pub(super) struct Grant {
    /// Its name.
    pub(super) rule: String,
    limits: Limits,
    /// Processes that it permits though they are refused otherwise.
    pub(super) permits: Permits,
}

/// A worker's judgement. Its policy is that of the time when it was forked, or a newer one: the launcher is asked
/// before each restore.
pub(crate) struct Judge<'a> {
    authority: &'a Authority,
    launcher: &'a Launcher,
    newer: RefCell<Option<(u32, Policy)>>,
}

impl<'a> Judge<'a> {
    /// With what the launcher knew when it forked this worker.
    pub(crate) fn new(authority: &'a Authority, launcher: &'a Launcher) -> Self {
        Self { authority, launcher, newer: RefCell::new(None) }
    }

    /// The client of a socket, if it is one and the kernel can name it.
    pub(super) fn peer(&self, client: BorrowedFd<'_>) -> Result<Peer> {
        let peer = self.authority.clients.peer(client)?;
        peer.ok_or_else(|| Error::Protocol("the kernel can't name the client".into()))
    }

    /// A descriptor that judging needs once this process is confined; opens it.
    pub(super) fn keep_open(&self) -> Result<Option<RawFd>> {
        self.authority.clients.keep_open()
    }

    /// The rule that allows the checkpoint with its limits and what it permits, or the denial.
    pub(super) fn checkpoint(&self, peer: &Peer, target: &TargetFacts) -> Result<Grant> {
        let Decision { allowed, rule, limits, permits } = self.decide(peer, Action::Checkpoint, target);
        if allowed {
            Ok(Grant { rule, limits, permits })
        } else {
            Err(Error::Denied { action: Action::Checkpoint.name(), pid: target.pid, rule })
        }
    }

    /// Whether it depends on the hash of the target's executable what is decided.
    pub(super) fn needs_hash(&self, peer: &Peer, target: &TargetFacts) -> bool {
        facts::is_known(peer) && self.policy(|policy| policy.needs_hash(peer, Action::Checkpoint, target))
    }

    /// Refuses a checkpoint that goes over the limits of the rule that allows it; `size` is the target's anonymous
    /// memory in bytes.
    pub(super) fn require_within(&self, grant: &Grant, pid: i32, size: u64) -> Result<()> {
        let Grant { rule, limits, .. } = grant;
        let over = |reason: String| Error::OverLimit { pid, rule: rule.clone(), reason };
        if let Some(most) = limits.size.filter(|most| size > *most) {
            return Err(over(format!("it has {size} bytes of memory, and the rule allows {most}")));
        }
        match limits.asleep {
            Some(most) if !self.launcher.claim(rule.clone(), most)? => {
                Err(over(format!("{most} processes sleep by this rule, as many as it allows; wake one")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the policy says of a restore by the client of a socket. A client that can't be named may not.
    pub(super) fn may_restore(&self, client: BorrowedFd<'_>, target: &TargetFacts) -> Decision {
        self.renew();
        match self.client_of_restore(client) {
            Ok(Some(peer)) => self.decide(&peer, Action::Restore, target),
            Ok(None) | Err(_) => unknown(),
        }
    }

    /// A confined worker learns from the socket who is there. What that process runs only the launcher can tell, which is asked
    /// if the policy wants to know.
    fn client_of_restore(&self, client: BorrowedFd<'_>) -> Result<Option<Peer>> {
        let credentials = self.authority.clients.credentials(client)?;
        if credentials.is_none() || !self.policy(Policy::asks_about_processes_of_clients) {
            return Ok(credentials);
        }
        self.launcher.who_is(client)
    }

    /// Asks the launcher for a newer policy. A launcher that is gone has none, and its end wakes every sleeper.
    fn renew(&self) {
        let Some(first) = self.authority.generation else { return };
        let generation = self.newer.borrow().as_ref().map_or(first, |(generation, _)| *generation);
        let Ok(Some((generation, text))) = self.launcher.newer_policy(generation) else { return };
        // the launcher has parsed it before
        if let Ok(policy) = Policy::parse(&text.text, &text.accounts) {
            self.newer.replace(Some((generation, policy)));
        }
    }

    fn policy<T>(&self, ask: impl FnOnce(&Policy) -> T) -> T {
        match &*self.newer.borrow() {
            Some((_, policy)) => ask(policy),
            None => ask(&self.authority.policy),
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
            self.policy(|policy| policy.decide(peer, action, target))
        } else {
            unknown()
        }
    }
}

/// What is said of a client that has no name here.
fn unknown() -> Decision {
    Decision {
        allowed: false,
        rule: UNKNOWN_PEER.into(),
        limits: Limits::default(),
        permits: Permits::default(),
    }
}
