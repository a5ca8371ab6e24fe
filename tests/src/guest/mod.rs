//! What runs in a guest: the core of the end-to-end tests, in a world that has nothing but the kernel and our programs.

mod cases;
mod features;
mod setpriv;
mod units;
mod without_device;

pub use cases::{assert_no_difference, run_cases};
pub use setpriv::setpriv;
pub use units::run_units;
