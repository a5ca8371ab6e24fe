//! The life of one sleep. Each phase is a type that the one before it turns into, so that none can be
//! left out or come twice:
//!
//! [`attach`](attach::attach) → [`Attached`](attach::Attached) → confine → [`dump`](dump::dump) →
//! [`free`](free::free) → [`Asleep`](asleep::Asleep) → [`restore`](restore::restore).
//!
//! Whatever fails before the first page is freed ends in [`Attached::undo`](attach::Attached::undo).

pub(crate) mod asleep;
pub(crate) mod attach;
mod decide;
mod doomed;
pub(crate) mod dump;
pub(crate) mod free;
mod guarded;
mod handles;
pub(crate) mod image_file;
mod parallel;
pub(crate) mod restore;
mod settings;
pub(crate) mod succeed;

pub(crate) use decide::{Authority, Judge};
pub(crate) use settings::{Plan, Settings};
