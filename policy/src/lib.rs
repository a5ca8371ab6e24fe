//! Who may do what with which process: a pure decision, without any IO.
//!
//! A [`Policy`] is either the built-in one or read from the text of a policy file, whose format
//! doc/policy.md describes. [`Policy::decide`] is asked with the facts that others collected.
//!
//! Where a fact is ambiguous (a target with several user ids) or unknown (a cgroup that couldn't be
//! read, the groups of a client over TCP), a rule that allows needs certainty and a rule that denies needs only a possibility.

#![forbid(unsafe_code)]

mod accounts;
mod builtin;
mod error;
mod explain;
mod file;
mod glob;
mod rule;
mod table;

pub use accounts::{AccountFiles, Remembering};
pub use error::{PolicyError, Reason};
pub use explain::{Explanation, Mismatch};

use error::Fault;

use memcr_protocol::subject::{Action, Peer, TargetFacts};
use rule::Rule;

/// Longest policy file, in bytes. Whoever reads the file needs to read one byte more at most.
pub const SIZE_LIMIT: usize = 64 * 1024;

/// Most rules in a policy file.
pub const RULE_LIMIT: usize = 1000;

/// Longest name of a rule, in characters: it goes into logs and error messages.
pub const NAME_LIMIT: usize = 100;

/// Name reported when no rule matches.
pub const DEFAULT_DENY: &str = "default: deny";

/// The account database, as far as a policy needs it.
pub trait Names {
    /// The id of a user; `None` if there is no such user.
    fn user(&self, name: &str) -> Option<u32>;
    /// The id of a group; `None` if there is no such group.
    fn group(&self, name: &str) -> Option<u32>;
}

/// Who may do what with which process.
#[derive(Debug)]
pub struct Policy {
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    BuiltIn { listen_group: Option<u32> },
    File(Vec<Rule>),
}

/// What a policy says about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Name of the rule that decided.
    pub rule: String,
    /// What the rule limits, if it allows.
    pub limits: Limits,
    /// Which processes the rule permits that are refused otherwise, if it allows.
    pub permits: Permits,
}

/// What a rule that allows checkpoints limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processes that may be asleep by this rule at once.
    pub asleep: Option<u32>,
    /// Memory of a process, in bytes, that may be taken away.
    pub size: Option<u64>,
}

/// Processes that are put to sleep only if the rule that allows it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permits {
    /// Those that are not dumpable: they protect their memory from others of their user.
    pub non_dumpable: bool,
    /// Those with a seccomp filter, which may kill them for what memcr does in them.
    pub seccomp: bool,
}

impl Policy {
    /// The policy in force when there is no policy file: root may do all, a user may act on its own
    /// processes, and members of `listen_group` on every process none of whose user ids is 0.
    #[must_use]
    pub fn builtin(listen_group: Option<u32>) -> Self {
        Self { rules: Rules::BuiltIn { listen_group } }
    }

    /// Reads a policy file as it is, which may turn out to be no text.
    ///
    /// # Errors
    /// As [`Policy::parse`]; its size is looked at first.
    pub fn parse_bytes(bytes: &[u8], names: &dyn Names) -> Result<Self, PolicyError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, names),
            Err(error) => {
                let (offset, reason) = if bytes.len() > SIZE_LIMIT {
                    (SIZE_LIMIT, Reason::TooLarge)
                } else {
                    (error.valid_up_to(), Reason::NotText)
                };
                // what is before the mistake, to count its lines
                let text = String::from_utf8_lossy(bytes.get(..offset).unwrap_or(bytes));
                Err(PolicyError::locate(&text, Fault { offset: text.len(), reason }))
            }
        }
    }

    /// Reads the text of a policy file. User and group names are looked up here, once.
    ///
    /// # Errors
    /// The first thing that is wrong, with its position.
    pub fn parse(text: &str, names: &dyn Names) -> Result<Self, PolicyError> {
        match file::rules(text, names) {
            Ok(rules) => Ok(Self { rules: Rules::File(rules) }),
            Err(fault) => Err(PolicyError::locate(text, fault)),
        }
    }

    /// Whether a rule allows something to clients of which nobody can say who they are.
    #[must_use]
    pub fn grants_anonymous(&self) -> bool {
        match &self.rules {
            Rules::BuiltIn { .. } => false,
            Rules::File(rules) => rules.iter().any(Rule::grants_anonymous),
        }
    }

    /// Whether a rule asks for what a client's socket alone doesn't tell: its program, its cgroup, its namespaces.
    #[must_use]
    pub fn asks_about_processes_of_clients(&self) -> bool {
        match &self.rules {
            Rules::BuiltIn { .. } => false,
            Rules::File(rules) => rules.iter().any(Rule::asks_about_process_of_client),
        }
    }

    /// Whether it depends on the hash of the target's executable what is decided, and `target` doesn't have it.
    #[must_use]
    pub fn needs_hash(&self, peer: &Peer, action: Action, target: &TargetFacts) -> bool {
        match &self.rules {
            Rules::File(rules) if target.sha256.is_none() => rule::needs_hash(rules, peer, action, target),
            Rules::File(_) | Rules::BuiltIn { .. } => false,
        }
    }

    /// How many rules a policy file has; 0 for the built-in ones.
    #[must_use]
    pub fn rules(&self) -> usize {
        match &self.rules {
            Rules::BuiltIn { .. } => 0,
            Rules::File(rules) => rules.len(),
        }
    }

    /// Whether `peer` may do `action` with `target`.
    #[must_use]
    pub fn decide(&self, peer: &Peer, action: Action, target: &TargetFacts) -> Decision {
        match &self.rules {
            Rules::BuiltIn { listen_group } => builtin::decide(*listen_group, peer, target),
            Rules::File(rules) => rule::decide(rules, peer, action, target),
        }
    }
}

impl Decision {
    fn by(rule: &str, allowed: bool) -> Self {
        Self { allowed, rule: rule.to_owned(), limits: Limits::default(), permits: Permits::default() }
    }

    fn default_deny() -> Self {
        Self::by(DEFAULT_DENY, false)
    }
}

/// What the kernel shows for every user or group that has no id in our user namespace
/// (user_namespaces(7), /proc/sys/kernel/overflowuid): two processes that show it need not be of
/// the same user.
const OVERFLOW_ID: u32 = 65534;
