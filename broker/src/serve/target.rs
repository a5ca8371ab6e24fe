//! One target from the first request until its worker has ended: what may be asked of it when, and
//! who is answered what. No IO: everything that is to be done comes out as [`Effect`]s.

mod checkpoints;
mod limits;

use super::pending::{Checkpoint, Pending, Restore, denial};
use super::waiting::Waiting;
use memcr_policy::Policy;
use memcr_protocol::client::Completion;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::Ending;
use memcr_protocol::report::{Entry, Guard, Sandbox, SleepReport, State, WakeReport};
use memcr_protocol::subject::{Action, TargetFacts};
use memcr_protocol::worker::WorkerEvent;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Restores that may wait for one target; only those of clients that may restore it wait long.
const MAX_RESTORES: usize = 16;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Record and answer a request.
    Answer { pending: Pending, rule: Option<String>, outcome: Result<Completion, Failure> },
    /// Answer a restore of a process that runs, as far as this target goes: somebody else may keep it asleep.
    Outside(Pending),
    /// Tell a client how far it is.
    Progress { connection: u64, id: u32, state: State, done: u64, total: u64 },
    /// Order the worker to restore.
    Order { ticket: u64, client: OwnedFd },
    /// Record that its sleep ended badly though nobody asked anything: it is lost, if the code says so.
    Failed(Failure),
    /// Record that it could not be woken, though nobody asked, and is tried again.
    SleepsOn(Failure),
    /// Record that the target runs again though nobody asked for it.
    Woken(WakeReport),
}

/// Where the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Attaching,
    Dumping,
    Asleep,
    Restoring,
    /// The worker has said its last word, and has not ended yet.
    Ending,
}

/// The last word about a target.
enum Last {
    Awake(WakeReport),
    Failed(Failure),
}

#[derive(Debug)]
struct WaitingRestore {
    pending: Pending,
    /// Until it is ordered.
    client: Option<OwnedFd>,
    ticket: u64,
    /// The rule by which the worker allowed it.
    allowed: Option<String>,
}

/// One target.
#[derive(Debug)]
pub(crate) struct Target {
    pid: i32,
    phase: Phase,
    since: Instant,
    facts: Option<TargetFacts>,
    rule: Option<String>,
    /// Whether the worker allowed the checkpoint: until then a stranger may have asked for it.
    allowed: bool,
    sandbox: Option<Sandbox>,
    guard: Option<Guard>,
    sleep: Option<SleepReport>,
    checkpoint: Option<Pending>,
    restores: VecDeque<WaitingRestore>,
    /// The worker is at a restore that was answered because it took too long.
    is_at_given_up: bool,
    last_ticket: u64,
    /// Checkpoints of the same process (or of the next with this pid), for when the worker has ended.
    waiting: Waiting,
}

