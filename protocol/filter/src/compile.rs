//! From a filter to programs for the kernel.
//!
//! What a program does is worked out here as [`Rules`]; what it is made of, by one of two writers: the library where it
//! knows the processor, else [`crate::assemble`].

use crate::arch::Architecture;
use crate::assemble::assemble;
use crate::{Condition, Entry, Filter};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// ENOSYS has this number on every architecture that Linux still has but MIPS, Alpha, SPARC and PA-RISC.
const ENOSYS: u32 = 38;

/// What must hold for one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    /// Which argument, from 0.
    pub(crate) index: u8,
    pub(crate) is: Comparison,
}

/// How it is compared; the lower 32 bits but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// These of its bits are those of the second number.
    Masked(u32, u32),
    AtLeast(u32),
    AtMost(u32),
    /// All 64 bits.
    Whole(u64),
}

/// The calls that a program knows, and for each the alternatives that match, each with what must hold; no alternative
/// stands for any arguments.
pub(crate) type Rules = BTreeMap<i64, Vec<Vec<Test>>>;

/// What a program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    Kill,
    Absent,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) rules: Rules,
    /// What it says of calls that match, and of all others.
    pub(crate) then: Answer,
    pub(crate) otherwise: Answer,
}

impl Filter {
    /// The programs, to be installed in this order: each forbids what it doesn't know, so that the one that
    /// leaves the least comes last. The kernel asks all of them, and the strictest answer counts.
    ///
    /// Threads have a program of their own. Requests times threads would be more rules than a program can
    /// have; requests in one and threads in the other are few.
    ///
    /// # Errors
    /// [`BackendError`] when a program would be too long.
    pub fn programs(&self, architecture: Architecture) -> Result<Vec<BpfProgram>, BackendError> {
        let written = self.wanted().into_iter().map(|program| match architecture {
            Architecture::Known(known) => by_library(program, known),
            Architecture::Other(number) => assemble(&program, number),
        });
        written.collect()
    }

    fn wanted(&self) -> Vec<Program> {
        let mut programs = Vec::new();
        let mut allowed = self.allowed();
        if let Some(call) = self.absent {
            let rules = Rules::from([(call.number, Vec::new())]);
            programs.push(Program { rules, then: Answer::Absent, otherwise: Answer::Allow });
            // the strictest answer counts
            allowed.insert(call.number, Vec::new());
        }
        let strangers = self.strangers();
        if !strangers.is_empty() {
            programs.push(Program { rules: strangers, then: Answer::Kill, otherwise: Answer::Allow });
        }
        programs.push(Program { rules: allowed, then: Answer::Allow, otherwise: Answer::Kill });
        programs
    }

    /// What is allowed, of whatever thread.
    fn allowed(&self) -> Rules {
        let mut rules = Rules::new();
        for entry in &self.entries {
            let alternatives = rules.entry(entry.call.number).or_default();
            if !entry.when.is_empty() {
                alternatives.push(tests(entry));
            }
        }
        rules
    }

    /// Calls for threads that it isn't made for: those in the gaps between the ranges.
    fn strangers(&self) -> Rules {
        let mut rules = Rules::new();
        let Some(ranges) = &self.tracees else { return rules };
        for entry in &self.entries {
            for condition in entry.when {
                if let Condition::Tracee(index) = *condition {
                    rules.insert(entry.call.number, gaps(ranges, index));
                }
            }
        }
        rules
    }
}

/// Ids that are in none of the ranges.
fn gaps(ranges: &[(u32, u32)], index: u8) -> Vec<Vec<Test>> {
    let mut rules = Vec::new();
    let mut gap = |from: u32, to: u32| {
        rules.push([Comparison::AtLeast(from), Comparison::AtMost(to)].map(|is| Test { index, is }).to_vec());
    };
    // the first id that no range before has
    let mut next = Some(0_u32);
    for &(first, last) in ranges {
        match next {
            Some(from) if from < first => gap(from, first - 1),
            Some(_) | None => {}
        }
        next = last.checked_add(1);
    }
    if let Some(from) = next {
        gap(from, u32::MAX);
    }
    rules
}

fn tests(entry: &Entry) -> Vec<Test> {
    let test = |condition: &Condition| {
        let (index, is) = match *condition {
            Condition::Is(index, value) => (index, Comparison::Masked(u32::MAX, value)),
            Condition::Whole(index, value) => (index, Comparison::Whole(value)),
            Condition::Has(index, bits) => (index, Comparison::Masked(bits, bits)),
            Condition::Lacks(index, bits) => (index, Comparison::Masked(bits, 0)),
            Condition::Within(index, bits) => (index, Comparison::Masked(!bits, 0)),
            // any: the other program tells
            Condition::Tracee(index) => (index, Comparison::AtLeast(0)),
        };
        Test { index, is }
    };
    entry.when.iter().map(test).collect()
}

/// Has the library write a program.
fn by_library(program: Program, architecture: TargetArch) -> Result<BpfProgram, BackendError> {
    let action = |answer| match answer {
        Answer::Allow => SeccompAction::Allow,
        Answer::Kill => SeccompAction::KillProcess,
        Answer::Absent => SeccompAction::Errno(ENOSYS),
    };
    let alternative = |tests: Vec<Test>| {
        let conditions: Result<Vec<_>, _> = tests.into_iter().map(condition).collect();
        SeccompRule::new(conditions?)
    };
    let mut rules = BTreeMap::new();
    for (number, alternatives) in program.rules {
        let alternatives: Result<Vec<_>, _> = alternatives.into_iter().map(alternative).collect();
        rules.insert(number, alternatives?);
    }
    SeccompFilter::new(rules, action(program.otherwise), action(program.then), architecture)?.try_into()
}

fn condition(Test { index, is }: Test) -> Result<SeccompCondition, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, Ge, Le, MaskedEq};
    let (length, operator, value) = match is {
        Comparison::Masked(u32::MAX, value) => (Dword, Eq, u64::from(value)),
        Comparison::Masked(mask, value) => (Dword, MaskedEq(u64::from(mask)), u64::from(value)),
        Comparison::AtLeast(value) => (Dword, Ge, u64::from(value)),
        Comparison::AtMost(value) => (Dword, Le, u64::from(value)),
        Comparison::Whole(value) => (Qword, Eq, value),
    };
    SeccompCondition::new(index, length, operator, value)
}
