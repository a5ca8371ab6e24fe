//! doc/policy.md is what the parser does.

use crate::accounts::{parse, peer, target};
use memcr_policy::{NAME_LIMIT, Policy, RULE_LIMIT, SIZE_LIMIT};
use memcr_protocol::subject::{Action, Peer, TargetFacts};

const DOCUMENT: &str = include_str!("../../../doc/policy.md");

/// The complete example of the document.
fn example() -> &'static str {
    let (_, example) = DOCUMENT.split_once("```toml\n").unwrap_or_default();
    example.split_once("```").unwrap_or_default().0
}

fn decision(policy: &Policy, peer: &Peer, action: Action, target: &TargetFacts) -> (String, bool) {
    let decision = policy.decide(peer, action, target);
    (decision.rule, decision.allowed)
}

#[test]
fn the_example_of_the_document_decides_as_it_reads() {
    let policy = parse(example()).unwrap();
    let media = peer(500, 2000, &[]);
    let auditor = peer(501, 501, &[2001]);
    let root = peer(0, 0, &[]);
    let app = target(1000, "/usr/bin/player", "/apps/player/main");
    let setuid = TargetFacts { uids: [1000, 0, 0], ..app.clone() };
    let elsewhere = target(1000, "/usr/bin/player", "/system");
    for (peer, action, target, rule, allowed) in [
        (&media, Action::Checkpoint, &app, "media apps", true),
        (&media, Action::List, &app, "media apps", true),
        (&media, Action::Checkpoint, &setuid, "nothing of root's", false),
        (&media, Action::List, &setuid, "default: deny", false),
        (&media, Action::Checkpoint, &elsewhere, "default: deny", false),
        (&auditor, Action::Checkpoint, &app, "default: deny", false),
        (&auditor, Action::Status, &setuid, "auditors may look", true),
        (&root, Action::Restore, &app, "default: deny", false),
        (&root, Action::List, &app, "auditors may look", true),
    ] {
        assert_eq!(decision(&policy, peer, action, target), (rule.to_owned(), allowed));
    }
}

#[test]
fn the_rule_for_anonymous_clients_in_the_document_parses_and_is_for_them_only() {
    let rule = DOCUMENT.split("```toml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let policy = parse(&format!("version = 1\n{rule}")).unwrap();
    assert!(policy.grants_anonymous());
    let app = target(1000, "/usr/bin/player", "/");
    let (name, allowed) = decision(&policy, &Peer::anonymous(), Action::List, &app);
    assert!(allowed && name == "the control machine may see what sleeps");
    assert!(!decision(&policy, &peer(0, 0, &[]), Action::List, &app).1);
}

#[test]
fn every_setting_in_the_text_of_the_document_parses() {
    let rule = "version = 1\n[[rule]]\nname = 'a'\nactions = 'checkpoint'\neffect = 'allow'\n";
    let mut count = 0;
    for setting in DOCUMENT.split('`').filter(|text| text.contains(" = ") && !text.contains('\n')) {
        let table = if setting.starts_with("permits") { "" } else { "[rule.target]\n" };
        assert_eq!(parse(&format!("{rule}{table}{setting}")).err(), None, "{setting}");
        count += 1;
    }
    assert!(count >= 4);
}

#[test]
fn the_mistake_in_the_document_is_reported_as_it_says() {
    let error = parse(&example().replace("memcr-clients", "memcr-client")).unwrap_err();
    assert!(DOCUMENT.contains(&format!("\n    {error}\n")), "{error}");
}

#[test]
fn the_document_names_every_rule_of_the_built_in_policy() {
    let policy = Policy::builtin(Some(2000));
    for peer in [peer(0, 0, &[]), peer(1000, 1000, &[]), peer(500, 2000, &[]), peer(500, 500, &[])] {
        let (rule, _) = decision(&policy, &peer, Action::List, &target(1000, "/a", "/"));
        assert!(DOCUMENT.contains(&format!("| `{rule}` |")), "{rule}");
    }
}

#[test]
fn the_document_gives_the_limits() {
    assert!(DOCUMENT.contains(&format!("at most {NAME_LIMIT} characters")));
    assert!(DOCUMENT.contains(&format!("than {RULE_LIMIT} rules")));
    assert!(DOCUMENT.contains(&format!("a file of more than {SIZE_LIMIT} bytes")));
}
