//! What the rules of a file decide.

use crate::accounts::{parse, peer, target};
use memcr_policy::{Limits, Permits, Policy};
use memcr_protocol::subject::{Action, Namespaces, Peer, TargetFacts};

/// A policy of one rule for all actions.
#[expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
fn rule(effect: &str, conditions: &str) -> Policy {
    let actions = "actions = ['checkpoint', 'restore', 'list', 'status']";
    let head = "version = 1\n[[rule]]\nname = 'the rule'\n";
    parse(&format!("{head}effect = '{effect}'\n{actions}\n{conditions}")).unwrap()
}

/// Whether the only rule of a policy matches.
fn matches(policy: &Policy, peer: &Peer, target: &TargetFacts) -> bool {
    policy.decide(peer, Action::Checkpoint, target).rule == "the rule"
}

fn any_peer() -> Peer {
    peer(500, 500, &[])
}

fn any_target() -> TargetFacts {
    target(600, "/usr/bin/app", "/apps/one")
}

#[test]
fn a_file_without_rules_denies_everything_to_root_too() {
    let policy = parse("version = 1").unwrap();
    let decision = policy.decide(&peer(0, 0, &[]), Action::List, &any_target());
    assert!(!decision.allowed);
    assert_eq!(decision.rule, "default: deny");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rule = |name: &str, effect: &str, uid: u32| {
        format!("[[rule]]\nname='{name}'\neffect='{effect}'\nactions='list'\nclient={{uid={uid}}}\n")
    };
    let text = [rule("one", "allow", 1), rule("two", "deny", 2), rule("three", "allow", 2)].concat();
    let policy = parse(&format!("version = 1\n{text}")).unwrap();
    for (uid, name, allowed) in [(1, "one", true), (2, "two", false), (3, "default: deny", false)] {
        let decision = policy.decide(&peer(uid, 9, &[]), Action::List, &any_target());
        assert_eq!((decision.rule.as_str(), decision.allowed), (name, allowed));
    }
}

#[test]
fn a_rule_is_for_its_actions_only() {
    let text = "version=1\n[[rule]]\nname='a'\neffect='allow'\nactions=['restore', 'status']";
    let policy = parse(text).unwrap();
    for (action, allowed) in
        [(Action::Checkpoint, false), (Action::Restore, true), (Action::List, false), (Action::Status, true)]
    {
        assert_eq!(policy.decide(&any_peer(), action, &any_target()).allowed, allowed);
    }
}

#[test]
fn a_rule_without_client_and_target_matches_all() {
    assert!(matches(&rule("allow", ""), &any_peer(), &any_target()));
}

#[test]
fn a_client_is_matched_by_user_and_by_any_of_its_groups() {
    for (conditions, matched) in [
        ("client = { uid = 1000 }", true),
        ("client = { uid = [7, 1000] }", true),
        ("client = { uid = 2001 }", false),
        ("client = { user = 'app' }", true),
        ("client = { user = ['ops', 'root'] }", false),
        ("client = { gid = 100 }", true),
        ("client = { gid = [9, 2001] }", true),
        ("client = { gid = 1000 }", false),
        ("client = { group = 'auditors' }", true),
        ("client = { group = 'memcr-clients' }", false),
        ("client = { user = 'app', group = 'auditors' }", true),
        ("client = { user = 'ops', group = 'auditors' }", false),
        ("client = { uid = 1000, user = 'ops' }", false),
    ] {
        for effect in ["allow", "deny"] {
            let client = peer(1000, 100, &[2001, 2002]);
            assert_eq!(matches(&rule(effect, conditions), &client, &any_target()), matched, "{conditions}");
        }
    }
}

