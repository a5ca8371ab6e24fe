//! Checkpoints that wait until the worker of the same process (or of the last one with this pid) is done:
//! a queue in which nobody has more than one place.
//!
//! Who asks first may be a stranger whom the worker is about to deny. The others wait for that, so that
//! nobody keeps a process from those who may put it to sleep.

use super::pending::Checkpoint;
use std::collections::VecDeque;

/// Users that may wait for one target.
const MAX_WAITING: usize = 8;

/// A checkpoint that waits.
#[derive(Debug)]
pub(crate) struct WaitingCheckpoint {
    pub(crate) checkpoint: Checkpoint,
    /// It is known to be of another process than the one that the worker has.
    pub(crate) another: bool,
}

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<WaitingCheckpoint>,
}

impl Waiting {
    /// Takes a checkpoint; gives it back if its user waits already, or too many do.
    pub(crate) fn push(&mut self, checkpoint: Checkpoint, another: bool) -> Result<(), Checkpoint> {
        let uid = checkpoint.pending.asker.peer.uid;
        let waits = self.queue.iter().any(|waiting| waiting.checkpoint.pending.asker.peer.uid == uid);
        // root comes in though all places are taken
        if waits || (uid != 0 && self.queue.len() >= MAX_WAITING) {
            return Err(checkpoint);
        }
        self.queue.push_back(WaitingCheckpoint { checkpoint, another });
        Ok(())
    }

    /// Takes out those for which `is_over` holds.
    pub(crate) fn take_if(&mut self, is_over: impl Fn(&WaitingCheckpoint) -> bool) -> Vec<Checkpoint> {
        let mut over = Vec::new();
        for waiting in std::mem::take(&mut self.queue) {
            if is_over(&waiting) {
                over.push(waiting.checkpoint);
            } else {
                self.queue.push_back(waiting);
            }
        }
        over
    }

    /// Takes out all.
    pub(crate) fn take(&mut self) -> VecDeque<Checkpoint> {
        std::mem::take(&mut self.queue).into_iter().map(|waiting| waiting.checkpoint).collect()
    }
}
