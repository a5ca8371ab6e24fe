//! Tables for people.

use crate::{Condition, Entry};
use std::fmt::{self, Display, Formatter};

impl Display for Condition {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Is(index, value) if value > i32::MAX as u32 && value >= u32::MAX - 4 => {
                write!(formatter, "argument {index} is {}", i32::from_ne_bytes(value.to_ne_bytes()))
            }
            Self::Is(index, value) => write!(formatter, "argument {index} is {value:#x}"),
            Self::Whole(index, value) => write!(formatter, "argument {index} is {value:#x}, all of it"),
            Self::Has(index, bits) => write!(formatter, "argument {index} has {bits:#x}"),
            Self::Lacks(index, bits) => write!(formatter, "argument {index} has nothing of {bits:#x}"),
            Self::Within(index, bits) => write!(formatter, "argument {index} has nothing but {bits:#x}"),
            Self::Tracee(index) => write!(formatter, "argument {index} is a thread of the target"),
        }
    }
}

impl Entry {
    /// Its conditions, as a phrase.
    #[must_use]
    pub fn conditions(&self) -> String {
        if self.when.is_empty() {
            return "any arguments".into();
        }
        self.when.iter().map(Condition::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// A table in Markdown: name, conditions, reason of every entry.
#[must_use]
pub fn table(entries: &[Entry]) -> String {
    let rows = entries
        .iter()
        .map(|entry| format!("| `{}` | {} | {} |\n", entry.name(), entry.conditions(), entry.reason));
    format!("| call | only if | what for |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// The table that a document in Markdown has next below a heading; empty if there is none.
#[must_use]
pub fn table_under(document: &str, heading: &str) -> String {
    let below = document.lines().skip_while(|line| *line != heading).skip(1);
    let table = below.skip_while(|line| !line.starts_with('|') && !line.starts_with('#'));
    table.take_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect()
}
