//! Seccomp filters from tables of allowed calls (Documentation/userspace-api/seccomp_filter.rst).

use crate::arch::SECCOMP_ARCHITECTURE;
use crate::error::{Error, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::collections::BTreeMap;

/// Calls that are allowed; any other kills the process.
#[derive(Default)]
pub(crate) struct Filter {
    rules: BTreeMap<i64, Vec<Vec<Condition>>>,
}

/// A comparison of one argument.
#[derive(Clone, Copy)]
pub(crate) enum Condition {
    /// The argument of this index equals this value (32 bits).
    Is(u8, u64),
    /// The argument of this index has all of these bits (32 bits).
    Has(u8, u64),
    /// The argument of this index has none of these bits (32 bits).
    Lacks(u8, u64),
    /// The argument of this index lies between these values, both included (32 bits).
    Between(u8, u64, u64),
}

impl Filter {
    /// Allows calls whatever their arguments; the table names a reason for each.
    pub(crate) fn allow(&mut self, table: &[(i64, &str)]) {
        for &(number, _reason) in table {
            self.rules.insert(number, Vec::new());
        }
    }

    /// Whether a call is allowed, for some arguments at least.
    #[cfg(test)]
    pub(crate) fn allows(&self, number: i64) -> bool {
        self.rules.contains_key(&number)
    }

    /// Allows one call if all conditions hold; several such rules of one call are alternatives.
    pub(crate) fn allow_if(&mut self, number: i64, conditions: &[Condition]) {
        self.rules.entry(number).or_default().push(conditions.to_vec());
    }
}

/// Installs the filter for this thread and its future ones.
///
/// clone3 hides its flags in memory, so it answers "no such call" and libraries use clone, whose
/// flags the filter sees.
pub(crate) fn install(filter: &Filter) -> Result<bool> {
    let failed =
        |error: &dyn std::fmt::Display| Error::Unsupported(format!("confining with seccomp: {error}"));
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        SECCOMP_ARCHITECTURE,
    );
    let no_clone3: BpfProgram =
        no_clone3.and_then(TryInto::try_into).map_err(|error: seccompiler::BackendError| failed(&error))?;
    let mut rules = compile(filter).map_err(|error| failed(&error))?;
    rules.insert(libc::SYS_clone3, Vec::new());
    let allowed =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, SECCOMP_ARCHITECTURE);
    let allowed: BpfProgram =
        allowed.and_then(TryInto::try_into).map_err(|error: seccompiler::BackendError| failed(&error))?;
    apply_filter(&no_clone3).map_err(|error| failed(&error))?;
    apply_filter(&allowed).map_err(|error| failed(&error))?;
    Ok(true)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(filter: &Filter) -> std::result::Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for (&number, alternatives) in &filter.rules {
        let alternatives: std::result::Result<Vec<_>, _> = alternatives.iter().map(|all| rule(all)).collect();
        rules.insert(number, alternatives?);
    }
    Ok(rules)
}

fn rule(conditions: &[Condition]) -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let mut all = Vec::new();
    let compare =
        |index, operator, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value);
    for condition in conditions {
        match *condition {
            Condition::Is(index, value) => all.push(compare(index, SeccompCmpOp::Eq, value)?),
            Condition::Has(index, bits) => all.push(compare(index, SeccompCmpOp::MaskedEq(bits), bits)?),
            Condition::Lacks(index, bits) => all.push(compare(index, SeccompCmpOp::MaskedEq(bits), 0)?),
            Condition::Between(index, least, most) => {
                all.push(compare(index, SeccompCmpOp::Ge, least)?);
                all.push(compare(index, SeccompCmpOp::Le, most)?);
            }
        }
    }
    SeccompRule::new(all)
}
