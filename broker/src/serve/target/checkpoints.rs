//! Checkpoints of a target that has a worker already: refused, or let wait.

use super::{Effect, Phase, Target, answer, deny};
use crate::serve::pending::{Checkpoint, Pending};
use memcr_policy::{Decision, Policy};
use memcr_protocol::code::{Code, Failure};

impl Target {
    /// A checkpoint of a process with this pid. `another` says that it is known to be another process.
    pub(crate) fn ask_checkpoint(
        &mut self,
        checkpoint: Checkpoint,
        another: bool,
        policy: &Policy,
    ) -> Vec<Effect> {
        if another || self.phase == Phase::Ending {
            return self.let_wait(checkpoint, another);
        }
        let decided = self.decided(&checkpoint.pending, policy);
        if matches!(decided, Some(Decision { allowed: false, .. })) || !self.may_be_a_strangers(&checkpoint) {
            return vec![self.refuse(checkpoint.pending, decided)];
        }
        self.let_wait(checkpoint, another)
    }

    /// Whether the checkpoint under way may yet turn out to be one that its client may not ask for, so
    /// that this one, of somebody else, must not suffer from it.
    fn may_be_a_strangers(&self, other: &Checkpoint) -> bool {
        let first = self.checkpoint.as_ref().filter(|_| self.phase == Phase::Attaching && !self.allowed);
        first.is_some_and(|first| first.asker.peer.uid != other.pending.asker.peer.uid)
    }

    fn let_wait(&mut self, checkpoint: Checkpoint, another: bool) -> Vec<Effect> {
        let Err(checkpoint) = self.waiting.push(checkpoint, another) else { return Vec::new() };
        let message = format!("another checkpoint of process {} waits already", self.pid);
        vec![answer(checkpoint.pending, None, Err(Failure::new(Code::Busy, message)))]
    }

    /// A restore while the worker ends: it calls off the checkpoints that wait for that, if its client may
    /// restore this process. Else others must find out whether it runs.
    pub(super) fn call_off_waiting(&mut self, restore: Pending, policy: &Policy) -> Vec<Effect> {
        let Some(Decision { allowed: true, rule, .. }) = self.decided(&restore, policy) else {
            return vec![Effect::Outside(restore)];
        };
        let off = self.waiting.take_if(|waiting| !waiting.another);
        if off.is_empty() {
            return vec![Effect::Outside(restore)];
        }
        let message =
            format!("the checkpoint of process {} was called off; the process runs on unharmed", self.pid);
        let aborted = || Err(Failure::new(Code::Aborted, message.clone()));
        let mut effects: Vec<Effect> =
            off.into_iter().map(|checkpoint| answer(checkpoint.pending, None, aborted())).collect();
        effects.push(answer(restore, Some(rule), Ok(super::runs_on())));
        effects
    }

    /// What the policy says, once it is known of what.
    fn decided(&self, pending: &Pending, policy: &Policy) -> Option<Decision> {
        self.facts.as_ref().map(|facts| policy.decide(&pending.asker.peer, pending.action, facts))
    }

    /// Refuses a checkpoint: by the policy, else by what the target does.
    fn refuse(&self, pending: Pending, decided: Option<Decision>) -> Effect {
        let rule = match decided {
            Some(Decision { allowed: false, rule, .. }) => return deny(pending, rule),
            Some(Decision { allowed: true, rule, .. }) => Some(rule),
            None => None,
        };
        let pid = self.pid;
        let failure = match self.phase {
            Phase::Asleep => Failure::new(Code::AlreadyAsleep, format!("process {pid} is asleep already")),
            Phase::Attaching | Phase::Dumping | Phase::Ending => {
                Failure::new(Code::Busy, format!("process {pid} is being put to sleep already"))
            }
            Phase::Restoring => Failure::new(Code::Busy, format!("process {pid} is being woken")),
        };
        answer(pending, rule, Err(failure))
    }

    /// Answers those who waited for the same process: the ones whom the policy denies as soon as it is
    /// known of what, the others once the first is allowed.
    pub(super) fn refuse_waiting(&mut self, policy: &Policy) -> Vec<Effect> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let is_over = |pending: &Pending| {
            self.allowed || self.decided(pending, policy).is_some_and(|decision| !decision.allowed)
        };
        let over = waiting.take_if(|waiting| !waiting.another && is_over(&waiting.checkpoint.pending));
        self.waiting = waiting;
        over.into_iter()
            .map(|checkpoint| {
                let decided = self.decided(&checkpoint.pending, policy);
                self.refuse(checkpoint.pending, decided)
            })
            .collect()
    }
}
