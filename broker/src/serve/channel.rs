//! A channel to the launcher or to a worker: one frame a packet, descriptors along with it, and a
//! queue so that nothing here ever waits for the other end.

use crate::sys::descriptors::{receive, send};
use memcr_protocol::frame::{FrameError, Message, decode, encode};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// Why a channel can't be used further.
#[derive(Debug, Error)]
pub(crate) enum ChannelError {
    /// The other end is closed.
    #[error("the other end is closed")]
    Closed,
    /// A system call failed.
    #[error("{0}")]
    System(io::Error),
    /// What came or was to be sent is no message of this channel.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A packet longer than any message.
    #[error("a packet is longer than any message")]
    TooLong,
}

/// Our end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Channel {
    /// A new channel, and the socket for the other end.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self { socket, queue: VecDeque::new() }, other))
    }

    /// Sends a message, now or as soon as there is room.
    ///
    /// # Errors
    /// [`ChannelError`]; a closed end is found by [`Channel::receive`] as well.
    pub(crate) fn send<M: Message>(
        &mut self,
        message: &M,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        self.queue.push_back((encode(message)?, descriptors));
        self.flush()
    }

    /// Sends what is queued, as far as there is room.
    ///
    /// # Errors
    /// [`ChannelError`], as [`Channel::send`].
    pub(crate) fn flush(&mut self) -> Result<(), ChannelError> {
        while let Some((packet, descriptors)) = self.queue.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match send(self.socket.as_fd(), packet, &borrowed) {
                Ok(_) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(classify(error)),
            }
        }
        Ok(())
    }

    /// Whether something waits for room.
    pub(crate) fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next message, if there is one now. `buffer` must have room for `M::LIMIT` and its length. Descriptors
    /// that came with it are closed.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn receive<M: Message>(&self, buffer: &mut [u8]) -> Result<Option<M>, ChannelError> {
        self.receive_with(buffer, &mut Vec::new())
    }

    /// The same with its descriptors, which are added to `descriptors`.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) fn receive_with<M: Message>(
        &self,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Option<M>, ChannelError> {
        let received = match receive(self.socket.as_fd(), buffer, descriptors) {
            // told once, before what came last: the other end was closed with something unread in it
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                receive(self.socket.as_fd(), buffer, descriptors)
            }
            other => other,
        };
        let received = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other.map_err(classify)?,
        };
        if received.data_cut {
            return Err(ChannelError::TooLong);
        }
        match buffer.get(..received.length) {
            None | Some([]) => Err(ChannelError::Closed),
            Some(packet) => Ok(Some(decode(packet)?)),
        }
    }
}

impl Drop for Channel {
    /// Ends it at once, even if something keeps the socket itself open: workers wake their targets when
    /// they see this end.
    fn drop(&mut self) {
        // fails if the other end is gone
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn classify(error: io::Error) -> ChannelError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
            ChannelError::Closed
        }
        _ => ChannelError::System(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcr_protocol::worker::WorkerCommand;
    use std::fs::File;

    fn other(socket: OwnedFd) -> Channel {
        Channel { socket, queue: VecDeque::new() }
    }

    #[test]
    fn what_finds_no_room_is_sent_later_in_order_and_nothing_waits() {
        let (mut channel, socket) = Channel::pair().unwrap();
        let far = other(socket);
        let mut sent = 0;
        while !channel.is_behind() {
            channel.send(&WorkerCommand::Restore { ticket: sent }, Vec::new()).unwrap();
            sent += 1;
        }
        let mut buffer = [0; 256];
        for expected in 0..sent {
            let command = far.receive::<WorkerCommand>(&mut buffer).unwrap();
            assert_eq!(command, Some(WorkerCommand::Restore { ticket: expected }));
            channel.flush().unwrap();
        }
        assert!(!channel.is_behind());
        assert_eq!(far.receive::<WorkerCommand>(&mut buffer).unwrap(), None);
    }

    #[test]
    fn descriptors_come_with_their_message_to_who_wants_them() {
        let (mut channel, socket) = Channel::pair().unwrap();
        let far = other(socket);
        let file = || vec![File::open("/dev/null").unwrap().into()];
        for descriptors in [file(), Vec::new(), file()] {
            channel.send(&WorkerCommand::Wake, descriptors).unwrap();
        }
        let (mut buffer, mut descriptors) = ([0; 256], Vec::new());
        for expected in [1, 1] {
            far.receive_with::<WorkerCommand>(&mut buffer, &mut descriptors).unwrap().unwrap();
            assert_eq!(descriptors.len(), expected);
        }
        assert!(far.receive::<WorkerCommand>(&mut buffer).unwrap().is_some());
    }

    #[test]
    fn a_closed_end_is_told_once_all_that_came_is_read() {
        let (mut channel, socket) = Channel::pair().unwrap();
        let far = other(socket);
        let file = File::open("/dev/null").unwrap().into();
        channel.send(&WorkerCommand::Wake, vec![file]).unwrap();
        drop(channel);
        let mut buffer = [0; 256];
        assert_eq!(far.receive::<WorkerCommand>(&mut buffer).unwrap(), Some(WorkerCommand::Wake));
        assert!(matches!(far.receive::<WorkerCommand>(&mut buffer), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_came_last_is_read_though_the_other_end_was_closed_with_something_unread() {
        let (mut channel, socket) = Channel::pair().unwrap();
        let mut far = other(socket);
        channel.send(&WorkerCommand::Wake, Vec::new()).unwrap();
        far.send(&WorkerCommand::Wake, Vec::new()).unwrap();
        // as the end of a process does it
        let Channel { socket, .. } = &channel;
        let number = socket.as_raw_fd();
        nix::unistd::close(number).unwrap();
        std::mem::forget(channel);
        let mut buffer = [0; 256];
        assert_eq!(far.receive::<WorkerCommand>(&mut buffer).unwrap(), Some(WorkerCommand::Wake));
        assert!(matches!(far.receive::<WorkerCommand>(&mut buffer), Err(ChannelError::Closed)));
    }

    #[test]
    fn an_end_is_closed_for_the_other_though_something_keeps_its_socket_open() {
        let (channel, socket) = Channel::pair().unwrap();
        let far = other(socket);
        let _kept = channel.socket.try_clone().unwrap();
        drop(channel);
        assert!(matches!(far.receive::<WorkerCommand>(&mut [0; 256]), Err(ChannelError::Closed)));
    }
}
