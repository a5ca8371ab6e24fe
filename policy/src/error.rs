//! What can be wrong with a policy file, and where.

use crate::{NAME_LIMIT, RULE_LIMIT, SIZE_LIMIT};
use thiserror::Error;

/// Why a policy file was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The file exceeds [`SIZE_LIMIT`].
    #[error("the file is longer than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// The file is not text.
    #[error("not UTF-8 text")]
    NotText,
    /// The text is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// A version that this program doesn't know.
    #[error("policy version {version} is unknown; this memcr knows version 1")]
    UnknownVersion {
        /// The version found.
        version: String,
    },
    /// More rules than [`RULE_LIMIT`].
    #[error("more than {RULE_LIMIT} rules")]
    TooManyRules,
    /// A key that must be there is missing.
    #[error("{place} has no `{key}`")]
    MissingKey {
        /// What lacks it.
        place: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A key that has no meaning where it stands.
    #[error("unknown key {} in {place}; known are {}", quote(key), list(known))]
    UnknownKey {
        /// The table it stands in.
        place: &'static str,
        /// The key found.
        key: String,
        /// The keys of that table.
        known: &'static [&'static str],
    },
    /// A value of a wrong type or out of range.
    #[error("`{key}` must be {expected}, not {found}")]
    WrongValue {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A table of conditions without any.
    #[error("`{key}` is an empty table; leave it out if any {key} is meant")]
    EmptyTable {
        /// The key.
        key: &'static str,
    },
    /// A list without elements.
    #[error("`{key}` is an empty list, which matches nothing")]
    EmptyList {
        /// The key.
        key: &'static str,
    },
    /// A rule name that is empty, too long, or can't be shown in a log.
    #[error("a rule's name must have 1 to {NAME_LIMIT} characters, none of them a control character")]
    BadName,
    /// A rule name that looks like one of memcr's own.
    #[error(
        "rule name {} is reserved: names beginning with `built-in:` or `default:` are memcr's own",
        quote(name)
    )]
    ReservedName {
        /// The name.
        name: String,
    },
    /// Two rules of one name.
    #[error("rule name {} is taken by an earlier rule", quote(name))]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Not an action.
    #[error("unknown action {}; known are {}", quote(action), list(known))]
    UnknownAction {
        /// What was found.
        action: String,
        /// The actions there are.
        known: Vec<&'static str>,
    },
    /// Not an effect.
    #[error("unknown effect {}; known are `allow`, `deny`", quote(effect))]
    UnknownEffect {
        /// What was found.
        effect: String,
    },
    /// No such account.
    #[error("unknown user {}", quote(name))]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error("unknown group {}", quote(name))]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A client is to be allowed by an id that identifies nobody.
    #[error(
        "id {id} stands for every client that has no id in memcr's user namespace; only a `deny` rule may list it"
    )]
    OverflowId {
        /// The id.
        id: u32,
    },
    /// A range of ids that is none.
    #[error(
        "{} is no range: write \"FIRST-LAST\", two ids from 0 to 4294967294, the lower one first",
        quote(range)
    )]
    BadRange {
        /// What was found.
        range: String,
    },
    /// A limit of a rule that allows no checkpoint.
    #[error("`limits` are for rules that allow checkpoints")]
    LimitsOfNothing,
    /// Something that is permitted by a rule that allows no checkpoint.
    #[error("`permits` is for rules that allow checkpoints")]
    PermitsOfNothing,
    /// A size that is none.
    #[error("{} is no size: write a number of bytes, or one with K, M or G", quote(size))]
    BadSize {
        /// What was found.
        size: String,
    },
    /// Clients that are not anonymous are meant by leaving it out.
    #[error("`anonymous` must be true, or be left out: without it a rule is not for anonymous clients")]
    NotAnonymous,
    /// A client that nobody can name is asked for a name.
    #[error("`{key}` can't stand beside `anonymous`: nobody knows the ids of an anonymous client")]
    IdOfAnonymous {
        /// The key.
        key: &'static str,
    },
    /// A pattern that doesn't begin with a slash.
    #[error("pattern {} does not begin with `/`", quote(pattern))]
    RelativePattern {
        /// The pattern.
        pattern: String,
    },
    /// A pattern with a component that makes no sense.
    #[error("pattern has the component {}: {problem}", quote(component))]
    BadPattern {
        /// The component.
        component: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A [`Reason`] and the byte of the text it belongs to.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) reason: Reason,
}

impl PolicyError {
    pub(crate) fn locate(text: &str, fault: Fault) -> Self {
        // the limit on the size may lie within a character
        let before = (0..=fault.offset).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        let on_line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: on_line.chars().count() + 1,
            reason: fault.reason,
        }
    }
}

/// Text of the file as it is shown in a message: on one line, and not too long.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let start: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(SHOWN).is_some() { "..." } else { "" };
    format!("`{start}{rest}`")
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
