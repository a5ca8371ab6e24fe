//! Events to the broker, orders from it.

use crate::error::{Error, Result};
use crate::record::{self, Role};
use crate::sys::socket;
use memcr_protocol::frame::{self, Message as _};
use memcr_protocol::report::State;
use memcr_protocol::worker::{WorkerCommand, WorkerEvent};
use nix::errno::Errno;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// The worker's end of the control socket.
pub(crate) struct Broker {
    socket: OwnedFd,
}

/// What the broker wants.
pub(crate) enum Order {
    /// A client, whose socket this is, wants the target to run.
    Restore {
        /// Repeated in the answer.
        ticket: u64,
        /// The client's socket.
        client: OwnedFd,
    },
    /// The daemon ends, or is gone.
    Wake,
}

impl Broker {
    /// Takes over the control socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// For polling.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// For the list of descriptors that survive.
    pub(crate) fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Tells the broker something. If it is gone the next look for orders says so.
    pub(crate) fn tell(&self, event: &WorkerEvent) {
        if let Ok(frame) = frame::encode(event) {
            let _ = socket::send(&self.socket, &frame, &[]);
        }
    }

    /// Tells how far the work is, unless the broker is behind with reading.
    pub(crate) fn tell_progress(&self, state: State, done: u64, total: u64) {
        if let Ok(frame) = frame::encode(&WorkerEvent::Progress { state, done, total }) {
            let _ = socket::send_if_room(&self.socket, &frame);
        }
    }

    /// The next order, if there is one. A broker that is gone wants everything awake. One that makes no sense is
    /// put on record.
    ///
    /// # Errors
    /// When there was an order and it is none of those that a broker gives.
    pub(crate) fn order(&self) -> Result<Option<Order>> {
        let order = self.receive();
        if let Err(Error::Violation { job, reason }) = &order {
            record::violation(Role::Worker, *job, reason);
        }
        order
    }

    fn receive(&self) -> Result<Option<Order>> {
        let (packet, mut descriptors) =
            match socket::receive(&self.socket, WorkerCommand::LIMIT + frame::PREFIX_LENGTH, false) {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                Err(Errno::ECONNRESET) => return Ok(Some(Order::Wake)),
                Err(Errno::EMSGSIZE) => {
                    let reason = "an order is too long, or came with too many descriptors";
                    return Err(Error::Violation { job: None, reason: reason.into() });
                }
                received => received.map_err(Error::system("receiving from", "the broker"))?,
            };
        if packet.is_empty() {
            return Ok(Some(Order::Wake));
        }
        match (frame::decode(&packet), descriptors.pop()) {
            (Ok(WorkerCommand::Wake), _) => Ok(Some(Order::Wake)),
            (Ok(WorkerCommand::Restore { ticket }), Some(client)) if descriptors.is_empty() => {
                Ok(Some(Order::Restore { ticket, client }))
            }
            (Ok(WorkerCommand::Restore { .. }), _) => {
                let reason = "a restore came without exactly one client".into();
                Err(Error::Violation { job: Some("restore"), reason })
            }
            (Err(error), _) => {
                Err(Error::Violation { job: None, reason: format!("an order is malformed: {error}") })
            }
        }
    }
}
