//! Generated policies decide as a naive reading of doc/policy.md says.

use crate::accounts::{parse, peer};
use memcr_protocol::subject::{Action, Namespaces, Peer, PeerKind, TargetFacts};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const ACTIONS: [Action; 4] = [Action::Checkpoint, Action::Restore, Action::List, Action::Status];

/// What is written into a policy file, and what the reference reads.
#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    actions: Vec<Action>,
    client: Option<Client>,
    target: Option<Conditions>,
}

#[derive(Debug, Clone)]
enum Client {
    Anonymous,
    Ids(Conditions),
}

#[derive(Debug, Clone)]
struct Conditions {
    uid: Option<Vec<(u32, u32)>>,
    gid: Option<Vec<(u32, u32)>>,
    executable: Option<Vec<String>>,
    cgroup: Option<Vec<String>>,
    same_pid: bool,
    same_user: bool,
    sha256: Option<u8>,
}

/// Ids, each a range.
fn ids() -> impl Strategy<Value = Vec<(u32, u32)>> {
    vec((0u32..4, 0u32..2).prop_map(|(first, more)| (first, first + more)), 1..3)
}

fn namespaces() -> impl Strategy<Value = Option<Namespaces>> {
    of((0u64..2, 0u64..2).prop_map(|(pid, user)| Namespaces { pid, user }))
}

fn pattern() -> impl Strategy<Value = String> {
    let component = prop_oneof![1 => Just("**".to_owned()), 4 => "\\*|\\*?([ab?]\\*?){1,3}"];
    let ending = prop_oneof![4 => Just(""), 1 => Just(" (deleted)")];
    (vec(component, 1..5), ending).prop_map(|(components, ending)| {
        // `**` takes no ending
        let ending = if components.last().is_some_and(|last| last == "**") { "" } else { ending };
        format!("/{}{ending}", components.join("/"))
    })
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "(/[ab]{1,4}){1,4}( \\(deleted\\))?",
        1 => Just("/".to_owned()),
        1 => Just(String::new()),
    ]
}

prop_compose! {
    fn client()(uid in of(ids()), gid in of(ids()), executable in of(vec(pattern(), 1..3)),
        cgroup in of(vec(pattern(), 1..3)), anonymous in weighted(0.2)) -> Option<Client> {
        let some = uid.is_some() || gid.is_some() || executable.is_some() || cgroup.is_some();
        let conditions = Conditions { uid, gid, executable, cgroup, same_pid: false, same_user: false, sha256: None };
        if anonymous { Some(Client::Anonymous) } else { some.then_some(Client::Ids(conditions)) }
    }
}

prop_compose! {
    fn target()(uid in of(ids()), gid in of(ids()), executable in of(vec(pattern(), 1..3)),
        cgroup in of(vec(pattern(), 1..3)), same_pid in weighted(0.2), same_user in weighted(0.2), sha256 in of(0u8..2)) -> Option<Conditions> {
        let some = uid.is_some() || gid.is_some() || executable.is_some() || cgroup.is_some() || same_pid || same_user || sha256.is_some();
        some.then_some(Conditions { uid, gid, executable, cgroup, same_pid, same_user, sha256 })
    }
}

prop_compose! {
    fn rule()(allow: bool, actions in subsequence(ACTIONS.to_vec(), 1..=4), client in client(),
        target in target()) -> Rule {
        Rule { allow, actions, client, target }
    }
}

prop_compose! {
    fn subjects()(kind in select(vec![PeerKind::Process, PeerKind::Socket, PeerKind::Anonymous]), uid in 0u32..4, gid in 0u32..4, groups in vec(0u32..4, 0..3),
        uids in [0u32..4, 0..4, 0..4], gids in [0u32..4, 0..4, 0..4], same: bool,
        executable in path(), cgroup in path(), of_client in (of(path()), of(path())), inside in namespaces(), there in namespaces(), sha256 in of((0u8..2).prop_map(|byte| [byte; 32])))
        -> (Peer, TargetFacts) {
        let [uids, gids] = if same { [[uids[0]; 3], [gids[0]; 3]] } else { [uids, gids] };
        (Peer { kind, uid, gid, groups, pid: 7, executable: of_client.0, cgroup: of_client.1, namespaces: inside },
            TargetFacts { pid: 8, start_time: 9, uids, gids, executable, cgroup, namespaces: there, sha256 })
    }
}