impl Target {
    /// A target that `checkpoint` is about to put to sleep.
    pub(crate) fn new(checkpoint: Pending) -> Self {
        Self {
            pid: checkpoint.pid,
            phase: Phase::Attaching,
            since: Instant::now(),
            facts: None,
            rule: None,
            allowed: false,
            sandbox: None,
            guard: None,
            sleep: None,
            checkpoint: Some(checkpoint),
            restores: VecDeque::new(),
            is_at_given_up: false,
            last_ticket: 0,
            waiting: Waiting::default(),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// What the worker found out about it.
    pub(crate) fn facts(&self) -> Option<&TargetFacts> {
        self.facts.as_ref()
    }

    /// How its worker is confined.
    pub(crate) fn sandbox(&self) -> Option<Sandbox> {
        self.sandbox
    }

    /// What holds while it sleeps.
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// Its entry in a list; `None` before its facts are known and once it is done with.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let facts = self.facts.as_ref()?;
        let state = match self.phase {
            Phase::Attaching => State::Attaching,
            Phase::Dumping => State::Dumping,
            Phase::Asleep => State::Asleep,
            Phase::Restoring => State::Restoring,
            Phase::Ending => return None,
        };
        Some(Entry {
            pid: self.pid,
            uid: facts.uids[1],
            executable: facts.executable.clone(),
            state,
            since_seconds: self.since.elapsed().as_secs(),
            sleep: self.sleep.clone(),
        })
    }

    /// A restore of this process.
    pub(crate) fn ask_restore(&mut self, restore: Restore, policy: &Policy) -> Vec<Effect> {
        if self.phase == Phase::Ending {
            return self.call_off_waiting(restore.pending, policy);
        }
        if self.restores.len() >= MAX_RESTORES {
            let busy =
                Failure::new(Code::Busy, format!("too many clients wait for process {} to wake", self.pid));
            return vec![answer(restore.pending, None, Err(busy))];
        }
        self.last_ticket += 1;
        self.restores.push_back(WaitingRestore {
            pending: restore.pending,
            client: Some(restore.client),
            ticket: self.last_ticket,
            allowed: None,
        });
        self.order_next_restore(policy)
    }

    /// What the worker says.
    pub(crate) fn event(&mut self, event: WorkerEvent, policy: &Policy) -> Vec<Effect> {
        if self.phase == Phase::Ending {
            return Vec::new();
        }
        match event {
            WorkerEvent::Subjects { peer: _, target } => {
                self.facts = Some(target);
                self.refuse_waiting(policy).into_iter().chain(self.order_next_restore(policy)).collect()
            }
            WorkerEvent::Decided { rule, allowed } => {
                self.rule = Some(rule);
                self.allowed = allowed;
                self.refuse_waiting(policy)
            }
            WorkerEvent::Confined { sandbox, guard } => {
                (self.sandbox, self.guard) = (Some(sandbox), Some(guard));
                self.advance(Phase::Dumping);
                Vec::new()
            }
            WorkerEvent::Progress { state, done, total } => self.progress(state, done, total),
            WorkerEvent::Asleep(report) => self.asleep(report),
            WorkerEvent::RestoreDenied { ticket, rule } => {
                // what was denied may be one that was answered already
                self.is_at_given_up = false;
                let denied = self.take_restore(ticket).map(|restore| deny(restore.pending, rule));
                denied.into_iter().chain(self.order_next_restore(policy)).collect()
            }
            WorkerEvent::RestoreAllowed { ticket, rule } => {
                if self.phase == Phase::Asleep {
                    self.advance(Phase::Restoring);
                }
                if let Some(restore) = self.restores.iter_mut().find(|restore| restore.ticket == ticket) {
                    restore.allowed = Some(rule);
                }
                Vec::new()
            }
            WorkerEvent::SleepsOn(failure) => self.sleeps_on(&failure, policy),
            WorkerEvent::Awake(report) => self.finish(&Last::Awake(report), policy),
            WorkerEvent::Failed(failure) => self.finish(&Last::Failed(failure), policy),
        }
    }

    /// The worker died asleep; another restores.
    pub(crate) fn replaced(&mut self) {
        self.advance(Phase::Restoring);
    }

    /// The worker has ended: answers what nobody answered, and gives out the checkpoints that wait.
    pub(crate) fn ended(&mut self, ending: Ending, policy: &Policy) -> (Vec<Effect>, VecDeque<Checkpoint>) {
        let pid = self.pid;
        let effects = if self.phase == Phase::Ending {
            Vec::new()
        } else {
            let failure = match ending {
                Ending::Exited => Failure::new(
                    Code::Internal,
                    format!("the worker of process {pid} ended without a result"),
                ),
                Ending::DiedUnharmed => Failure::new(
                    Code::Internal,
                    format!("the worker of process {pid} died; undone, the process runs unharmed"),
                ),
                Ending::DiedAsleep => Failure::new(
                    Code::TargetLost,
                    format!("the worker of process {pid} died while it slept and could not be replaced"),
                ),
                Ending::NotStarted => {
                    Failure::new(Code::Internal, format!("no worker could be started for process {pid}"))
                }
            };
            self.finish(&Last::Failed(failure), policy)
        };
        (effects, self.waiting.take())
    }

    /// Takes back the checkpoints that wait for the worker to end.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Checkpoint> {
        self.waiting.take()
    }

    /// Whether its worker has said its last word.
    pub(crate) fn is_ending(&self) -> bool {
        self.phase == Phase::Ending
    }

    /// Whether its memory is in the image, so that it is lost if nobody restores it.
    pub(crate) fn is_freed(&self) -> bool {
        matches!(self.phase, Phase::Asleep | Phase::Restoring)
    }

    fn advance(&mut self, phase: Phase) {
        if self.phase != phase && self.phase != Phase::Ending {
            (self.phase, self.since) = (phase, Instant::now());
        }
    }

    fn progress(&mut self, state: State, done: u64, total: u64) -> Vec<Effect> {
        match (state, self.phase) {
            (State::Dumping, Phase::Attaching) => self.advance(Phase::Dumping),
            (State::Restoring, Phase::Asleep) => self.advance(Phase::Restoring),
            _ => {}
        }
        let waiting = match &self.checkpoint {
            Some(checkpoint) => Some(checkpoint),
            None => self.restores.front().map(|restore| &restore.pending),
        };
        let progress = waiting.map(|pending| Effect::Progress {
            connection: pending.connection,
            id: pending.id,
            state,
            done,
            total,
        });
        progress.into_iter().collect()
    }

