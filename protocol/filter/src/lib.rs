//! Seccomp filters as data: tables of the system calls that a role may make, with which arguments, and why.
//!
//! An [`Entry`] is one allowance. It has a name that stays, and a reason for whoever reviews the table. A
//! [`Filter`] is made of tables and compiled to programs for the kernel
//! (Documentation/userspace-api/seccomp_filter.rst); installing them is its user's business. What is in no
//! entry kills the process.

#![forbid(unsafe_code)]

mod arch;
mod assemble;
mod compile;
#[cfg(feature = "trial")]
pub mod describe;
#[cfg(feature = "trial")]
pub mod trial;

pub use arch::Architecture;

/// A system call: its name and its number here. Made by [`call!`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The name of its constant, `SYS_read` say.
    pub constant: &'static str,
    /// Its number.
    pub number: i64,
}

/// The system call of a constant of the crate `libc`.
#[macro_export]
macro_rules! call {
    ($constant:ident) => {
        $crate::Call { constant: stringify!($constant), number: libc::$constant as i64 }
    };
}

/// What must hold for one argument, which is given by its index from 0. The kernel takes many arguments for
/// an `int` and never looks at their upper 32 bits; filters compare what the kernel compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The lower 32 bits are this number.
    Is(u8, u32),
    /// All 64 bits are this number.
    Whole(u8, u64),
    /// All of these bits are set, in the lower 32.
    Has(u8, u32),
    /// None of these bits is set, in the lower 32.
    Lacks(u8, u32),
    /// No bit but these is set, in the lower 32.
    Within(u8, u32),
    /// The lower 32 bits are the id of one of the threads that the filter is made for; of any thread, if it is
    /// made for none. All entries of one call say this of the same argument, or none does.
    Tracee(u8),
}

/// One allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which call.
    pub call: Call,
    /// Which use of it, if there are several, else empty.
    pub variant: &'static str,
    /// What must hold; nothing for any arguments.
    pub when: &'static [Condition],
    /// What needs it.
    pub reason: &'static str,
}

/// A call that is allowed with any arguments.
#[must_use]
pub const fn allow(call: Call, reason: &'static str) -> Entry {
    Entry { call, variant: "", when: &[], reason }
}

/// A call that is allowed if all of the conditions hold. Entries of one call are alternatives.
#[must_use]
pub const fn allow_if(
    call: Call,
    variant: &'static str,
    when: &'static [Condition],
    reason: &'static str,
) -> Entry {
    Entry { call, variant, when, reason }
}

/// The same 32 bits, for conditions on arguments that the kernel takes for an `int`.
#[must_use]
pub const fn bits(value: i32) -> u32 {
    u32::from_ne_bytes(value.to_ne_bytes())
}

/// The request of an ioctl(2), of which the kernel looks at the lower 32 bits only.
#[macro_export]
macro_rules! request {
    ($number:expr) => {
        $number as u32
    };
}

impl Entry {
    /// Its name: that of the call, and after a colon which use of it, if there are several.
    #[must_use]
    pub fn name(&self) -> String {
        let call = self.call.constant.strip_prefix("SYS_").unwrap_or(self.call.constant);
        if self.variant.is_empty() { call.to_owned() } else { format!("{call}:{}", self.variant) }
    }
}

/// A filter: entries of several tables, for certain threads perhaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    entries: Vec<Entry>,
    tracees: Option<Vec<(u32, u32)>>,
    absent: Option<Call>,
}

impl Filter {
    /// One that allows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows what is in a table, too.
    #[must_use]
    pub fn and(mut self, table: &[Entry]) -> Self {
        self.entries.extend_from_slice(table);
        self
    }

    /// Takes the entry of this name away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.entries.retain(|entry| entry.name() != name);
        self
    }

    /// Makes it for the threads whose ids are in these ranges, first and last, in ascending order.
    #[must_use]
    pub fn for_tracees(mut self, ranges: Vec<(u32, u32)>) -> Self {
        self.tracees = Some(ranges);
        self
    }

    /// Has a call answer that the kernel has no such call (ENOSYS), whatever the entries say.
    #[must_use]
    pub fn answering_absent(mut self, call: Call) -> Self {
        self.absent = Some(call);
        self
    }

    /// What it allows.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The call that answers ENOSYS.
    #[must_use]
    pub fn absent(&self) -> Option<Call> {
        self.absent
    }

    /// Whether some entry is for this call.
    #[must_use]
    pub fn knows(&self, number: impl Into<i64>) -> bool {
        let number = number.into();
        self.entries.iter().any(|entry| entry.call.number == number)
    }
}
