//! The rules of a policy file and what they match.

use crate::Decision;
use crate::glob::Glob;
use memcr_protocol::subject::{Action, Peer, PeerKind, TargetFacts};

/// The first rule that matches decides; without one it is denied.
pub(crate) fn decide(rules: &[Rule], peer: &Peer, action: Action, target: &TargetFacts) -> Decision {
    match rules.iter().find(|rule| rule.matches(peer, action, target)) {
        Some(rule) => Decision::by(&rule.name, rule.effect == Effect::Allow),
        None => Decision::default_deny(),
    }
}

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
}

/// What a rule says when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// What is asked of a client.
#[derive(Debug)]
pub(crate) enum ClientCondition {
    /// That nobody can say who it is.
    Anonymous,
    /// That somebody can, and that these are its ids.
    Ids(ClientIds),
}

/// What is asked of a client that has a name. All that is given must match, one element of each list.
#[derive(Debug)]
pub(crate) struct ClientIds {
    pub(crate) uid: Option<Vec<u32>>,
    pub(crate) user: Option<Vec<u32>>,
    pub(crate) gid: Option<Vec<u32>>,
    pub(crate) group: Option<Vec<u32>>,
}

/// What is asked of a target. All that is given must match, one element of each list.
#[derive(Debug)]
pub(crate) struct TargetCondition {
    pub(crate) uid: Option<Vec<u32>>,
    pub(crate) user: Option<Vec<u32>>,
    pub(crate) gid: Option<Vec<u32>>,
    pub(crate) group: Option<Vec<u32>>,
    pub(crate) executable: Option<Vec<Glob>>,
    pub(crate) cgroup: Option<Vec<Glob>>,
}

impl Rule {
    /// Whether it allows something to anonymous clients.
    pub(crate) fn grants_anonymous(&self) -> bool {
        self.effect == Effect::Allow && matches!(self.client, Some(ClientCondition::Anonymous))
    }

    fn matches(&self, peer: &Peer, action: Action, target: &TargetFacts) -> bool {
        self.actions.contains(&action)
            && self.client_matches(peer)
            && self.target.as_ref().is_none_or(|condition| condition.matches(target, self.effect))
    }

    fn client_matches(&self, peer: &Peer) -> bool {
        match (&self.client, self.effect) {
            (Some(client), effect) => client.matches(peer, effect),
            // whoever wrote "any client" did not think of the whole network
            (None, Effect::Allow) => peer.kind != PeerKind::Anonymous,
            (None, Effect::Deny) => true,
        }
    }
}

impl ClientCondition {
    fn matches(&self, peer: &Peer, effect: Effect) -> bool {
        match (self, peer.kind) {
            (Self::Anonymous, kind) => kind == PeerKind::Anonymous,
            // it has no id at all
            (Self::Ids(_), PeerKind::Anonymous) => false,
            (Self::Ids(ids), PeerKind::Process | PeerKind::Socket) => ids.match_peer(peer, effect),
        }
    }
}

impl ClientIds {
    // a peer has one user id, but its groups may be unknown
    fn match_peer(&self, peer: &Peer, effect: Effect) -> bool {
        let is_in_group = |gid: &u32| peer.is_in_group(*gid).unwrap_or(effect == Effect::Deny);
        holds(&self.uid, |uid| *uid == peer.uid)
            && holds(&self.user, |uid| *uid == peer.uid)
            && holds(&self.gid, is_in_group)
            && holds(&self.group, is_in_group)
    }
}

impl TargetCondition {
    fn matches(&self, target: &TargetFacts, effect: Effect) -> bool {
        effect.ids_match(&self.uid, target.uids)
            && effect.ids_match(&self.user, target.uids)
            && effect.ids_match(&self.gid, target.gids)
            && effect.ids_match(&self.group, target.gids)
            && effect.path_matches(&self.executable, &target.executable)
            && effect.path_matches(&self.cgroup, &target.cgroup)
    }
}

impl Effect {
    // a setuid program is its owner's and its caller's at once: to allow, each id must be listed;
    // to deny, one is enough
    fn ids_match(self, listed: &Option<Vec<u32>>, ids: [u32; 3]) -> bool {
        let Some(listed) = listed else { return true };
        match self {
            Self::Allow => ids.iter().all(|id| listed.contains(id)),
            Self::Deny => ids.iter().any(|id| listed.contains(id)),
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
