//! Requests as the audit log tells them.

use super::Server;
use super::pending::Pending;
use crate::audit::record::{Begun, Client, Event, Outcome, Reopened, Request, Target, Times};
use memcr_protocol::client::Completion;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::image::Checksum;
use memcr_protocol::report::Guard;
use memcr_protocol::subject::{Action, TargetFacts};
use std::io;
use tracing::{debug, info};

impl Server {
    /// Opens the audit log anew, since it was rotated.
    pub(super) fn reopen_audit_log(&mut self) {
        let failure = self.audit.reopen();
        self.audit.record(Event::LogReopened(Reopened { failure: failure.as_deref() }));
    }

    /// With `--audit-required`, leaves a record that a request is about to be set about.
    ///
    /// # Errors
    /// What the client is told if that can't be: nothing may be done then.
    pub(super) fn record_beginning(&mut self, pending: &Pending) -> Result<(), Failure> {
        if !self.audit.is_required() {
            return Ok(());
        }
        let begun = Begun {
            request: pending.number,
            client: Client::of(&pending.asker.peer, pending.asker.looked_up, pending.asker.address),
            wire: pending.wire,
            action: pending.action.name(),
            target: Target::of(pending.pid, None),
        };
        self.audit.write(Event::RequestBegun(begun)).map_err(|cause| unrecorded(&cause))
    }

    /// Leaves the record of a request. What is known of its target comes from `ticket`'s worker, else
    /// from `facts`.
    pub(super) fn record_outcome(
        &mut self,
        pending: &Pending,
        ticket: Option<u64>,
        facts: Option<&TargetFacts>,
        rule: Option<&str>,
        outcome: &Result<Completion, Failure>,
    ) {
        let target = ticket.and_then(|ticket| self.sleepers.get(&ticket)).map(|sleeper| &sleeper.target);
        let mut record = blank(pending, facts.or(target.and_then(|target| target.facts())), rule);
        record.sandbox = target.and_then(|target| target.sandbox());
        record.guard = target.and_then(|target| target.guard()).map(Guard::name);
        match outcome {
            Ok(Completion::Asleep(report)) => {
                record.bytes = Some(report.dumped);
                record.pages = Some(report.pages);
                record.image_bytes = Some(report.image);
                record.file_bytes = Some(report.file_dropped);
                record.checksum = report.checksum;
                record.times = record.times.sleep(report);
            }
            Ok(Completion::Awake(report)) => {
                record.bytes = Some(report.restored);
                record.pages = Some(report.pages);
                record.checksum = report.checksum;
                record.times = record.times.wake(report);
            }
            Ok(Completion::Listed) => {}
            Err(failure) => {
                record.outcome = if failure.code == Code::Denied { Outcome::Denied } else { Outcome::Failed };
                record.code = Some(failure.code.name());
                record.message = Some(&failure.message);
            }
        }
        log_checksum(pending.pid, record.action, record.checksum);
        debug!(
            "request {}: {} of process {}: {:?}",
            pending.number, record.action, pending.pid, record.outcome
        );
        self.audit.record(Event::Request(Box::new(record)));
    }

    /// Leaves the record of a list or of a state told.
    ///
    /// # Errors
    /// With `--audit-required`, what the client is told instead if that can't be.
    pub(super) fn record_listing(
        &mut self,
        pending: &Pending,
        facts: Option<&TargetFacts>,
        rule: Option<&str>,
        entries: usize,
    ) -> Result<(), Failure> {
        let mut record = blank(pending, facts, rule);
        record.entries = Some(entries);
        let written = self.audit.write(Event::Request(Box::new(record)));
        if self.audit.is_required() { written.map_err(|cause| unrecorded(&cause)) } else { Ok(()) }
    }
}

/// What a client is told for whom nothing is done, since it could not be recorded.
fn unrecorded(cause: &io::Error) -> Failure {
    Failure::new(
        Code::Storage,
        format!("the audit log can't be written ({cause}), and nothing is done without a record here"),
    )
}

/// For who compares them by eye, as the original lets its users do.
pub(super) fn log_checksum(pid: i32, when: &str, checksum: Option<Checksum>) {
    if let Some(checksum) = checksum {
        info!("process {pid}, {when}: checksum {checksum}");
    }
}

fn blank<'a>(pending: &'a Pending, facts: Option<&'a TargetFacts>, rule: Option<&'a str>) -> Request<'a> {
    let total = u64::try_from(pending.since.elapsed().as_micros()).unwrap_or(u64::MAX);
    let target = match pending.action {
        Action::List => None,
        Action::Checkpoint | Action::Restore | Action::Status if pending.pid == 0 => None,
        Action::Checkpoint | Action::Restore | Action::Status => Some(Target::of(pending.pid, facts)),
    };
    Request {
        request: pending.number,
        client: Client::of(&pending.asker.peer, pending.asker.looked_up, pending.asker.address),
        wire: pending.wire,
        action: pending.action.name(),
        target,
        rule,
        outcome: Outcome::Ok,
        code: None,
        message: None,
        sandbox: None,
        guard: None,
        bytes: None,
        pages: None,
        image_bytes: None,
        file_bytes: None,
        checksum: None,
        entries: None,
        times: Times::total(total),
    }
}