impl Rule {
    fn text(&self, number: usize) -> String {
        let names: Vec<_> = self.actions.iter().map(|action| action.name()).collect();
        let effect = if self.allow { "allow" } else { "deny" };
        let mut text = format!("[[rule]]\nname = '{number}'\neffect = '{effect}'\nactions = {names:?}\n");
        match &self.client {
            Some(Client::Anonymous) => text += "[rule.client]\nanonymous = true\n",
            Some(Client::Ids(conditions)) => text += &format!("[rule.client]\n{}", conditions.text()),
            None => {}
        }
        if let Some(conditions) = &self.target {
            text += &format!("[rule.target]\n{}", conditions.text());
        }
        text
    }

    fn matches(&self, peer: &Peer, action: Action, target: &TargetFacts) -> bool {
        let mut all = self.actions.contains(&action);
        let is_anonymous = peer.kind == PeerKind::Anonymous;
        match &self.client {
            None => all &= !(self.allow && is_anonymous),
            Some(Client::Anonymous) => all &= is_anonymous,
            Some(Client::Ids(client)) => {
                let groups: Vec<u32> = peer.groups.iter().copied().chain([peer.gid]).collect();
                let in_doubt = peer.kind == PeerKind::Socket;
                let in_group = |gid: &u32| if in_doubt { !self.allow } else { groups.contains(gid) };
                all &= !is_anonymous;
                all &= client.uid.as_ref().is_none_or(|uids| written_out(uids).contains(&peer.uid));
                all &= client.gid.as_ref().is_none_or(|gids| written_out(gids).iter().any(in_group));
                let path = |path: &Option<String>| path.clone().unwrap_or_default();
                all &=
                    client.executable.as_ref().is_none_or(|globs| self.path(globs, &path(&peer.executable)));
                all &= client.cgroup.as_ref().is_none_or(|globs| self.path(globs, &path(&peer.cgroup)));
            }
        }
        if let Some(conditions) = &self.target {
            all &= conditions.uid.as_ref().is_none_or(|uids| self.ids(uids, target.uids));
            all &= conditions.gid.as_ref().is_none_or(|gids| self.ids(gids, target.gids));
            all &= conditions.executable.as_ref().is_none_or(|globs| self.path(globs, &target.executable));
            all &= conditions.cgroup.as_ref().is_none_or(|globs| self.path(globs, &target.cgroup));
            if let Some(byte) = conditions.sha256 {
                all &= target.sha256.map_or(!self.allow, |found| found == [byte; 32]);
            }
            match (peer.namespaces, target.namespaces) {
                (Some(client), Some(target)) => {
                    all &= !conditions.same_pid || client.pid == target.pid;
                    all &= !conditions.same_user || client.user == target.user;
                }
                _ => all &= !self.allow || !(conditions.same_pid || conditions.same_user),
            }
        }
        all
    }

    fn ids(&self, listed: &[(u32, u32)], ids: [u32; 3]) -> bool {
        let listed = written_out(listed);
        let count = ids.iter().filter(|id| listed.contains(id)).count();
        if self.allow { count == 3 } else { count > 0 }
    }

    fn path(&self, patterns: &[String], path: &str) -> bool {
        let kept = path.trim_end_matches(" (deleted)");
        patterns.iter().any(|pattern| match self.allow {
            true if path != kept => pattern.ends_with(" (deleted)") && naive(pattern, path),
            true => naive(pattern, path),
            false => path.is_empty() || naive(pattern, path) || naive(pattern, kept),
        })
    }
}

/// Every id of these ranges.
fn written_out(ranges: &[(u32, u32)]) -> Vec<u32> {
    ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
}

impl Conditions {
    fn text(&self) -> String {
        let mut text = String::new();
        for (key, ids) in [("uid", &self.uid), ("gid", &self.gid)] {
            if let Some(ids) = ids {
                let written = ids.iter().map(|(first, last)| {
                    if first == last { first.to_string() } else { format!("\"{first}-{last}\"") }
                });
                text += &format!("{key} = [{}]\n", written.collect::<Vec<_>>().join(", "));
            }
        }
        for (key, patterns) in [("executable", &self.executable), ("cgroup", &self.cgroup)] {
            if let Some(patterns) = patterns {
                text += &format!("{key} = {patterns:?}\n");
            }
        }
        if let Some(byte) = self.sha256 {
            text += &format!("sha256 = \"{}\"\n", format!("{byte:02x}").repeat(32));
        }
        for (key, same) in [("pid_namespace", self.same_pid), ("user_namespace", self.same_user)] {
            if same {
                text += &format!("{key} = \"same\"\n");
            }
        }
        text
    }
}

