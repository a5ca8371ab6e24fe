//! Acting on the target: stop its threads, make one of them call the kernel, run the parasite.

mod blob;
mod gadget;
mod meeting;
pub(crate) mod parasite;
pub(crate) mod place;
pub(crate) mod puppet;
pub(crate) mod rehearsal;
pub(crate) mod rendezvous;
pub(crate) mod rseq;
pub(crate) mod tracees;
pub(crate) mod way_home;

/// Time that a target may take for one step of ours, in seconds.
pub(crate) const STEP_SECONDS: u64 = 5;
