//! The launcher, as its workers see it: deposits of what a successor needs, and questions.

use crate::error::{Error, Result};
use crate::sys::{poll, socket};
use memcr_protocol::deposit::{Deposit, Word};
use memcr_protocol::frame::{self, Message as _};
use memcr_protocol::launcher::PolicyText;
use memcr_protocol::subject::Peer;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long an answer is waited for. The launcher waits for nobody, so it comes at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The worker's end of the deposit socket.
pub(crate) struct Launcher {
    socket: OwnedFd,
}

impl Launcher {
    /// Takes over the deposit socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// For the list of descriptors that survive.
    pub(crate) fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Leaves something with the launcher. It is safe there once this returns: the packet is in the
    /// socket's buffer, where this process's death doesn't reach it.
    pub(crate) fn leave(&self, deposit: &Deposit, descriptors: &[RawFd]) -> Result<()> {
        let frame = frame::encode(deposit)
            .map(Zeroizing::new)
            .map_err(|error| Error::Protocol(format!("a deposit can't be encoded: {error}")))?;
        socket::send(&self.socket, &frame, descriptors)
            .map_err(Error::system("leaving a deposit with", "the launcher"))
    }

    /// Who the client of a socket is; `None` if the kernel doesn't name it.
    pub(crate) fn who_is(&self, client: BorrowedFd<'_>) -> Result<Option<Peer>> {
        self.leave(&Deposit::WhoIs, &[client.as_raw_fd()])?;
        match self.answer()? {
            Word::Peer(peer) => Ok(peer),
            Word::Claimed { .. } | Word::Policy { .. } => Err(out_of_turn()),
        }
    }

    /// Whether one more process may be asleep by this rule.
    pub(crate) fn claim(&self, rule: String, limit: u32) -> Result<bool> {
        self.leave(&Deposit::Claim { rule, limit }, &[])?;
        match self.answer()? {
            Word::Claimed { granted } => Ok(granted),
            Word::Peer(_) | Word::Policy { .. } => Err(out_of_turn()),
        }
    }

    /// The policy, if it is another than the one of this generation, with its own.
    pub(crate) fn newer_policy(&self, generation: u32) -> Result<Option<(u32, PolicyText)>> {
        self.leave(&Deposit::IsPolicyNewer { generation }, &[])?;
        match self.answer()? {
            Word::Policy { generation, newer } => Ok(newer.map(|newer| (generation, newer))),
            Word::Peer(_) | Word::Claimed { .. } => Err(out_of_turn()),
        }
    }

    fn answer(&self) -> Result<Word> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.receive()? {
                return Ok(answer);
            }
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            poll::wait(&mut polled, Some(poll::remaining(end)))
                .map_err(Error::system("waiting for", "the launcher"))?;
            if Instant::now() >= end {
                return Err(Error::Protocol(format!("the launcher did not answer within {PATIENCE:?}")));
            }
        }
    }

    fn receive(&self) -> Result<Option<Word>> {
        let failed = Error::system("hearing from", "the launcher");
        match socket::receive(&self.socket, Word::LIMIT + frame::PREFIX_LENGTH, false) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(cause) => Err(failed(cause)),
            Ok((packet, _)) if packet.is_empty() => Err(failed(Errno::EPIPE)),
            Ok((packet, _)) => {
                let word = frame::decode(&packet);
                word.map(Some).map_err(|error| Error::Protocol(format!("the launcher's word: {error}")))
            }
        }
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("the launcher answered another question".into())
}