/// Tries everything that a star could stand for.
fn naive(pattern: &str, path: &str) -> bool {
    if path == "/" || path.is_empty() {
        return pattern == path;
    }
    let components: Vec<&str> = pattern.split('/').skip(1).collect();
    let names: Vec<&str> = path.split('/').skip(1).collect();
    naive_components(&components, &names)
}

fn naive_components(components: &[&str], names: &[&str]) -> bool {
    match components {
        [] => names.is_empty(),
        ["**"] => !names.is_empty(),
        ["**", rest @ ..] => (0..=names.len()).any(|taken| naive_components(rest, &names[taken..])),
        [first, rest @ ..] => {
            names.first().is_some_and(|name| naive_name(first, name)) && naive_components(rest, &names[1..])
        }
    }
}

fn naive_name(pattern: &str, name: &str) -> bool {
    match pattern.as_bytes() {
        [] => name.is_empty(),
        [b'*', ..] => (0..=name.len()).any(|taken| naive_name(&pattern[1..], &name[taken..])),
        [b'?', ..] => !name.is_empty() && naive_name(&pattern[1..], &name[1..]),
        [first, ..] => name.as_bytes().first() == Some(first) && naive_name(&pattern[1..], &name[1..]),
    }
}

fn file(rules: &[Rule]) -> String {
    let rules = rules.iter().enumerate().map(|(number, rule)| rule.text(number));
    format!("version = 1\n{}", rules.collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_file_decides_as_its_naive_reading(
        rules in vec(rule(), 0..6), subjects in vec(subjects(), 1..8), action in select(ACTIONS.to_vec()),
    ) {
        let policy = parse(&file(&rules)).unwrap();
        for (peer, target) in subjects {
            let first = rules.iter().position(|rule| rule.matches(&peer, action, &target));
            let decision = policy.decide(&peer, action, &target);
            let explained = policy.explain(&peer, action, &target);
            prop_assert_eq!(&explained.decision, &decision);
            prop_assert_eq!(explained.passed_over.len(), first.unwrap_or(rules.len()));
            match first {
                Some(number) => {
                    prop_assert_eq!(decision.rule, number.to_string());
                    prop_assert_eq!(decision.allowed, rules[number].allow);
                }
                None => {
                    prop_assert_eq!(decision.rule, "default: deny");
                    prop_assert!(!decision.allowed);
                }
            }
        }
    }

    #[test]
    fn a_pattern_matches_as_its_naive_reading(pattern in pattern(), paths in vec(path(), 1..20)) {
        let policy = parse(&format!(
            "version = 1\n[[rule]]\nname = 'a'\neffect = 'allow'\nactions = 'list'\ntarget = {{ cgroup = {pattern:?} }}"
        )).unwrap();
        let peer = peer(1, 1, &[]);
        for path in paths {
            let expected = naive(&pattern, &path)
                && (pattern.ends_with(" (deleted)") || !path.ends_with(" (deleted)"));
            let target = TargetFacts { pid: 8, start_time: 9, uids: [1; 3], gids: [1; 3],
                executable: "/a".to_owned(), cgroup: path.clone(), namespaces: None, sha256: None };
            prop_assert_eq!(policy.decide(&peer, Action::List, &target).allowed, expected, "{}", path);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_point_outside_of_it(text in "\\PC*") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.line == 1 && (1..=text.chars().count() + 1).contains(&error.column));
        }
    }

    #[test]
    fn no_damage_to_a_policy_makes_the_parser_panic_or_point_outside_of_it(
        rules in vec(rule(), 1..3), at: proptest::sample::Index, length in 0usize..9, patch in "[\\[\\]{}='\",\n#a1é]{0,3}",
    ) {
        let mut text: Vec<char> = file(&rules).chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, patch.chars());
        let text: String = text.into_iter().collect();
        if let Err(error) = parse(&text) {
            let line = text.split('\n').nth(error.line - 1);
            prop_assert!(line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column)));
        }
    }
}
