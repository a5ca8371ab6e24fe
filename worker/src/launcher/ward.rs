//! What the launcher keeps for one worker, so that its death harms nobody.

use crate::image::Key;
use crate::phase::image_file;
use crate::phase::succeed::{Bequest, Inheritance};
use crate::sys::{memory, pidfd, socket};
use memcr_protocol::deposit::{Debris, Deposit, Word};
use memcr_protocol::frame::{self, Message as _};
use nix::unistd::Pid;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;
use zeroize::Zeroizing;

/// Deposits that are taken in one go.
const DEPOSITS_AT_ONCE: usize = 16;

/// One worker and what it has deposited.
pub(super) struct Ward {
    /// Ticket of its job.
    pub(super) ticket: u64,
    /// Its process; none while a successor is to be tried again.
    pub(super) worker: Option<Pid>,
    /// When that is.
    pub(super) again_at: Option<Instant>,
    /// The launcher's end of the deposit socket, until the other is closed.
    pub(super) deposits: Option<OwnedFd>,
    /// The worker's control socket, for a successor.
    pub(super) control: OwnedFd,
    /// The target's pidfd.
    target: OwnedFd,
    /// The target; none if it had ended before its worker began.
    pid: Option<Pid>,
    directory: OwnedFd,
    /// Name of its image.
    image: Option<String>,
    debris: Option<Debris>,
    sleep: Option<Bequest>,
    /// The guard, once all memory is back: the target may still have its copy.
    guard: Option<OwnedFd>,
    exit_kill: bool,
    settled: bool,
    /// Whether there was ever something to restore.
    slept: bool,
    /// Successors there have been.
    pub(super) successors: u32,
    /// What its worker asked and was not answered yet.
    pub(super) questions: Vec<Question>,
    /// The rule by which it has one of a limited number of places.
    pub(super) rule: Option<String>,
}

/// What a worker asks.
pub(super) enum Question {
    /// Who the client of this socket is.
    WhoIs(OwnedFd),
    /// Whether there is a newer policy.
    IsPolicyNewer { generation: u32 },
    /// Whether one more process may be asleep by this rule.
    Claim { rule: String, limit: u32 },
}

/// What to do after a worker's death.
pub(super) enum Next {
    /// Nothing of ours is left.
    Nothing,
    /// A successor must take over.
    Successor,
    /// The target dies with its worker, or is dead.
    Lost,
}

impl Ward {
    /// A worker that has just been forked.
    pub(super) fn new(
        ticket: u64,
        worker: Pid,
        deposits: OwnedFd,
        control: OwnedFd,
        (target, pid): (OwnedFd, Option<Pid>),
        directory: OwnedFd,
    ) -> Self {
        Self {
            ticket,
            worker: Some(worker),
            again_at: None,
            deposits: Some(deposits),
            control,
            pid,
            target,
            directory,
            image: None,
            debris: None,
            sleep: None,
            guard: None,
            exit_kill: false,
            settled: false,
            slept: false,
            successors: 0,
            questions: Vec::new(),
            rule: None,
        }
    }

    /// Takes deposits that are there, at most so many: a captured worker must not keep the launcher busy. A
    /// few are all that a worker leaves in its life.
    pub(super) fn collect(&mut self) {
        for _ in 0..DEPOSITS_AT_ONCE {
            let Some(deposits) = &self.deposits else { return };
            match socket::receive(deposits, Deposit::LIMIT + frame::PREFIX_LENGTH, false) {
                Ok((packet, descriptors)) => {
                    let packet = Zeroizing::new(packet);
                    match frame::decode(&packet) {
                        Ok(deposit) => self.keep(deposit, descriptors),
                        // a worker that sends nonsense is listened to no more; its end is another's (empty)
                        Err(_) => self.deposits = None,
                    }
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return,
                // told once, before what came last: the worker ended with an answer unread
                Err(nix::errno::Errno::ECONNRESET) => {}
                Err(_) => self.deposits = None,
            }
        }
    }

    fn keep(&mut self, deposit: Deposit, descriptors: Vec<OwnedFd>) {
        match deposit {
            // never a name that the worker chose: it may be in the hands of an attacker
            Deposit::Image { random } => self.image = self.pid.map(|pid| image_file::name(pid, random)),
            Deposit::Debris(debris) => self.debris = Some(debris),
            Deposit::ExitKill => self.exit_kill = true,
            Deposit::Restored => {
                self.guard = self.sleep.take().map(|bequest| bequest.guard);
                (self.exit_kill, self.slept) = (false, false);
            }
            Deposit::Settled => {
                self.settled = true;
                (self.sleep, self.guard) = (None, None);
            }
            Deposit::WhoIs => self.questions.extend(descriptors.into_iter().next().map(Question::WhoIs)),
            Deposit::IsPolicyNewer { generation } => {
                self.questions.push(Question::IsPolicyNewer { generation });
            }
            Deposit::Claim { rule, limit } => self.questions.push(Question::Claim { rule, limit }),
            Deposit::Sleep { key } => {
                let key = Key::from_bytes(key);
                // a key that can't be locked is still wiped; refusing it would lose the target
                let _ = memory::lock(key.bytes());
                let mut descriptors = descriptors.into_iter();
                if let (Some(image), Some(guard), Some(memory)) =
                    (descriptors.next(), descriptors.next(), descriptors.next())
                {
                    self.slept = true;
                    self.sleep = Some(Bequest { image: image.into(), guard, memory: memory.into(), key });
                }
            }
        }
    }

    /// Says something to its worker; one that does not listen is not waited for.
    pub(super) fn tell(&self, word: &Word) {
        if let (Some(deposits), Ok(frame)) = (&self.deposits, frame::encode(word)) {
            let _ = socket::send_if_room(deposits, &frame);
        }
    }

    /// What to do now that its worker has ended. One that has not left word that all is settled has left
    /// something to do, by itself or not.
    pub(super) fn next(&self) -> Next {
        let dead = pidfd::has_exited(self.target.as_fd()).unwrap_or(true);
        if self.settled {
            Next::Nothing
        } else if dead || self.exit_kill {
            Next::Lost
        } else if self.sleep.is_some() || self.debris.is_some() {
            Next::Successor
        } else {
            Next::Nothing
        }
    }

    /// Whether memory of the target may have been freed.
    pub(super) fn is_asleep(&self) -> bool {
        self.sleep.is_some() || self.exit_kill
    }

    /// Whether there ever was something to restore, so that its last worker told how that went.
    pub(super) fn was_asleep(&self) -> bool {
        self.slept
    }

    /// Hands over to a successor; only of use in the child that becomes one.
    pub(super) fn into_inheritance(self) -> (Inheritance, OwnedFd) {
        let debris = self.debris.unwrap_or_default();
        (Inheritance { target: self.target, debris, sleep: self.sleep, guard: self.guard }, self.control)
    }

    /// Tells the worker that its broker is gone: the broker's end of the control socket may be held open by
    /// others, such as a process that can't end.
    pub(super) fn hang_up(&self) {
        socket::hang_up(&self.control);
    }

    /// Removes the image.
    pub(super) fn remove_image(&mut self) {
        if let Some(name) = self.image.take() {
            image_file::remove(self.directory.as_fd(), &name);
        }
    }
}
