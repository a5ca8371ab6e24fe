//! From a filter to programs for the kernel.

use crate::{Condition, Entry, Filter};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// ENOSYS has this number on every architecture that Linux still has but MIPS, Alpha, SPARC and PA-RISC.
const ENOSYS: u32 = 38;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filter {
    /// The programs, to be installed in this order: each forbids what it doesn't know, so that the one that
    /// leaves the least comes last. The kernel asks all of them, and the strictest answer counts.
    ///
    /// Threads have a program of their own. Requests times threads would be more rules than a program can
    /// have; requests in one and threads in the other are few.
    ///
    /// # Errors
    /// [`BackendError`] when a program would be too long.
    pub fn programs(&self, architecture: TargetArch) -> Result<Vec<BpfProgram>, BackendError> {
        let mut programs = Vec::new();
        let mut add = |rules, otherwise, then| -> Result<(), BackendError> {
            programs.push(SeccompFilter::new(rules, otherwise, then, architecture)?.try_into()?);
            Ok(())
        };
        let mut allowed = self.allowed()?;
        if let Some(call) = self.absent {
            let rules = Rules::from([(call.number, Vec::new())]);
            add(rules, SeccompAction::Allow, SeccompAction::Errno(ENOSYS))?;
            // the strictest answer counts
            allowed.insert(call.number, Vec::new());
        }
        let strangers = self.strangers()?;
        if !strangers.is_empty() {
            add(strangers, SeccompAction::Allow, SeccompAction::KillProcess)?;
        }
        add(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?;
        Ok(programs)
    }

    /// What is allowed, of whatever thread. No rule at all stands for any arguments.
    fn allowed(&self) -> Result<Rules, BackendError> {
        let mut rules = Rules::new();
        for entry in &self.entries {
            let alternatives = rules.entry(entry.call.number).or_default();
            if let Some(rule) = rule(entry)? {
                alternatives.push(rule);
            }
        }
        Ok(rules)
    }

    /// Calls for threads that it isn't made for: those in the gaps between the ranges.
    fn strangers(&self) -> Result<Rules, BackendError> {
        let mut rules = Rules::new();
        let Some(ranges) = &self.tracees else { return Ok(rules) };
        for entry in &self.entries {
            for condition in entry.when {
                if let Condition::Tracee(index) = *condition {
                    rules.insert(entry.call.number, gaps(ranges, index)?);
                }
            }
        }
        Ok(rules)
    }
}

/// Ids that are in none of the ranges.
fn gaps(ranges: &[(u32, u32)], index: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = Vec::new();
    let mut gap = |from: u32, to: u32| -> Result<(), BackendError> {
        let bound = |operator, value| {
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value))
        };
        rules.push(SeccompRule::new(vec![bound(SeccompCmpOp::Ge, from)?, bound(SeccompCmpOp::Le, to)?])?);
        Ok(())
    };
    // the first id that no range before has
    let mut next = Some(0_u32);
    for &(first, last) in ranges {
        match next {
            Some(from) if from < first => gap(from, first - 1)?,
            Some(_) | None => {}
        }
        next = last.checked_add(1);
    }
    if let Some(from) = next {
        gap(from, u32::MAX)?;
    }
    Ok(rules)
}

fn rule(entry: &Entry) -> Result<Option<SeccompRule>, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, Ge, MaskedEq};
    if entry.when.is_empty() {
        return Ok(None);
    }
    let masked = |bits: u32| MaskedEq(u64::from(bits));
    let conditions = entry.when.iter().map(|condition| match *condition {
        Condition::Is(index, value) => SeccompCondition::new(index, Dword, Eq, u64::from(value)),
        Condition::Whole(index, value) => SeccompCondition::new(index, Qword, Eq, value),
        Condition::Has(index, bits) => SeccompCondition::new(index, Dword, masked(bits), u64::from(bits)),
        Condition::Lacks(index, bits) => SeccompCondition::new(index, Dword, masked(bits), 0),
        Condition::Within(index, bits) => SeccompCondition::new(index, Dword, masked(!bits), 0),
        // any: the other program tells
        Condition::Tracee(index) => SeccompCondition::new(index, Dword, Ge, 0),
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?).map(Some)
}
