//! What a sample target is told while it does something else.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::BufRead;
use std::os::fd::AsFd;

/// What there is on standard input.
#[derive(Debug)]
pub enum Input {
    /// Nothing yet.
    Nothing,
    /// A line.
    Line(String),
    /// Its end.
    End,
}

impl Input {
    /// Looks for a line without waiting for one.
    pub fn look() -> Self {
        let input = std::io::stdin();
        let mut polled = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::ZERO).expect("poll") == 0 {
            return Self::Nothing;
        }
        let mut line = String::new();
        match input.lock().read_line(&mut line).expect("a line") {
            0 => Self::End,
            _ => Self::Line(line.trim_end().to_owned()),
        }
    }
}
