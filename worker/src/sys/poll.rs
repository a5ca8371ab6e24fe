//! Waiting, by the one system call that every architecture has for it (ppoll(2)).

use nix::errno::Errno;
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;
use std::time::{Duration, Instant};

/// Waits until a descriptor is ready or the time is over (`None`: however long it takes); how many are
/// ready. A signal ends the wait with none.
pub(crate) fn wait(polled: &mut [PollFd<'_>], time: Option<Duration>) -> Result<i32, Errno> {
    match ppoll(polled, time.map(TimeSpec::from_duration), None) {
        Err(Errno::EINTR) => Ok(0),
        result => result,
    }
}

/// Time left until a deadline.
pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
