//! The only modules of this crate with `unsafe`: system calls that no safe wrapper covers.

pub(crate) mod attempts;
pub(crate) mod descriptors;
pub(crate) mod process;
pub(crate) mod spawn;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod trial;
