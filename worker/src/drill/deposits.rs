//! What a captured worker may try with the socket by which it leaves deposits.

use crate::sys::{poll, socket};
use memcr_drill::{Outcome, Refused, fact};
use memcr_protocol::deposit::{Deposit, KeyBytes, Word};
use memcr_protocol::frame::{self, Message as _};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Tries what has this name.
pub(super) fn attempt(name: &str) -> Option<Outcome> {
    match name {
        "ask-launcher-for-descriptors" => Some(ask_for_descriptors()),
        "confuse-launcher" => Some(confuse()),
        _ => None,
    }
}

fn refused(cause: Errno) -> Refused {
    Refused { call: "deposit", number: cause as i32 }
}

/// Our end of the socket.
fn deposits() -> Result<OwnedFd, Refused> {
    let number = fact("deposits").parse().map_err(|_| refused(Errno::EBADF))?;
    crate::sys::descriptors::duplicate(number).map_err(refused)
}

fn leave(deposit: &Deposit, descriptors: &[i32]) -> Outcome {
    let frame = frame::encode(deposit).map_err(|_| refused(Errno::EINVAL))?;
    socket::send(deposits()?, &frame, descriptors).map_err(refused)
}

/// Every question, and forged heritages: it works if anything comes back with a descriptor, or that is no word.
fn ask_for_descriptors() -> Outcome {
    let socket = deposits()?;
    leave(&Deposit::WhoIs, &[2])?;
    leave(&Deposit::IsPolicyNewer { generation: u32::MAX }, &[])?;
    leave(&Deposit::Claim { rule: "group".into(), limit: u32::MAX }, &[])?;
    leave(&Deposit::Sleep { key: KeyBytes([0; 32]) }, &[])?;
    loop {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll::wait(&mut polled, Some(PATIENCE)).map_err(refused)? == 0 {
            return Err(refused(Errno::ENODATA));
        }
        let (packet, descriptors) =
            socket::receive(&socket, Word::LIMIT + frame::PREFIX_LENGTH, false).map_err(refused)?;
        if packet.is_empty() {
            return Err(refused(Errno::EPIPE));
        }
        if !descriptors.is_empty() || frame::decode::<Word>(&packet).is_err() {
            return Ok(());
        }
    }
}

/// Says what is no deposit.
fn confuse() -> Outcome {
    socket::send(deposits()?, &[0xff; 64], &[2, 2]).map_err(refused)
}
