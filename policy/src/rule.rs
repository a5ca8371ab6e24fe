//! The rules of a policy file and what they match.

use crate::explain::Mismatch;
use crate::glob::Glob;
use crate::{Decision, Limits, Permits};
use memcr_protocol::subject::{Action, Namespaces, Peer, PeerKind, TargetFacts};

/// The first rule that matches decides; without one it is denied.
pub(crate) fn decide(rules: &[Rule], peer: &Peer, action: Action, target: &TargetFacts) -> Decision {
    match rules.iter().find(|rule| rule.mismatch(peer, action, target).is_none()) {
        Some(rule) => rule.decision(),
        None => Decision::default_deny(),
    }
}

/// Whether what is decided depends on the hash of the target's executable, which is not known yet.
pub(crate) fn needs_hash(rules: &[Rule], peer: &Peer, action: Action, target: &TargetFacts) -> bool {
    for rule in rules {
        let asks = rule.target.as_ref().is_some_and(|condition| condition.sha256.is_some());
        match rule.mismatch(peer, action, target) {
            Some(Mismatch { key: HASH, .. }) => return true,
            Some(_) => {}
            None => return asks,
        }
    }
    false
}

/// The key of the condition on the executable's contents.
const HASH: &str = "target.sha256";

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) effect: Effect,
    pub(crate) actions: Vec<Action>,
    /// `None` matches every client.
    pub(crate) client: Option<ClientCondition>,
    /// `None` matches every target.
    pub(crate) target: Option<TargetCondition>,
    /// Of a rule that allows.
    pub(crate) limits: Limits,
    /// Of a rule that allows.
    pub(crate) permits: Permits,
}

