//! No panic leaves this library: what would have panicked has failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What `body` gives, or `failed` if it panics.
pub(super) fn or_failed<T>(failed: T, body: impl FnOnce() -> T) -> T {
    // what a panic leaves half done is behind locks, see below
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(failed)
}

/// A lock, also after a panic: a connection that was in use then is taken for stale, and made anew.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_and_leaves_no_lock_behind() {
        let mutex = Mutex::new(1);
        let outcome = or_failed(-1, || {
            let _held = lock(&mutex);
            panic!("a fault");
        });
        assert_eq!(outcome, -1);
        assert_eq!(*lock(&mutex), 1);
    }
}