#[test]
fn a_client_over_tcp_is_matched_by_its_user_and_its_groups_are_in_doubt() {
    // whatever groups were found for the records
    let client = Peer { gid: 100, groups: vec![2001], pid: 7, ..Peer::by_socket(1000) };
    for (conditions, allow_matches, deny_matches) in [
        ("", true, true),
        ("client = { uid = 1000 }", true, true),
        ("client = { user = 'app' }", true, true),
        ("client = { user = 'ops' }", false, false),
        ("client = { gid = 100 }", false, true),
        ("client = { group = 'auditors' }", false, true),
        ("client = { group = 'memcr-clients' }", false, true),
        ("client = { user = 'app', group = 'auditors' }", false, true),
        ("client = { user = 'ops', group = 'auditors' }", false, false),
        ("client = { anonymous = true }", false, false),
    ] {
        let matched = |effect| matches(&rule(effect, conditions), &client, &any_target());
        assert_eq!((matched("allow"), matched("deny")), (allow_matches, deny_matches), "{conditions}");
    }
}

#[test]
fn an_anonymous_client_is_allowed_only_by_a_rule_that_says_so() {
    for (conditions, allow_matches, deny_matches) in [
        ("", false, true),
        ("client = { anonymous = true }", true, true),
        ("client = { uid = 0 }", false, false),
        ("client = { gid = [0, 4294967294] }", false, false),
        ("client = { user = 'root', group = 'root' }", false, false),
        ("target = { uid = 600 }", false, true),
    ] {
        for id in [0, 600, u32::MAX] {
            let client = Peer { uid: id, gid: id, groups: vec![id], ..Peer::anonymous() };
            let matched = |effect| matches(&rule(effect, conditions), &client, &any_target());
            assert_eq!((matched("allow"), matched("deny")), (allow_matches, deny_matches), "{conditions}");
        }
    }
    assert!(!matches(&rule("allow", "client = { anonymous = true }"), &peer(0, 0, &[]), &any_target()));
}

#[test]
fn a_policy_tells_whether_it_allows_something_to_anonymous_clients() {
    assert!(rule("allow", "client = { anonymous = true }").grants_anonymous());
    for (effect, conditions) in
        [("deny", "client = { anonymous = true }"), ("allow", ""), ("allow", "client = { uid = 5 }")]
    {
        assert!(!rule(effect, conditions).grants_anonymous(), "{effect} {conditions}");
    }
    assert!(!Policy::builtin(Some(5)).grants_anonymous());
}

#[test]
fn a_target_must_match_by_every_key() {
    for (conditions, matched) in [
        ("target = { user = 'app' }", true),
        ("target = { user = 'app', executable = '/usr/bin/*' }", true),
        ("target = { user = 'app', executable = '/usr/bin/*', cgroup = '/apps/**' }", true),
        ("target = { user = 'app', executable = '/usr/bin/*', cgroup = '/apps' }", false),
        ("target = { user = 'ops', executable = '/usr/bin/*' }", false),
        ("target = { gid = 1000, executable = ['/sbin/*', '/usr/**'] }", true),
        ("target = { group = 'auditors', executable = '/usr/bin/*' }", false),
    ] {
        for effect in ["allow", "deny"] {
            let target = target(1000, "/usr/bin/app", "/apps/one");
            assert_eq!(matches(&rule(effect, conditions), &any_peer(), &target), matched, "{conditions}");
        }
    }
}

#[test]
fn a_setuid_target_is_allowed_only_by_all_of_its_ids_and_denied_by_any() {
    for (uids, allow_matches, deny_matches) in [
        ([1000, 1000, 1000], true, true),
        ([1000, 0, 0], false, true),
        ([0, 0, 1000], false, true),
        ([0, 0, 0], false, false),
    ] {
        let by_uid = TargetFacts { uids, ..any_target() };
        let by_gid = TargetFacts { gids: uids, ..any_target() };
        for (conditions, target) in [
            ("target = { uid = 1000 }", &by_uid),
            ("target = { user = 'app' }", &by_uid),
            ("target = { gid = 1000 }", &by_gid),
        ] {
            assert_eq!(matches(&rule("allow", conditions), &any_peer(), target), allow_matches);
            assert_eq!(matches(&rule("deny", conditions), &any_peer(), target), deny_matches);
        }
    }
}