/// What a rule says when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// Ids from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl IdRange {
    /// One id.
    pub(crate) fn of(id: u32) -> Self {
        Self { first: id, last: id }
    }

    /// Whether this id is among them.
    pub(crate) fn has(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// What is asked of a client.
#[derive(Debug)]
pub(crate) enum ClientCondition {
    /// That nobody can say who it is.
    Anonymous,
    /// That somebody can, and that it is one of these.
    Named(NamedClient),
}

/// What is asked of a client that has a name. All that is given must match, one element of each list.
#[derive(Debug)]
pub(crate) struct NamedClient {
    pub(crate) uid: Option<Vec<IdRange>>,
    pub(crate) user: Option<Vec<IdRange>>,
    pub(crate) gid: Option<Vec<IdRange>>,
    pub(crate) group: Option<Vec<IdRange>>,
    pub(crate) executable: Option<Vec<Glob>>,
    pub(crate) cgroup: Option<Vec<Glob>>,
}

/// What is asked of a target. All that is given must match, one element of each list.
#[derive(Debug)]
pub(crate) struct TargetCondition {
    pub(crate) uid: Option<Vec<IdRange>>,
    pub(crate) user: Option<Vec<IdRange>>,
    pub(crate) gid: Option<Vec<IdRange>>,
    pub(crate) group: Option<Vec<IdRange>>,
    pub(crate) executable: Option<Vec<Glob>>,
    pub(crate) cgroup: Option<Vec<Glob>>,
    /// Whether it must be in the client's pid namespace.
    pub(crate) same_pid_namespace: bool,
    /// Whether it must be in the client's user namespace.
    pub(crate) same_user_namespace: bool,
    /// Hashes of its executable's contents.
    pub(crate) sha256: Option<Vec<[u8; 32]>>,
}

impl Rule {
    /// Whether it allows something to anonymous clients.
    pub(crate) fn grants_anonymous(&self) -> bool {
        self.effect == Effect::Allow && matches!(self.client, Some(ClientCondition::Anonymous))
    }

    /// Whether it asks for what a client's socket doesn't tell.
    pub(crate) fn asks_about_process_of_client(&self) -> bool {
        let asks_client = match &self.client {
            Some(ClientCondition::Named(client)) => client.executable.is_some() || client.cgroup.is_some(),
            Some(ClientCondition::Anonymous) | None => false,
        };
        let target = self.target.as_ref();
        asks_client || target.is_some_and(|target| target.same_pid_namespace || target.same_user_namespace)
    }

    /// What it says if it matches.
    pub(crate) fn decision(&self) -> Decision {
        Decision {
            allowed: self.effect == Effect::Allow,
            rule: self.name.clone(),
            limits: self.limits,
            permits: self.permits,
        }
    }

    /// The first of its conditions that doesn't hold; `None` if it matches.
    pub(crate) fn mismatch(&self, peer: &Peer, action: Action, target: &TargetFacts) -> Option<Mismatch> {
        if !self.actions.contains(&action) {
            return Some(Mismatch::new("actions", action.name()));
        }
        self.client_mismatch(peer).or_else(|| self.target.as_ref()?.mismatch(target, peer, self.effect))
    }

    fn client_mismatch(&self, peer: &Peer) -> Option<Mismatch> {
        let anonymous = || Mismatch::new("client.anonymous", peer.kind == PeerKind::Anonymous);
        match (&self.client, self.effect, peer.kind) {
            // whoever wrote "any client" did not think of the whole network
            (None, Effect::Allow, PeerKind::Anonymous) => Some(anonymous()),
            (None, _, _) | (Some(ClientCondition::Anonymous), _, PeerKind::Anonymous) => None,
            // it has no id at all
            (Some(ClientCondition::Named(_)), _, PeerKind::Anonymous)
            | (Some(ClientCondition::Anonymous), _, _) => Some(anonymous()),
            (Some(ClientCondition::Named(client)), effect, _) => client.mismatch(peer, effect),
        }
    }
}

impl NamedClient {
    // a peer has one user id, but its groups and all of its process may be unknown
    fn mismatch(&self, peer: &Peer, effect: Effect) -> Option<Mismatch> {
        let in_doubt = effect == Effect::Deny;
        let has_user = |listed: &IdRange| listed.has(peer.uid);
        let has_group = |listed: &IdRange| peer.is_in(|group| listed.has(group)).unwrap_or(in_doubt);
        let path = |globs: &Option<Vec<Glob>>, path: &Option<String>| {
            effect.path_matches(globs, path.as_deref().unwrap_or_default())
        };
        let groups = || format!("{} {:?}", peer.gid, peer.groups);
        first_mismatch([
            ("client.uid", holds(&self.uid, has_user), peer.uid.to_string()),
            ("client.user", holds(&self.user, has_user), peer.uid.to_string()),
            ("client.gid", holds(&self.gid, has_group), groups()),
            ("client.group", holds(&self.group, has_group), groups()),
            (
                "client.executable",
                path(&self.executable, &peer.executable),
                shown(peer.executable.as_deref()),
            ),
            ("client.cgroup", path(&self.cgroup, &peer.cgroup), shown(peer.cgroup.as_deref())),
        ])
    }
}

impl TargetCondition {
    fn mismatch(&self, target: &TargetFacts, peer: &Peer, effect: Effect) -> Option<Mismatch> {
        let same = |wanted: bool, of: fn(&Namespaces) -> u64| {
            let both = peer.namespaces.as_ref().zip(target.namespaces.as_ref());
            !wanted || both.map_or(effect == Effect::Deny, |(client, target)| of(client) == of(target))
        };
        let namespace = |of: fn(&Namespaces) -> u64| {
            let number = |namespaces: &Option<Namespaces>| {
                namespaces.as_ref().map_or_else(|| "unknown".to_owned(), |found| of(found).to_string())
            };
            format!("{}, the client's is {}", number(&target.namespaces), number(&peer.namespaces))
        };
        let (users, groups) = (|| format!("{:?}", target.uids), || format!("{:?}", target.gids));
        first_mismatch([
            ("target.uid", effect.ids_match(&self.uid, target.uids), users()),
            ("target.user", effect.ids_match(&self.user, target.uids), users()),
            ("target.gid", effect.ids_match(&self.gid, target.gids), groups()),
            ("target.group", effect.ids_match(&self.group, target.gids), groups()),
            (
                "target.executable",
                effect.path_matches(&self.executable, &target.executable),
                shown(Some(&target.executable)),
            ),
            ("target.cgroup", effect.path_matches(&self.cgroup, &target.cgroup), shown(Some(&target.cgroup))),
            (
                "target.pid_namespace",
                same(self.same_pid_namespace, |namespaces| namespaces.pid),
                namespace(|namespaces| namespaces.pid),
            ),
            (
                "target.user_namespace",
                same(self.same_user_namespace, |namespaces| namespaces.user),
                namespace(|namespaces| namespaces.user),
            ),
            // last: it is asked for only if it decides
            (HASH, self.hash_matches(target, effect), hash_shown(target)),
        ])
    }
}

impl TargetCondition {
    fn hash_matches(&self, target: &TargetFacts, effect: Effect) -> bool {
        holds(&self.sha256, |hash| target.sha256.map_or(effect == Effect::Deny, |found| found == *hash))
    }
}

fn hash_shown(target: &TargetFacts) -> String {
    let hexadecimal = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
    target.sha256.map_or_else(|| "unknown".to_owned(), hexadecimal)
}

/// The first condition that doesn't hold: its key, whether it does, what was found instead.
fn first_mismatch<const COUNT: usize>(conditions: [(&'static str, bool, String); COUNT]) -> Option<Mismatch> {
    let failed = conditions.into_iter().find(|(_, holds, _)| !holds);
    failed.map(|(key, _, found)| Mismatch::new(key, found))
}

fn shown(path: Option<&str>) -> String {
    path.filter(|path| !path.is_empty()).map_or_else(|| "unknown".to_owned(), str::to_owned)
}

impl Effect {
    // a setuid program is its owner's and its caller's at once: to allow, each id must be listed;
    // to deny, one is enough
    fn ids_match(self, listed: &Option<Vec<IdRange>>, ids: [u32; 3]) -> bool {
        let Some(listed) = listed else { return true };
        let is_listed = |id: &u32| listed.iter().any(|range| range.has(*id));
        match self {
            Self::Allow => ids.iter().all(is_listed),
            Self::Deny => ids.iter().any(is_listed),
        }
    }

    fn path_matches(self, globs: &Option<Vec<Glob>>, path: &str) -> bool {
        holds(globs, |glob| match self {
            Self::Allow => glob.matches_certainly(path),
            Self::Deny => glob.matches_possibly(path),
        })
    }
}

fn holds<T>(list: &Option<Vec<T>>, matches: impl Fn(&T) -> bool) -> bool {
    list.as_ref().is_none_or(|list| list.iter().any(matches))
}
