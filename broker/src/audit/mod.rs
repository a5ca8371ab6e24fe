//! The audit log: every request leaves a record, whatever became of it (doc/audit.md).

pub(crate) mod chain;
mod escape;
pub(crate) mod file;
pub(crate) mod log;
pub(crate) mod record;
#[cfg(test)]
mod record_tests;
pub(crate) mod verify;
