//! Restores that take longer than `-t` allows. What was begun goes on: a process half awake helps nobody.

use super::{Effect, Target, WaitingRestore, answer};
use memcr_policy::Policy;
use memcr_protocol::code::{Code, Failure};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

impl Target {
    /// When the first of the restores that wait is overdue.
    pub(crate) fn next_overdue(&self, limit: Duration) -> Option<Instant> {
        self.restores.iter().map(|restore| restore.pending.since + limit).min()
    }

    /// Answers the restores that are overdue.
    pub(crate) fn give_up_waiting(&mut self, limit: Duration, now: Instant, policy: &Policy) -> Vec<Effect> {
        let is_over = |restore: &WaitingRestore| restore.pending.since + limit <= now;
        let (over, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.restores).into_iter().partition(is_over);
        self.restores = rest;
        // the worker is told of one at a time, and goes on with that
        self.is_at_given_up |= over.iter().any(|restore| restore.client.is_none());
        let (pid, seconds) = (self.pid, limit.as_secs());
        let give_up = |restore: WaitingRestore| {
            let what_now = match restore.client {
                None => "it is being woken all the same, ask for its state",
                Some(_) => "nothing was done, ask again",
            };
            let message = format!("process {pid} was not awake within {seconds} seconds; {what_now}");
            answer(restore.pending, restore.allowed, Err(Failure::new(Code::Timeout, message)))
        };
        let next = self.order_next_restore(policy);
        over.into_iter().map(give_up).chain(next).collect()
    }
}
