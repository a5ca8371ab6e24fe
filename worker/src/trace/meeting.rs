//! The parasite and its worker meet. The worker lets it go from one system call to the next, and acts while it is
//! stopped; so nobody waits for the other, and what fails is known by the call that failed.

use crate::error::{Error, Result};
use crate::sys::{memory, pidfd};
use crate::trace::STEP_SECONDS;
use crate::trace::place::Place;
use crate::trace::puppet::{Call, Puppet};
use crate::trace::rendezvous::{Appointment, Rendezvous, Spot};
use crate::trace::tracees::Tracees;
use memcr_protocol::parasite::Start;
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// System calls of a parasite until it has met its worker or is about to go home, at most: four for each
/// stranger who may have connected, and some more.
pub(crate) const CALLS: usize = 600;

/// They have met. The parasite is stopped behind a system call.
pub(crate) struct Met {
    /// Our end.
    pub(crate) socket: OwnedFd,
    /// Number of its end in the target.
    pub(crate) own: RawFd,
}

/// They have not met.
pub(crate) struct NotMet {
    /// Why.
    pub(crate) error: Error,
    /// Whether the parasite is stopped behind its last system call, having closed and removed all of its own.
    pub(crate) has_left: bool,
}

impl From<Error> for NotMet {
    fn from(error: Error) -> Self {
        Self { error, has_left: false }
    }
}

/// Lets a parasite that is about to begin meet us.
pub(crate) fn meet(
    rendezvous: &Rendezvous<'_>,
    puppet: &mut Puppet,
    tracees: &mut Tracees,
    place: &Place,
) -> std::result::Result<Met, NotMet> {
    match rendezvous {
        Rendezvous::Pair(target) => Ok(take_end(*target, puppet, tracees, place)?),
        Rendezvous::Name(appointment) => keep(appointment, puppet, tracees),
    }
}

/// Lets it make a socketpair, and takes the first end while it is stopped behind that call.
fn take_end(
    target: BorrowedFd<'_>,
    puppet: &mut Puppet,
    tracees: &mut Tracees,
    place: &Place,
) -> Result<Met> {
    puppet.next_call(tracees)?;
    let mut bytes = vec![0; size_of::<Start>()];
    memory::TargetMemory::Thread(puppet.tid())
        .read(place.memory(), &mut bytes)
        .map_err(Error::system("reading memory of process", tracees.pid()))?;
    let made = memory::value_of::<Start>(&bytes).map(|start| start.sockets);
    let Some([ours, own]) = made.filter(|made| made.iter().all(|&number| number >= 0)) else {
        return Err(Error::Refused {
            pid: tracees.pid().as_raw(),
            reason: "it can't make a pair of sockets: it may have reached its limit of open files".into(),
        });
    };
    let socket = pidfd::duplicate_descriptor(target, ours)
        .map_err(Error::system("taking a socket out of process", tracees.pid()))?;
    Ok(Met { socket, own })
}

/// Lets it listen, connects while it is stopped behind that, and lets it take the connection.
fn keep(
    appointment: &Appointment,
    puppet: &mut Puppet,
    tracees: &mut Tracees,
) -> std::result::Result<Met, NotMet> {
    let listener = let_listen(&appointment.spot, puppet, tracees)?;
    let socket = appointment.connect()?;
    let own = let_accept(listener, &appointment.spot, puppet, tracees)?;
    Ok(Met { socket, own })
}

/// Number of the socket at which it listens.
fn let_listen(spot: &Spot, puppet: &mut Puppet, tracees: &mut Tracees) -> std::result::Result<RawFd, NotMet> {
    let mut failed: Option<Call> = None;
    for _ in 0..CALLS {
        let call = puppet.next_call(tracees)?;
        if call.is_farewell() {
            // without a call that failed: what it found in the place of its socket was none
            let error = failed.map_or_else(|| spot.replaced(), |call| spot.failed(&call));
            return Err(NotMet { error, has_left: true });
        }
        match call.error() {
            Some(_) => failed = failed.or(Some(call)),
            None if call.number == libc::SYS_listen => return Ok(call.argument),
            None => {}
        }
    }
    Err(too_many_calls(tracees).into())
}

/// Number of the connection that it has taken for ours, once it has closed and removed its socket.
fn let_accept(
    listener: RawFd,
    spot: &Spot,
    puppet: &mut Puppet,
    tracees: &mut Tracees,
) -> std::result::Result<RawFd, NotMet> {
    let mut accepted = None;
    let mut failed = None;
    for _ in 0..CALLS {
        let call = puppet.next_call(tracees)?;
        match (call.number, call.error()) {
            (libc::SYS_accept4, None) => accepted = RawFd::try_from(call.result).ok(),
            (libc::SYS_accept4, Some(_)) => failed = Some(call),
            (libc::SYS_unlinkat, Some(cause)) if cause != Errno::ENOENT => failed = Some(call),
            // a stranger's
            (libc::SYS_close, _) if accepted == Some(call.argument) => accepted = None,
            (libc::SYS_close, _) if call.argument == listener => {
                return match (failed, accepted) {
                    (None, Some(own)) => Ok(own),
                    (None, None) => Err(spot.not_recognised().into()),
                    (Some(call), _) => Err(spot.failed(&call).into()),
                };
            }
            _ => {}
        }
    }
    Err(too_many_calls(tracees).into())
}

fn too_many_calls(tracees: &Tracees) -> Error {
    Error::Timeout { pid: tracees.pid().as_raw(), what: "the parasite in it", seconds: STEP_SECONDS }
}

impl Spot {
    /// A system call of the parasite failed: what it was for, and what to do.
    fn failed(&self, call: &Call) -> Error {
        let cause = call.error().unwrap_or(Errno::UnknownErrno);
        let reason = match call.number {
            _ if matches!(cause, Errno::EMFILE | Errno::ENFILE) => {
                format!(
                    "it can't make a socket: {}; it may have reached its limit of open files",
                    cause.desc()
                )
            }
            libc::SYS_accept4 if cause == Errno::EAGAIN => return self.not_recognised(),
            libc::SYS_openat | libc::SYS_statx => return self.replaced(),
            libc::SYS_fchownat => format!(
                "it can't give the socket in its {self} to group {} (-G): {}; its user must be in that group",
                self.group.unwrap_or_default(),
                cause.desc()
            ),
            libc::SYS_unlinkat => {
                format!("it can't remove the socket {} in its {self}: {}; remove it", self.word, cause.desc())
            }
            _ => {
                format!("it can't make a socket in its {self}: {}; {}", cause.desc(), self.advice(cause))
            }
        };
        self.refused(reason)
    }

    fn advice(&self, cause: Errno) -> String {
        match cause {
            Errno::EACCES if self.directory.is_some() => "let its user make files there".into(),
            Errno::ENOENT | Errno::ENOTDIR => "make that directory where the process finds it".into(),
            Errno::EROFS => "that file system is read-only there; give another -S DIR".into(),
            Errno::EADDRINUSE => {
                format!("somebody has made one of that name; {}, and try again", self.privacy("write to"))
            }
            _ => "give another -S DIR".into(),
        }
    }

    fn replaced(&self) -> Error {
        let reason =
            format!("somebody has taken away the socket in its {self}; {}", self.privacy("write to"));
        self.refused(reason)
    }

    fn not_recognised(&self) -> Error {
        self.refused(format!(
            "its parasite did not find this worker among those who connected to the socket in its {self}"
        ))
    }
}
