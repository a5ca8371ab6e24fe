//! The accounts of a made-up system, and clients and targets on it.

use memcr_policy::{Names, Policy, PolicyError};
use memcr_protocol::subject::{Peer, PeerKind, TargetFacts};

pub(crate) struct Accounts;

impl Names for Accounts {
    fn user(&self, name: &str) -> Option<u32> {
        lookup(&[("root", 0), ("app", 1000), ("ops", 1001), ("nobody", 65534)], name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        lookup(&[("root", 0), ("memcr-clients", 2000), ("auditors", 2001), ("nogroup", 65534)], name)
    }
}

fn lookup(accounts: &[(&str, u32)], name: &str) -> Option<u32> {
    accounts.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
}

pub(crate) fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text, &Accounts)
}

/// A client of this user and group that is in these groups, too.
pub(crate) fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
    Peer {
        kind: PeerKind::Process,
        uid,
        gid,
        groups: groups.to_vec(),
        pid: 77,
        executable: None,
        cgroup: None,
        namespaces: None,
    }
}

/// A target, all of whose ids are this one.
pub(crate) fn target(id: u32, executable: &str, cgroup: &str) -> TargetFacts {
    TargetFacts {
        pid: 88,
        start_time: 99,
        uids: [id; 3],
        gids: [id; 3],
        executable: executable.to_owned(),
        cgroup: cgroup.to_owned(),
        namespaces: None,
        sha256: None,
    }
}