#[test]
fn ids_of_a_target_that_are_all_listed_are_allowed_though_they_differ() {
    let target = TargetFacts { uids: [1000, 1001, 1001], ..any_target() };
    assert!(matches(&rule("allow", "target = { user = ['app', 'ops'] }"), &any_peer(), &target));
}

#[test]
fn a_removed_executable_is_denied_by_its_old_path_but_not_allowed_by_it() {
    let removed = target(600, "/usr/bin/app (deleted)", "/");
    let by_path = "target = { executable = '/usr/bin/*' }";
    assert!(!matches(&rule("allow", by_path), &any_peer(), &removed));
    assert!(matches(&rule("deny", by_path), &any_peer(), &removed));
    let by_ending = "target = { executable = ['/usr/bin/*', '/usr/bin/* (deleted)'] }";
    assert!(matches(&rule("allow", by_ending), &any_peer(), &removed));
}

#[test]
fn an_unknown_executable_or_cgroup_is_denied_but_not_allowed() {
    let unknown = target(600, "", "");
    for conditions in ["target = { executable = '/a' }", "target = { cgroup = '/a' }"] {
        assert!(!matches(&rule("allow", conditions), &any_peer(), &unknown));
        assert!(matches(&rule("deny", conditions), &any_peer(), &unknown));
    }
}

#[test]
fn ranges_of_ids_hold_both_of_their_ends() {
    let policy = rule("allow", "target = { uid = ['600-602', 700] }");
    for (id, allowed) in [(599, false), (600, true), (602, true), (603, false), (700, true)] {
        assert_eq!(matches(&policy, &any_peer(), &target(id, "/a", "/")), allowed, "{id}");
    }
}

#[test]
fn a_program_or_cgroup_of_a_client_that_is_unknown_is_denied_but_not_allowed() {
    let known = Peer {
        executable: Some("/usr/bin/manager".into()),
        cgroup: Some("/system.slice/manager.service".into()),
        ..any_peer()
    };
    for condition in ["executable = '/usr/bin/manager'", "cgroup = '/system.slice/*'"] {
        let condition = format!("client = {{ {condition} }}");
        for effect in ["allow", "deny"] {
            let policy = rule(effect, &condition);
            assert!(policy.asks_about_processes_of_clients());
            assert!(matches(&policy, &known, &any_target()), "{effect} {condition}");
            assert_eq!(
                matches(&policy, &any_peer(), &any_target()),
                effect == "deny",
                "{effect} {condition}"
            );
            let other =
                Peer { executable: Some("/tmp/x".into()), cgroup: Some("/user.slice".into()), ..any_peer() };
            assert!(!matches(&policy, &other, &any_target()), "{effect} {condition}");
        }
    }
    assert!(!rule("allow", "client = { uid = 5 }").asks_about_processes_of_clients());
}

#[test]
fn a_target_in_another_namespace_than_the_clients_is_not_the_same_and_in_doubt_denied() {
    let inside = |pid, user| Some(Namespaces { pid, user });
    for (key, other) in [("pid_namespace", inside(2, 1)), ("user_namespace", inside(1, 2))] {
        for effect in ["allow", "deny"] {
            let policy = rule(effect, &format!("target = {{ {key} = 'same' }}"));
            assert!(policy.asks_about_processes_of_clients());
            let with = |client, target| {
                let peer = Peer { namespaces: client, ..any_peer() };
                matches(&policy, &peer, &TargetFacts { namespaces: target, ..any_target() })
            };
            assert!(with(inside(1, 1), inside(1, 1)));
            assert!(!with(inside(1, 1), other), "{effect} {key}");
            assert_eq!(with(None, inside(1, 1)), effect == "deny");
            assert_eq!(with(inside(1, 1), None), effect == "deny");
        }
        assert!(matches(
            &rule("allow", &format!("target = {{ {key} = 'any' }}")),
            &any_peer(),
            &any_target()
        ));
    }
}

