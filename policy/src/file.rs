//! From the text of a policy file to its rules.

use crate::builtin;
use crate::error::{Fault, Reason};
use crate::glob::Glob;
use crate::rule::{ClientCondition, Effect, IdRange, NamedClient, Rule, TargetCondition};
use crate::table::{Table, Value};
use crate::{Limits, NAME_LIMIT, Names, OVERFLOW_ID, Permits, RULE_LIMIT, SIZE_LIMIT};
use memcr_protocol::subject::Action;
use std::collections::HashSet;
use toml::de::DeTable;

const POLICY_KEYS: &[&str] = &["version", "rule"];
const RULE_KEYS: &[&str] = &["name", "client", "target", "actions", "effect", "limits", "permits"];
const NAME_KEYS: [&str; 6] = ["uid", "user", "gid", "group", "executable", "cgroup"];
const CLIENT_KEYS: &[&str] = &["uid", "user", "gid", "group", "executable", "cgroup", "anonymous"];
const TARGET_KEYS: &[&str] =
    &["uid", "user", "gid", "group", "executable", "cgroup", "pid_namespace", "user_namespace", "sha256"];
const LIMIT_KEYS: &[&str] = &["asleep", "size"];

const ACTIONS: [Action; 4] = [Action::Checkpoint, Action::Restore, Action::List, Action::Status];

/// The rules of a policy file, in its order.
pub(crate) fn rules(text: &str, names: &dyn Names) -> Result<Vec<Rule>, Fault> {
    if text.len() > SIZE_LIMIT {
        return Err(Fault { offset: SIZE_LIMIT, reason: Reason::TooLarge });
    }
    let document = DeTable::parse(text).map_err(|error| syntax_fault(text, &error))?;
    let policy = Table::outermost("the policy", document.get_ref());
    // first: the file of a later version may have other keys
    version(policy.required("version")?)?;
    policy.expect_keys(POLICY_KEYS)?;
    let Some(list) = policy.optional("rule") else { return Ok(Vec::new()) };

    let mut rules = Vec::new();
    let mut taken = HashSet::new();
    for value in list.elements("a list of tables, each under [[rule]]")? {
        if rules.len() == RULE_LIMIT {
            return Err(value.fault(Reason::TooManyRules));
        }
        let table = value.table("the rule", "a table under [[rule]]")?;
        table.expect_keys(RULE_KEYS)?;
        let name = table.required("name")?;
        let rule = rule(table, rule_name(name)?, names)?;
        if !taken.insert(rule.name.clone()) {
            return Err(name.fault(Reason::DuplicateName { name: rule.name }));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let message = error.message().replace(char::is_control, " ");
    Fault { offset: error.span().map_or(text.len(), |span| span.start), reason: Reason::Syntax(message) }
}

fn version(value: Value<'_>) -> Result<(), Fault> {
    match value.integer("the integer 1")? {
        Some(1) => Ok(()),
        _ => Err(value.fault(Reason::UnknownVersion { version: value.shown() })),
    }
}

fn rule(table: Table<'_>, name: &str, names: &dyn Names) -> Result<Rule, Fault> {
    let effect = effect(table.required("effect")?)?;
    let actions = table.required("actions")?.one_or_more()?;
    let client = table.optional("client").map(|value| client(value, effect, names));
    let target = table.optional("target").map(|value| target(value, names));
    let actions = actions.iter().map(action).collect::<Result<Vec<_>, _>>()?;
    let allows_checkpoints = effect == Effect::Allow && actions.contains(&Action::Checkpoint);
    let limits = table.optional("limits").map(|value| limits(value, allows_checkpoints));
    let permits = table.optional("permits").map(|value| permits(value, allows_checkpoints));
    Ok(Rule {
        name: name.to_owned(),
        effect,
        actions,
        client: client.transpose()?,
        target: target.transpose()?,
        limits: limits.transpose()?.unwrap_or_default(),
        permits: permits.transpose()?.unwrap_or_default(),
    })
}

fn limits(value: Value<'_>, allows_checkpoints: bool) -> Result<Limits, Fault> {
    let table = conditions(value, "`limits`", LIMIT_KEYS)?;
    if !allows_checkpoints {
        return Err(value.fault(Reason::LimitsOfNothing));
    }
    let asleep = table.optional("asleep").map(|value| {
        const EXPECTED: &str = "an integer from 1 to 4294967295";
        value.integer(EXPECTED)?.filter(|number| *number > 0).ok_or_else(|| value.wrong(EXPECTED))
    });
    Ok(Limits { asleep: asleep.transpose()?, size: table.optional("size").map(size).transpose()? })
}

fn permits(value: Value<'_>, allows_checkpoints: bool) -> Result<Permits, Fault> {
    const EXPECTED: &str = "\"non-dumpable\", \"seccomp\", or a list of them";
    if !allows_checkpoints {
        return Err(value.fault(Reason::PermitsOfNothing));
    }
    let mut permits = Permits::default();
    for permit in value.one_or_more()? {
        match permit.string(EXPECTED)? {
            "non-dumpable" => permits.non_dumpable = true,
            "seccomp" => permits.seccomp = true,
            _ => return Err(permit.wrong(EXPECTED)),
        }
    }
    Ok(permits)
}

/// Bytes: a number, or a string of a number and K, M or G (of 1024).
fn size(value: Value<'_>) -> Result<u64, Fault> {
    if value.is_integer() {
        const EXPECTED: &str = "an integer from 1 to 4294967295, or a string such as \"512M\"";
        let bytes = value.integer(EXPECTED)?.filter(|bytes| *bytes > 0);
        return bytes.map(u64::from).ok_or_else(|| value.wrong(EXPECTED));
    }
    let text = value.string("a size such as \"512M\"")?;
    let (digits, factor) = match text.char_indices().last() {
        Some((end, 'K')) => (text.get(..end), 1 << 10),
        Some((end, 'M')) => (text.get(..end), 1 << 20),
        Some((end, 'G')) => (text.get(..end), 1 << 30),
        _ => (Some(text), 1),
    };
    let number = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let bytes = number.and_then(|digits| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| value.fault(Reason::BadSize { size: text.to_owned() }))
}

fn rule_name<'t>(value: Value<'t>) -> Result<&'t str, Fault> {
    let name = value.string("a string")?;
    if name.trim().is_empty() || name.chars().count() > NAME_LIMIT || name.contains(char::is_control) {
        return Err(value.fault(Reason::BadName));
    }
    if name.starts_with(builtin::PREFIX) || name.starts_with("default:") {
        return Err(value.fault(Reason::ReservedName { name: name.to_owned() }));
    }
    Ok(name)
}

