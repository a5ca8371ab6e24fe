//! Every mistake in a policy file has a message with its position.

use crate::accounts::parse;
use memcr_policy::{NAME_LIMIT, RULE_LIMIT, SIZE_LIMIT};

/// A rule on lines 2 to 6, to which one more line is added.
const RULE: &str = "version = 1\n[[rule]]\nname = 'a'\neffect = 'allow'\nactions = 'list'\n";

fn error_of(text: &str) -> String {
    parse(text).map(|_| "no error".to_owned()).unwrap_or_else(|error| error.to_string())
}

fn error_of_rule_with(line: &str) -> String {
    error_of(&format!("{RULE}{line}\n"))
}

#[test]
fn what_is_not_toml_is_an_error_where_it_breaks() {
    assert_eq!(
        error_of("version = 1\n[[rule]\n"),
        "line 2, column 8: not valid TOML: unclosed array table, expected `]`"
    );
    assert_eq!(error_of("version = 1\nversion = 1"), "line 2, column 1: not valid TOML: duplicate key");
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    for nesting in ["[".repeat(60_000), "{a=".repeat(20_000)] {
        let message = error_of(&format!("version = 1\nrule = {nesting}"));
        assert!(message.contains("not valid TOML: cannot recurse further"), "{message}");
    }
}

#[test]
fn a_missing_version_is_an_error() {
    assert_eq!(error_of(""), "line 1, column 1: the policy has no `version`");
}

#[test]
fn an_unknown_version_is_an_error_before_any_key_that_it_may_have_brought() {
    assert_eq!(
        error_of("future = true\nversion = 2"),
        "line 2, column 11: policy version 2 is unknown; this memcr knows version 1"
    );
    assert_eq!(
        error_of("version = '1'"),
        "line 1, column 11: `version` must be the integer 1, not the string `1`"
    );
}

#[test]
fn an_unknown_key_is_an_error_at_the_first_of_them() {
    assert_eq!(
        error_of("version = 1\n\n[client]\nuid = 1\n[action]\n"),
        "line 3, column 2: unknown key `client` in the policy; known are `version`, `rule`"
    );
    assert_eq!(
        error_of_rule_with("zeal = 1\ncleint = {}"),
        "line 6, column 1: unknown key `zeal` in the rule; known are `name`, `client`, `target`, `actions`, `effect`, `limits`, `permits`"
    );
    assert_eq!(
        error_of_rule_with("client = { uid = 1, inode = '/a' }"),
        "line 6, column 21: unknown key `inode` in `client`; known are `uid`, `user`, `gid`, `group`, `executable`, `cgroup`, `anonymous`"
    );
    assert_eq!(
        error_of_rule_with("[rule.target]\n  exe = '/a'"),
        "line 7, column 3: unknown key `exe` in `target`; known are `uid`, `user`, `gid`, `group`, `executable`, `cgroup`, `pid_namespace`, `user_namespace`, `sha256`"
    );
}

#[test]
fn a_missing_key_is_an_error_at_the_head_of_its_rule() {
    let rule = |lines: &str| error_of(&format!("version = 1\n\n  [[rule]]\n{lines}"));
    assert_eq!(rule("effect = 'allow'\nactions = 'list'"), "line 3, column 3: the rule has no `name`");
    assert_eq!(rule("name = 'a'\nactions = 'list'"), "line 3, column 3: the rule has no `effect`");
    assert_eq!(rule("name = 'a'\neffect = 'deny'"), "line 3, column 3: the rule has no `actions`");
}

#[test]
fn a_table_without_conditions_is_an_error_rather_than_a_match_for_all() {
    assert_eq!(
        error_of_rule_with("client = {}"),
        "line 6, column 10: `client` is an empty table; leave it out if any client is meant"
    );
    assert_eq!(
        error_of_rule_with("[rule.target]"),
        "line 6, column 1: `target` is an empty table; leave it out if any target is meant"
    );
}

