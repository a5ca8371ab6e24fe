//! Why a policy decides as it does, by the same evaluation.

use crate::rule::Rule;
use crate::{Decision, Policy, Rules};
use memcr_protocol::subject::{Action, Peer, TargetFacts};
use std::fmt;

/// A condition that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its key in the rule, such as `client.uid`.
    pub key: &'static str,
    /// What was found instead, as text.
    pub found: String,
}

impl Mismatch {
    pub(crate) fn new(key: &'static str, found: impl fmt::Display) -> Self {
        Self { key, found: found.to_string() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "its `{}` does not match: {}", self.key, self.found)
    }
}

/// A decision, and the rules that were passed over before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Each rule before the one that decided, by its name, with the first condition that doesn't hold.
    pub passed_over: Vec<(String, Mismatch)>,
}

impl Policy {
    /// As [`Policy::decide`], with its reasons. Of the built-in rules only the one that decides is told.
    #[must_use]
    pub fn explain(&self, peer: &Peer, action: Action, target: &TargetFacts) -> Explanation {
        let decision = self.decide(peer, action, target);
        let rules: &[Rule] = match &self.rules {
            Rules::BuiltIn { .. } => &[],
            Rules::File(rules) => rules,
        };
        let passed_over = rules
            .iter()
            .map_while(|rule| Some((rule.name.clone(), rule.mismatch(peer, action, target)?)))
            .collect();
        Explanation { decision, passed_over }
    }
}