fn effect(value: Value<'_>) -> Result<Effect, Fault> {
    match value.string("\"allow\" or \"deny\"")? {
        "allow" => Ok(Effect::Allow),
        "deny" => Ok(Effect::Deny),
        other => Err(value.fault(Reason::UnknownEffect { effect: other.to_owned() })),
    }
}

fn action(value: &Value<'_>) -> Result<Action, Fault> {
    let name = value.string("an action or a list of actions")?;
    ACTIONS.into_iter().find(|action| action.name() == name).ok_or_else(|| {
        let known = ACTIONS.iter().map(|action| action.name()).collect();
        value.fault(Reason::UnknownAction { action: name.to_owned(), known })
    })
}

fn client(value: Value<'_>, effect: Effect, names: &dyn Names) -> Result<ClientCondition, Fault> {
    let table = conditions(value, "`client`", CLIENT_KEYS)?;
    if let Some(anonymous) = table.optional("anonymous") {
        return anonymous_client(anonymous, table);
    }
    let identity = |value: &Value<'_>, range: IdRange| match effect {
        Effect::Allow if range.has(OVERFLOW_ID) => Err(value.fault(Reason::OverflowId { id: OVERFLOW_ID })),
        _ => Ok(range),
    };
    Ok(ClientCondition::Named(NamedClient {
        uid: list(table, "uid", |value| identity(value, ids(value)?))?,
        user: list(table, "user", |value| identity(value, user(value, names)?))?,
        gid: list(table, "gid", |value| identity(value, ids(value)?))?,
        group: list(table, "group", |value| identity(value, group(value, names)?))?,
        executable: list(table, "executable", glob)?,
        cgroup: list(table, "cgroup", glob)?,
    }))
}

fn anonymous_client(value: Value<'_>, table: Table<'_>) -> Result<ClientCondition, Fault> {
    if !value.boolean("true")? {
        return Err(value.fault(Reason::NotAnonymous));
    }
    match NAME_KEYS.into_iter().find_map(|key| table.optional(key)) {
        Some(id) => Err(id.fault(Reason::IdOfAnonymous { key: id.key() })),
        None => Ok(ClientCondition::Anonymous),
    }
}

