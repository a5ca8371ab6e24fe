//! The audit log: every request leaves a record, whatever became of it (doc/audit.md).

pub(crate) mod log;
pub(crate) mod record;
