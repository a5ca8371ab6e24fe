//! Acting on the target: stop its threads, make one of them call the kernel, run the parasite.

mod blob;
pub(crate) mod parasite;
pub(crate) mod puppet;
pub(crate) mod rseq;
pub(crate) mod tracees;

/// Time that a target may take for one step of ours, in seconds.
pub(crate) const STEP_SECONDS: u64 = 5;
