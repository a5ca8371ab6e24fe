//! System calls that no library wraps, and the only `unsafe` of this crate beside `arch`.

pub(crate) mod descriptors;
pub(crate) mod kcmp;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod pagemap;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod sock_diag;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod trial;
pub(crate) mod userfaultfd;
