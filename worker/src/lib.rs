//! The privileged side of memcr: the launcher, and the workers that it forks.
//!
//! [`launcher`] accepts jobs from the broker and forks a worker for each; `job` is the worker's life,
//! made of the `phase`s; `target` reads about the target, `trace` acts on it, `confine` gives up
//! rights, `image` keeps the memory. What differs between architectures is in `arch`, `unsafe` in
//! `sys`.

mod arch;
mod channel;
mod confine;
#[cfg(feature = "drill")]
mod drill;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod image;
mod job;
pub mod launcher;
mod phase;
mod record;
mod sys;
mod target;
mod trace;