#[test]
fn a_decision_tells_the_limits_of_its_rule() {
    let policy = rule("allow", "limits = { asleep = 3, size = '512M' }");
    let decision = policy.decide(&any_peer(), Action::Checkpoint, &any_target());
    assert_eq!(decision.limits, Limits { asleep: Some(3), size: Some(512 << 20) });
    let policy = rule("allow", "limits = { size = 1000 }");
    let decision = policy.decide(&any_peer(), Action::Checkpoint, &any_target());
    assert_eq!(decision.limits, Limits { asleep: None, size: Some(1000) });
}

#[test]
fn a_decision_tells_what_its_rule_permits() {
    for (line, permits) in [
        ("", Permits { non_dumpable: false, seccomp: false }),
        ("permits = 'non-dumpable'", Permits { non_dumpable: true, seccomp: false }),
        ("permits = ['seccomp']", Permits { non_dumpable: false, seccomp: true }),
        ("permits = ['seccomp', 'non-dumpable']", Permits { non_dumpable: true, seccomp: true }),
    ] {
        let decision = rule("allow", line).decide(&any_peer(), Action::Checkpoint, &any_target());
        assert_eq!(decision.permits, permits, "{line}");
    }
    // not those of a rule further down
    let second = "[[rule]]\nname='second'\neffect='allow'\nactions='checkpoint'\npermits='seccomp'\n";
    let decision =
        rule("allow", &format!("\n{second}")).decide(&any_peer(), Action::Checkpoint, &any_target());
    assert_eq!(decision.permits, Permits::default());
}

#[test]
fn an_explanation_names_the_first_condition_of_each_rule_that_does_not_hold() {
    let rule = |name: &str, conditions: &str| {
        format!("[[rule]]\nname='{name}'\neffect='allow'\nactions='checkpoint'\n{conditions}\n")
    };
    let text = [
        rule("client", "client={uid=1}"),
        rule("target", "client={uid=500}\ntarget={executable='/bin/*'}"),
        rule("it", ""),
        rule("late", ""),
    ];
    let policy = parse(&format!("version = 1\n{}", text.concat())).unwrap();
    let explanation = policy.explain(&any_peer(), Action::Checkpoint, &any_target());
    assert_eq!(explanation.decision.rule, "it");
    let said: Vec<_> =
        explanation.passed_over.iter().map(|(rule, mismatch)| format!("{rule}: {mismatch}")).collect();
    assert_eq!(
        said,
        [
            "client: its `client.uid` does not match: 500",
            "target: its `target.executable` does not match: /usr/bin/app"
        ]
    );
    let denied = policy.explain(&any_peer(), Action::List, &any_target());
    assert_eq!((denied.decision.rule.as_str(), denied.passed_over.len()), ("default: deny", 4));
}

#[test]
fn the_hash_of_an_executable_is_asked_for_only_if_it_decides() {
    let hash = |byte: u8| format!("{byte:02x}").repeat(32);
    let with = |sha256| TargetFacts { sha256, ..any_target() };
    for effect in ["allow", "deny"] {
        let policy =
            rule(effect, &format!("target = {{ executable = '/usr/bin/app', sha256 = '{}' }}", hash(7)));
        assert!(policy.needs_hash(&any_peer(), Action::Checkpoint, &with(None)), "{effect}");
        assert!(!policy.needs_hash(&any_peer(), Action::Checkpoint, &with(Some([7; 32]))));
        assert!(!policy.needs_hash(&any_peer(), Action::Checkpoint, &target(600, "/usr/bin/other", "/")));
        assert!(matches(&policy, &any_peer(), &with(Some([7; 32]))));
        assert!(!matches(&policy, &any_peer(), &with(Some([8; 32]))));
        assert_eq!(matches(&policy, &any_peer(), &with(None)), effect == "deny");
    }
    let before = "version = 1\n[[rule]]\nname='first'\neffect='allow'\nactions='checkpoint'\n";
    let policy = parse(&format!(
        "{before}[[rule]]\nname='b'\neffect='deny'\nactions='checkpoint'\ntarget={{sha256='{}'}}",
        hash(1)
    ));
    assert!(
        !policy.unwrap().needs_hash(&any_peer(), Action::Checkpoint, &with(None)),
        "an earlier rule decides"
    );
}
