//! Standard error for the two logs, without ever waiting for long for whoever reads it.
//!
//! The reader of a log can be a process that sleeps by our own hand. Waiting for it would keep the
//! broker from waking it. The descriptor is shared with others, so it can't be made non-blocking; but
//! a pipe that is ready takes 4096 bytes without waiting (PIPE_BUF), and so does a socket.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is surely taken at once by a pipe that is ready.
const AT_ONCE: usize = 4096;

/// How long a slow reader is waited for, in milliseconds; one that did not read in this time is not
/// waited for again before it does.
const PATIENCE_MILLIS: u16 = 200;

static STUCK: AtomicBool = AtomicBool::new(false);

/// Writes to standard error, or fails after a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_soon(&mut io::stderr(), bytes, &STUCK)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_soon(to: &mut (impl Write + AsFd), bytes: &[u8], stuck: &AtomicBool) -> io::Result<usize> {
    let patience =
        if stuck.load(Ordering::Relaxed) { PollTimeout::ZERO } else { PollTimeout::from(PATIENCE_MILLIS) };
    let ready = {
        let mut ends = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
        loop {
            match poll(&mut ends, patience) {
                // no signal of ours; whoever reads may take a little longer then
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        }
    };
    stuck.store(ready == 0, Ordering::Relaxed);
    if ready == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads standard error"));
    }
    to.write(bytes.get(..AT_ONCE).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_reader_that_does_not_read_is_not_waited_for() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let stuck = AtomicBool::new(false);
        let mut written = 0;
        let error = loop {
            match write_soon(&mut writer, &[b'x'; 5000], &stuck) {
                Ok(length) => written += length,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(written > 0 && stuck.load(Ordering::Relaxed));
        let mut text = vec![0; written];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(write_soon(&mut writer, b"again", &stuck).unwrap(), 5);
        assert!(!stuck.load(Ordering::Relaxed));
    }
}