    fn asleep(&mut self, report: SleepReport) -> Vec<Effect> {
        self.advance(Phase::Asleep);
        self.guard = Some(report.guard);
        self.sleep = Some(report.clone());
        let rule = self.rule.clone();
        let done =
            self.checkpoint.take().map(|pending| answer(pending, rule, Ok(Completion::Asleep(report))));
        done.into_iter().collect()
    }

    /// It could not be woken: whoever the worker tried it for is told, the next may try again.
    fn sleeps_on(&mut self, failure: &Failure, policy: &Policy) -> Vec<Effect> {
        self.advance(Phase::Asleep);
        if std::mem::take(&mut self.is_at_given_up) {
            let told = Effect::SleepsOn(failure.clone());
            return [told].into_iter().chain(self.order_next_restore(policy)).collect();
        }
        let ordered = self.restores.front().is_some_and(|restore| restore.client.is_none());
        let first = if ordered { self.restores.pop_front() } else { None };
        let told = match first {
            Some(restore) => answer(restore.pending, restore.allowed, Err(failure.clone())),
            None => Effect::SleepsOn(failure.clone()),
        };
        [told].into_iter().chain(self.order_next_restore(policy)).collect()
    }

    /// One restore is with the worker at a time: it decides them one by one. The broker's own decision
    /// keeps clients that may not from taking up the queue.
    fn order_next_restore(&mut self, policy: &Policy) -> Vec<Effect> {
        let Some(facts) = self.facts.as_ref().filter(|_| !self.is_at_given_up) else { return Vec::new() };
        let mut effects = Vec::new();
        while let Some(first) = self.restores.front_mut() {
            let Some(client) = first.client.take() else { break };
            let decision = policy.decide(&first.pending.asker.peer, Action::Restore, facts);
            if decision.allowed {
                effects.push(Effect::Order { ticket: first.ticket, client });
                break;
            }
            effects.extend(self.restores.pop_front().map(|restore| deny(restore.pending, decision.rule)));
        }
        effects
    }

    fn take_restore(&mut self, ticket: u64) -> Option<WaitingRestore> {
        let index = self.restores.iter().position(|restore| restore.ticket == ticket)?;
        self.restores.remove(index)
    }

    /// Answers everybody who waits.
    fn finish(&mut self, last: &Last, policy: &Policy) -> Vec<Effect> {
        let slept = self.checkpoint.is_none();
        self.advance(Phase::Ending);
        let mut effects = Vec::new();
        if let Some(pending) = self.checkpoint.take() {
            let failure = match last {
                Last::Failed(failure) => failure.clone(),
                Last::Awake(_) => Failure::new(
                    Code::Internal,
                    format!("the worker of process {} died before it slept; restored, it runs", self.pid),
                ),
            };
            effects.push(answer(pending, self.rule.clone(), Err(failure)));
        }
        for restore in std::mem::take(&mut self.restores) {
            effects.push(self.answer_restore(restore, last, slept, policy));
        }
        if effects.is_empty() {
            effects.push(match last {
                Last::Awake(report) => Effect::Woken(report.clone()),
                Last::Failed(failure) => Effect::Failed(failure.clone()),
            });
        }
        effects
    }

    fn answer_restore(&self, restore: WaitingRestore, last: &Last, slept: bool, policy: &Policy) -> Effect {
        let rule = match (restore.allowed, &self.facts) {
            (Some(rule), _) => Some(rule),
            (None, Some(facts)) => {
                let decision = policy.decide(&restore.pending.asker.peer, Action::Restore, facts);
                if !decision.allowed {
                    return deny(restore.pending, decision.rule);
                }
                Some(decision.rule)
            }
            // it ended before the worker knew what it is, let alone who may do what with it
            (None, None) => return Effect::Outside(restore.pending),
        };
        let outcome = match last {
            Last::Awake(report) => Ok(Completion::Awake(report.clone())),
            // it was called off before anything was taken away: the target runs, as was asked
            Last::Failed(failure) if failure.code == Code::Aborted => Ok(runs_on()),
            Last::Failed(failure) if slept || failure.code == Code::TargetLost => Err(failure.clone()),
            Last::Failed(_) => return Effect::Outside(restore.pending),
        };
        answer(restore.pending, rule, outcome)
    }
}

/// What a restore comes to that called a checkpoint off.
fn runs_on() -> Completion {
    Completion::Awake(WakeReport { restored: 0, pages: 0, checksum: None, rss_after: 0, restore_micros: 0 })
}

fn answer(pending: Pending, rule: Option<String>, outcome: Result<Completion, Failure>) -> Effect {
    Effect::Answer { pending, rule, outcome }
}

/// The denial of a request by `rule`.
fn deny(pending: Pending, rule: String) -> Effect {
    let failure = denial(pending.action, pending.pid, &rule);
    answer(pending, Some(rule), Err(failure))
}

#[cfg(test)]
mod tests;