fn target(value: Value<'_>, names: &dyn Names) -> Result<TargetCondition, Fault> {
    let table = conditions(value, "`target`", TARGET_KEYS)?;
    Ok(TargetCondition {
        uid: list(table, "uid", ids)?,
        user: list(table, "user", |value| user(value, names))?,
        gid: list(table, "gid", ids)?,
        group: list(table, "group", |value| group(value, names))?,
        executable: list(table, "executable", glob)?,
        cgroup: list(table, "cgroup", glob)?,
        same_pid_namespace: same_namespace(table, "pid_namespace")?,
        same_user_namespace: same_namespace(table, "user_namespace")?,
        sha256: list(table, "sha256", hash)?,
    })
}

fn hash(value: &Value<'_>) -> Result<[u8; 32], Fault> {
    const EXPECTED: &str = "64 hexadecimal digits, as sha256sum shows them, or a list of them";
    let text = value.string(EXPECTED)?;
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let pairs = digits.filter(|digits| digits.len() == 64).ok_or_else(|| value.wrong(EXPECTED))?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(pairs.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | u8::try_from(*digit).unwrap_or_default());
    }
    Ok(hash)
}

/// Whether the target must be in the client's namespace of this kind.
fn same_namespace(table: Table<'_>, key: &'static str) -> Result<bool, Fault> {
    const EXPECTED: &str = "\"same\" (as the client's) or \"any\"";
    let Some(value) = table.optional(key) else { return Ok(false) };
    match value.string(EXPECTED)? {
        "same" => Ok(true),
        "any" => Ok(false),
        _ => Err(value.wrong(EXPECTED)),
    }
}

// an empty table is more likely a mistake than a rule for everybody
fn conditions<'t>(
    value: Value<'t>,
    place: &'static str,
    keys: &'static [&'static str],
) -> Result<Table<'t>, Fault> {
    let table = value.table(place, "a table of conditions")?;
    table.expect_keys(keys)?;
    if table.is_empty() {
        return Err(value.fault(Reason::EmptyTable { key: value.key() }));
    }
    Ok(table)
}

fn list<T>(
    table: Table<'_>,
    key: &'static str,
    read: impl Fn(&Value<'_>) -> Result<T, Fault>,
) -> Result<Option<Vec<T>>, Fault> {
    let Some(value) = table.optional(key) else { return Ok(None) };
    value.one_or_more()?.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// An id, or a range of them as a string.
fn ids(value: &Value<'_>) -> Result<IdRange, Fault> {
    // the highest is (uid_t)-1, which means "no id" to every system call
    const EXPECTED: &str = "an integer from 0 to 4294967294, a range \"FIRST-LAST\", or a list of them";
    if value.is_integer() {
        let id = value.integer(EXPECTED)?.filter(|id| *id != u32::MAX);
        return id.map(IdRange::of).ok_or_else(|| value.wrong(EXPECTED));
    }
    let text = value.string(EXPECTED)?;
    if !text.contains('-') {
        return Err(value.wrong(EXPECTED));
    }
    let id = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u32>().ok()).flatten().filter(|id| *id != u32::MAX)
    };
    let range =
        text.split_once('-').and_then(|(first, last)| Some(IdRange { first: id(first)?, last: id(last)? }));
    range
        .filter(|range| range.first <= range.last)
        .ok_or_else(|| value.fault(Reason::BadRange { range: text.to_owned() }))
}

fn user(value: &Value<'_>, names: &dyn Names) -> Result<IdRange, Fault> {
    let name = value.string("a user's name or a list of names (for numbers there is `uid`)")?;
    names
        .user(name)
        .map(IdRange::of)
        .ok_or_else(|| value.fault(Reason::UnknownUser { name: name.to_owned() }))
}

fn group(value: &Value<'_>, names: &dyn Names) -> Result<IdRange, Fault> {
    let name = value.string("a group's name or a list of names (for numbers there is `gid`)")?;
    names
        .group(name)
        .map(IdRange::of)
        .ok_or_else(|| value.fault(Reason::UnknownGroup { name: name.to_owned() }))
}

fn glob(value: &Value<'_>) -> Result<Glob, Fault> {
    let pattern = value.string("a pattern or a list of patterns")?;
    Glob::parse(pattern).map_err(|reason| value.fault(reason))
}
