//! What the end-to-end tests are made of: real daemons, real users, targets that check themselves.
//!
//! The tests themselves are in `tests/`, the targets in `src/bin/`. All of it needs root, and says
//! so when it is not: it makes users, and runs the daemon, targets and clients each as another one.

pub mod arch;
pub mod audit;
pub mod binaries;
pub mod captured;
pub mod cgroup;
pub mod client;
pub mod content;
pub mod daemon;
pub mod drill;
pub mod foreign;
pub mod fuse;
pub mod guest;
pub mod input;
pub mod lone;
pub mod namespace;
pub mod network;
pub mod procfs;
pub mod programs;
pub mod scratch;
pub mod sockets;
pub mod sys;
pub mod tampering;
pub mod target;
pub mod users;
pub mod wait;
pub mod watch;
pub mod wire;
