//! Waiting for a condition, never longer than a bound. The only place that sleeps.

use std::time::{Duration, Instant};

/// Long enough for anything that should happen, even on a busy machine.
pub const BOUND: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(2);

/// What `condition` gives as soon as it gives something.
///
/// # Panics
/// When it gives nothing within `bound`; `what` says what was waited for.
pub fn until_some<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Returns as soon as `condition` holds.
///
/// # Panics
/// When it doesn't within [`BOUND`]; `what` says what was waited for.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, BOUND, || condition().then_some(()));
}

/// Asserts that `condition` holds all the time, for as long as `period`.
///
/// # Panics
/// As soon as it doesn't hold.
pub fn holds_for(what: &str, period: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < period {
        assert!(condition(), "after {:?} no longer: {what}", start.elapsed());
        std::thread::sleep(PAUSE);
    }
}

/// Lets `period` pass, for tests that are about time itself.
pub fn let_pass(period: Duration) {
    std::thread::sleep(period);
}
