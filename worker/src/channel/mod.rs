//! The two channels of a worker: to the broker, to the launcher.

mod broker;
mod launcher;

pub(crate) use broker::{Broker, Order};
pub(crate) use launcher::Launcher;
