//! What runs in a guest: the core of the end-to-end tests, in a world that has nothing but the kernel and our programs.

mod cases;
mod features;
mod setpriv;
mod without_device;

pub use cases::{assert_no_difference, run_cases};
pub use setpriv::setpriv;