#[test]
fn an_empty_list_is_an_error() {
    assert_eq!(
        error_of_rule_with("target = { uid = [] }"),
        "line 6, column 18: `uid` is an empty list, which matches nothing"
    );
    assert_eq!(
        error_of("version = 1\n[[rule]]\nname = 'a'\neffect = 'deny'\nactions = []"),
        "line 5, column 11: `actions` is an empty list, which matches nothing"
    );
    assert_eq!(
        error_of("version = 1\nrule = []"),
        "line 2, column 8: `rule` is an empty list, which matches nothing"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_that_says_what_is_expected() {
    for (line, message) in [
        ("client = 'app'", "line 6, column 10: `client` must be a table of conditions, not the string `app`"),
        (
            "client = { uid = 'app' }",
            "line 6, column 18: `uid` must be an integer from 0 to 4294967294, a range \"FIRST-LAST\", or a list of them, not the string `app`",
        ),
        (
            "client = { user = 1000 }",
            "line 6, column 19: `user` must be a user's name or a list of names (for numbers there is `uid`), not 1000",
        ),
        (
            "client = { group = true }",
            "line 6, column 20: `group` must be a group's name or a list of names (for numbers there is `gid`), not true",
        ),
        (
            "target = { executable = ['/a', 1.5] }",
            "line 6, column 32: `executable` must be a pattern or a list of patterns, not a fraction",
        ),
        (
            "target = { cgroup = [['/a']] }",
            "line 6, column 22: `cgroup` must be a pattern or a list of patterns, not a list",
        ),
    ] {
        assert_eq!(error_of_rule_with(line), message);
    }
    assert_eq!(
        error_of("version = 1\n[rule]\nname = 'a'"),
        "line 2, column 1: `rule` must be a list of tables, each under [[rule]], not a table"
    );
}

#[test]
fn an_id_out_of_range_is_an_error() {
    for id in ["-1", "4294967295", "99999999999999999999"] {
        assert_eq!(
            error_of_rule_with(&format!("client = {{ gid = [7, {id}] }}")),
            format!(
                "line 6, column 22: `gid` must be an integer from 0 to 4294967294, a range \"FIRST-LAST\", or a list of them, not {id}"
            )
        );
    }
}

#[test]
fn an_unknown_user_or_group_is_an_error() {
    assert_eq!(
        error_of_rule_with("target = { user = ['app', 'apps'] }"),
        "line 6, column 27: unknown user `apps`"
    );
    assert_eq!(error_of_rule_with("client = { group = 'app' }"), "line 6, column 20: unknown group `app`");
}

#[test]
fn an_id_that_identifies_nobody_allows_nobody_but_may_be_denied() {
    for condition in ["uid = 65534", "user = 'nobody'", "gid = 65534", "group = 'nogroup'"] {
        let message = error_of_rule_with(&format!("client = {{ {condition} }}"));
        assert!(
            message.ends_with(
                "id 65534 stands for every client that has no id in memcr's user namespace; \
                 only a `deny` rule may list it"
            ),
            "{message}"
        );
        let deny = RULE.replace("allow", "deny");
        assert_eq!(error_of(&format!("{deny}client = {{ {condition} }}")), "no error");
        assert_eq!(error_of_rule_with(&format!("target = {{ {condition} }}")), "no error");
    }
}

#[test]
fn anonymous_stands_alone_and_is_true_or_left_out() {
    let not = "`anonymous` must be true, or be left out: without it a rule is not for anonymous clients";
    for (line, message) in [
        ("client = { anonymous = true }", "no error".to_owned()),
        ("client = { anonymous = false }", format!("line 6, column 24: {not}")),
        ("client = { uid = 5, anonymous = false }", format!("line 6, column 33: {not}")),
        (
            "client = { anonymous = 'yes' }",
            "line 6, column 24: `anonymous` must be true, not the string `yes`".to_owned(),
        ),
        (
            "client = { anonymous = [true] }",
            "line 6, column 24: `anonymous` must be true, not a list".to_owned(),
        ),
        (
            "target = { anonymous = true }",
            "line 6, column 12: unknown key `anonymous` in `target`; known are `uid`, `user`, `gid`, `group`, \
             `executable`, `cgroup`, `pid_namespace`, `user_namespace`, `sha256`"
                .to_owned(),
        ),
    ] {
        assert_eq!(error_of_rule_with(line), message, "{line}");
    }
    for (key, value) in [("uid", "5"), ("user", "'app'"), ("gid", "[5]"), ("group", "'auditors'")] {
        assert_eq!(
            error_of_rule_with(&format!("client = {{ anonymous = true, {key} = {value} }}")),
            format!(
                "line 6, column {}: `{key}` can't stand beside `anonymous`: nobody knows the ids of an anonymous client",
                33 + key.len()
            )
        );
    }
}

#[test]
fn an_unknown_action_or_effect_is_an_error() {
    assert_eq!(
        error_of(&RULE.replace("'list'", "['list', 'Restore']")),
        "line 5, column 20: unknown action `Restore`; known are `checkpoint`, `restore`, `list`, `status`"
    );
    assert_eq!(
        error_of(&RULE.replace("'allow'", "'permit'")),
        "line 4, column 10: unknown effect `permit`; known are `allow`, `deny`"
    );
}

#[test]
fn a_pattern_that_could_not_mean_what_it_says_is_an_error() {
    for (pattern, message) in [
        ("bin/app", "pattern `bin/app` does not begin with `/`"),
        ("", "pattern `` does not begin with `/`"),
        ("**", "pattern `**` does not begin with `/`"),
        ("/usr//bin", "pattern has the component ``: a path has no empty component"),
        ("/usr/bin/", "pattern has the component ``: a path has no empty component"),
        ("/usr/../bin", "pattern has the component `..`: the kernel shows paths without it"),
        ("/usr/a**", "pattern has the component `a**`: `**` must stand alone between slashes"),
        ("/usr/***", "pattern has the component `***`: `**` must stand alone between slashes"),
        (
            "/usr/{a,b}",
            "pattern has the component `{a,b}`: brackets and braces have no meaning here; write `?` for such a character",
        ),
    ] {
        assert_eq!(
            error_of_rule_with(&format!("target = {{ executable = '{pattern}' }}")),
            format!("line 6, column 25: {message}")
        );
    }
}

#[test]
fn a_rule_name_that_would_mislead_in_a_log_is_an_error() {
    let named = |name: &str| error_of(&RULE.replace("'a'", &format!("\"{name}\"")));
    let bad =
        "line 3, column 8: a rule's name must have 1 to 100 characters, none of them a control character";
    assert_eq!(named(""), bad);
    assert_eq!(named("a\\nb"), bad);
    assert_eq!(named(&"ä".repeat(NAME_LIMIT + 1)), bad);
    assert_eq!(named(&"ä".repeat(NAME_LIMIT)), "no error");
    for name in ["built-in: root", "default: deny"] {
        assert_eq!(
            named(name),
            format!(
                "line 3, column 8: rule name `{name}` is reserved: names beginning with `built-in:` or `default:` are memcr's own"
            )
        );
    }
}

#[test]
fn two_rules_of_one_name_are_an_error_at_the_second() {
    let second = RULE.strip_prefix("version = 1\n").unwrap();
    assert_eq!(
        error_of(&format!("{RULE}{second}")),
        "line 7, column 8: rule name `a` is taken by an earlier rule"
    );
}

#[test]
fn one_rule_too_many_is_an_error_at_that_rule() {
    let rules = |count: usize| {
        let rule = |number| format!("[[rule]]\nname='{number}'\neffect='deny'\nactions='list'\n");
        format!("version=1\n{}", (0..count).map(rule).collect::<String>())
    };
    assert_eq!(error_of(&rules(RULE_LIMIT)), "no error");
    assert_eq!(error_of(&rules(RULE_LIMIT + 1)), "line 4002, column 1: more than 1000 rules");
}

#[test]
fn a_file_beyond_the_limit_is_an_error_before_it_is_parsed() {
    let filled = |length: usize| format!("version = 1\n#{}", "x".repeat(length - 13));
    assert_eq!(error_of(&filled(SIZE_LIMIT)), "no error");
    assert_eq!(
        error_of(&filled(SIZE_LIMIT + 1)),
        "line 2, column 65525: the file is longer than 65536 bytes"
    );
    let message = error_of(&"é".repeat(SIZE_LIMIT));
    assert_eq!(message, "line 1, column 32769: the file is longer than 65536 bytes");
}

#[test]
fn columns_count_characters_and_text_is_shown_on_one_short_line() {
    assert_eq!(
        error_of_rule_with("client = { user = ['app', 'ünbekannt\\n', 'app'] } # é"),
        "line 6, column 27: unknown user `ünbekannt\\\\n`"
    );
    let long = "x".repeat(1000);
    assert_eq!(
        error_of_rule_with(&format!("'é' = 1\n\"\\n{long}\" = 1")),
        "line 6, column 1: unknown key `é` in the rule; known are `name`, `client`, `target`, `actions`, `effect`, `limits`, `permits`"
    );
    assert_eq!(
        error_of_rule_with(&format!("client = {{ user = \"\\n{long}\" }}")),
        format!("line 6, column 19: unknown user `\\n{}...`", "x".repeat(59))
    );
}

#[test]
fn a_range_a_namespace_or_a_limit_that_makes_no_sense_is_an_error() {
    for (line, message) in [
        ("target = { uid = '9-5' }", "`9-5` is no range"),
        ("target = { uid = '1-4294967295' }", "`1-4294967295` is no range"),
        ("target = { gid = '-7' }", "`-7` is no range"),
        ("client = { uid = '65000-66000' }", "id 65534 stands for every client"),
        ("target = { pid_namespace = 'other' }", "`pid_namespace` must be \"same\""),
        ("target = { sha256 = 'abc' }", "`sha256` must be 64 hexadecimal digits"),
        ("limits = { asleep = 0 }", "`asleep` must be an integer from 1"),
        ("limits = { size = '5T' }", "`5T` is no size"),
        ("limits = { size = '0' }", "`0` is no size"),
        ("limits = { size = '99999999999999999999G' }", "is no size"),
        ("limits = { colour = 1 }", "unknown key `colour`"),
        ("permits = 'setuid'", "`permits` must be \"non-dumpable\""),
        ("permits = ['seccomp', 7]", "must be \"non-dumpable\""),
    ] {
        let rule = "version = 1\n[[rule]]\nname='a'\neffect='allow'\nactions='checkpoint'\n";
        let error = error_of(&format!("{rule}{line}"));
        assert!(error.contains(message), "{line}: {error}");
    }
    let denies = "version = 1\n[[rule]]\nname='a'\neffect='allow'\nactions='list'\npermits = 'seccomp'";
    assert!(error_of(denies).contains("for rules that allow checkpoints"), "{}", error_of(denies));
    let denies =
        "version = 1\n[[rule]]\nname='a'\neffect='deny'\nactions='checkpoint'\nlimits = { asleep = 1 }";
    assert!(error_of(denies).contains("for rules that allow checkpoints"), "{}", error_of(denies));
}
