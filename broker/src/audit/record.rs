//! What a record holds. The JSON that these types make is an interface, described in doc/audit.md: a
//! change that takes away or renames a member raises [`SCHEMA`].

use super::log::Origin;
use memcr_protocol::image::Checksum;
use memcr_protocol::report::{Sandbox, SleepReport, WakeReport};
use memcr_protocol::subject::{NO_ID, Peer, PeerKind, TargetFacts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Version of the schema; in every record.
pub(crate) const SCHEMA: u32 = 1;

/// One line of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) schema: u32,
    /// Number of the record in this log.
    pub(crate) sequence: u64,
    /// SHA-256 of the line before it, in hexadecimal.
    pub(crate) previous: String,
    /// RFC 3339, UTC, microseconds.
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) event: Event<'a>,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// The daemon is ready.
    Start(Start<'a>),
    /// The daemon ends.
    Stop(Stop<'a>),
    /// A client's request is about to be set about, with `--audit-required`.
    RequestBegun(Begun<'a>),
    /// A client's request was answered.
    Request(Box<Request<'a>>),
    /// A client was not let in: there was no place for it.
    ClientTurnedAway(TurnedAway<'a>),
    /// A client broke the protocol and was disconnected.
    ProtocolViolation(Violation<'a>),
    /// A sleeping target was lost without a request.
    TargetLost(BadEnd<'a>),
    /// A sleep ended otherwise than it should, without a request; the target runs unharmed.
    SleepFailed(BadEnd<'a>),
    /// A target could not be woken yet and sleeps on; it is tried again.
    RestoreFailed(BadEnd<'a>),
    /// The daemon woke a target by itself, as it ends.
    Woken(Woken<'a>),
    /// A worker died while its target slept; another took over.
    WorkerReplaced(WorkerReplaced<'a>),
    /// Records before this one could not be written.
    Gap(Gap),
    /// The log was opened anew, or should have been.
    LogReopened(Reopened<'a>),
    /// The policy file was read anew, and is in force.
    PolicyReloaded(PolicyReloaded),
    /// The policy file could not be read anew; the old policy stays in force.
    PolicyKept(PolicyKept<'a>),
}

#[derive(Debug, Serialize)]
pub(crate) struct Start<'a> {
    /// Whether there may be half a line before this one, which an earlier daemon left.
    pub(crate) torn: bool,
    /// Where it is hung up.
    pub(crate) log: Origin,
    /// Whether no request is served whose record can't be written.
    pub(crate) audit_required: bool,
    pub(crate) version: &'static str,
    pub(crate) protocol: u16,
    pub(crate) pid: u32,
    pub(crate) launcher: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Path of the listening socket; null over TCP and for one process without a service.
    pub(crate) listen: Option<&'a str>,
    /// TCP addresses it listens on.
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) listen_gid: Option<u32>,
    pub(crate) directories: Vec<&'a str>,
    /// Path of the policy file; null for the built-in policy.
    pub(crate) policy: Option<&'a str>,
    /// How images are encrypted, and compressed unless a request says otherwise; whether they have checksums.
    pub(crate) cipher: &'static str,
    pub(crate) compression: &'static str,
    pub(crate) checksum: bool,
    /// The guard that is possible.
    pub(crate) guard: &'static str,
    pub(crate) landlock: &'static str,
    pub(crate) seccomp: bool,
    /// Whether the sandbox must be complete, and what it lacks.
    pub(crate) sandbox: &'static str,
    pub(crate) missing: Vec<&'static str>,
    /// What the kernel has of what memcr uses (`memcr --probe`).
    pub(crate) features: BTreeMap<&'static str, bool>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Stop<'a> {
    pub(crate) reason: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    /// Counts the requests since the daemon started.
    pub(crate) request: u64,
    pub(crate) client: Client<'a>,
    pub(crate) wire: Wire,
    pub(crate) action: &'static str,
    pub(crate) target: Option<Target<'a>>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: Option<&'a str>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) guard: Option<&'static str>,
    pub(crate) bytes: Option<u64>,
    pub(crate) pages: Option<u64>,
    pub(crate) image_bytes: Option<u64>,
    /// Memory of mapped files that was dropped.
    pub(crate) file_bytes: Option<u64>,
    pub(crate) checksum: Option<Checksum>,
    /// Targets listed.
    pub(crate) entries: Option<usize>,
    pub(crate) times: Times,
}

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wire {
    /// Ours.
    Framed,
    /// That of the original, version 1.
    V1,
    /// Version 2.
    V2,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Ok,
    Denied,
    Failed,
}

/// The process that asked.
#[derive(Debug, Serialize)]
pub(crate) struct Client<'a> {
    /// Null if nobody can say, as the next.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Null if nobody was asked for them, or knows them.
    pub(crate) groups: Option<&'a [u32]>,
    pub(crate) pid: i32,
    pub(crate) executable: Option<&'a str>,
    pub(crate) anonymous: bool,
    /// Over TCP.
    pub(crate) address: Option<SocketAddr>,
}

impl<'a> Client<'a> {
    /// Of this peer, whose groups may not have been looked up.
    pub(crate) fn of(peer: &'a Peer, looked_up: bool, address: Option<SocketAddr>) -> Self {
        Self {
            uid: Some(peer.uid).filter(|uid| *uid != NO_ID),
            gid: Some(peer.gid).filter(|gid| *gid != NO_ID),
            groups: (looked_up && peer.pid != 0).then_some(peer.groups.as_slice()),
            pid: peer.pid,
            executable: peer.executable.as_deref(),
            anonymous: peer.kind == PeerKind::Anonymous,
            address,
        }
    }
}

/// The process that was asked about. Only the pid is known of one that was refused before any look at it.
#[derive(Debug, Serialize)]
pub(crate) struct Target<'a> {
    pub(crate) pid: i32,
    pub(crate) start_time: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) executable: Option<&'a str>,
    pub(crate) cgroup: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Of `pid`, with the facts if they are known.
    pub(crate) fn of(pid: i32, facts: Option<&'a TargetFacts>) -> Self {
        let text = |text: fn(&TargetFacts) -> &String| {
            facts.map(|facts| text(facts).as_str()).filter(|text| !text.is_empty())
        };
        Self {
            pid,
            start_time: facts.map(|facts| facts.start_time),
            uid: facts.map(|facts| facts.uids[1]),
            executable: text(|facts| &facts.executable),
            cgroup: text(|facts| &facts.cgroup),
        }
    }
}

/// Microseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Times {
    /// From the request to its answer.
    pub(crate) total_micros: u64,
    pub(crate) attach_micros: Option<u64>,
    pub(crate) dump_micros: Option<u64>,
    pub(crate) free_micros: Option<u64>,
    pub(crate) restore_micros: Option<u64>,
}

impl Times {
    /// Of a request that took `total_micros`.
    pub(crate) fn total(total_micros: u64) -> Self {
        Self { total_micros, ..Self::default() }
    }

    /// With the times of a sleep.
    pub(crate) fn sleep(self, report: &SleepReport) -> Self {
        Self {
            attach_micros: Some(report.attach_micros),
            dump_micros: Some(report.dump_micros),
            free_micros: Some(report.free_micros),
            ..self
        }
    }

    /// With the times of a wake.
    pub(crate) fn wake(self, report: &WakeReport) -> Self {
        Self { restore_micros: Some(report.restore_micros), ..self }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Violation<'a> {
    pub(crate) client: Client<'a>,
    /// Null if too little was said to tell.
    pub(crate) wire: Option<Wire>,
    pub(crate) message: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct TurnedAway<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) message: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct BadEnd<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) guard: Option<&'static str>,
    pub(crate) code: &'static str,
    pub(crate) message: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Woken<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) times: Times,
}

#[derive(Debug, Serialize)]
pub(crate) struct WorkerReplaced<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) worker: i32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Gap {
    pub(crate) missed: u64,
    /// Whether there may be half a line before this one.
    pub(crate) torn: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Begun<'a> {
    pub(crate) request: u64,
    pub(crate) client: Client<'a>,
    pub(crate) wire: Wire,
    pub(crate) action: &'static str,
    pub(crate) target: Target<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PolicyReloaded {
    /// How many it has.
    pub(crate) rules: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct PolicyKept<'a> {
    pub(crate) reason: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reopened<'a> {
    /// Why it could not be, and the same file is written on; null if it was.
    pub(crate) failure: Option<&'a str>,
}
