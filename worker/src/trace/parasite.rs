//! The parasite in the target: put in, given orders, taken home.

use crate::arch::{self, VECTOR_LIMIT, VECTOR_STATE};
use crate::error::{Error, Result};
use crate::sys::poll::{remaining, wait};
use crate::sys::ptrace;
use crate::sys::{memory, pidfd, socket};
use crate::trace::STEP_SECONDS;
use crate::trace::blob::BLOB;
use crate::trace::puppet::Puppet;
use crate::trace::tracees::Tracees;
use memcr_protocol::deposit::Debris;
use memcr_protocol::parasite::{Answer, BUFFER_LENGTH, MAX_RANGES, Order, Range, Start};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Bytes of the parasite's stack.
const STACK_LENGTH: u64 = 16 * 1024;
/// Room for the signal frame that leads home: the vector state and some more.
const FRAME_LENGTH: u64 = VECTOR_LIMIT as u64 + 4096;

/// Protection and kind of the mappings (the same on all architectures).
const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const READ_EXECUTE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const PRIVATE_ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;

/// Everything of ours in the target, from the first mapping on; [`Parasite::remove`] takes it out
/// again however far it got.
pub(crate) struct Parasite {
    puppet: Puppet,
    mappings: Vec<(u64, u64)>,
    descriptors: Vec<i32>,
    socket: Option<OwnedFd>,
    vector_state: Vec<u8>,
    running: bool,
    guard: Option<i32>,
}

impl Parasite {
    /// A parasite that isn't there yet.
    pub(crate) fn new(puppet: Puppet) -> Result<Self> {
        let vector_state = ptrace::register_set(puppet.tid(), VECTOR_STATE, VECTOR_LIMIT)
            .map_err(Error::system("reading the vector state of thread", puppet.tid()))?;
        Ok(Self {
            puppet,
            mappings: Vec::new(),
            descriptors: Vec::new(),
            socket: None,
            vector_state,
            running: false,
            guard: None,
        })
    }

    /// The thread it lives in.
    pub(crate) fn puppet(&mut self) -> &mut Puppet {
        &mut self.puppet
    }

    /// Maps and writes the code and its memory, connects it and lets it run.
    pub(crate) fn inject(
        &mut self,
        tracees: &mut Tracees,
        target: BorrowedFd<'_>,
        page_size: u64,
    ) -> Result<()> {
        let code_length = (BLOB.len() as u64).next_multiple_of(page_size);
        // start, buffer, frame, stack
        let buffer_offset = page_size;
        let frame_offset = (buffer_offset + BUFFER_LENGTH as u64).next_multiple_of(page_size);
        let stack_offset = (frame_offset + FRAME_LENGTH).next_multiple_of(page_size);
        let length = (stack_offset + STACK_LENGTH).next_multiple_of(page_size);
        // read and execute, and written from outside: works where write and execute is forbidden
        let code = self.map(tracees, code_length, READ_EXECUTE)?;
        let memory = self.map(tracees, length, READ_WRITE)?;
        ptrace::write(self.puppet.tid(), code, BLOB)
            .map_err(Error::system("writing the parasite into process", tracees.pid()))?;
        let number = self.connect(tracees, target, memory)?;
        let start = Start {
            buffer: memory + buffer_offset,
            home: memory + frame_offset,
            socket: number,
            reserved: 0,
        };
        let home = self.puppet.home();
        let frame = arch::home_frame(home, &self.vector_state, self.puppet.signal_mask(), start.home);
        let write = |address, bytes: &[u8]| {
            memory::write_remote(tracees.pid(), address, bytes)
                .map_err(Error::system("preparing the parasite in process", tracees.pid()))
        };
        write(start.home, &frame)?;
        write(memory, memory::bytes_of(&start))?;
        self.puppet.start(code, memory, memory + length, tracees)?;
        self.running = true;
        Ok(())
    }

    fn map(&mut self, tracees: &mut Tracees, length: u64, protection: u64) -> Result<u64> {
        let arguments = [0, length, protection, PRIVATE_ANONYMOUS, u64::MAX, 0];
        let address = self.puppet.call_checked(tracees, "mapping memory", libc::SYS_mmap, arguments)?;
        self.mappings.push((address, length));
        Ok(address)
    }

    /// Makes a pair of sockets in the target and takes one end out; the number of the other.
    fn connect(&mut self, tracees: &mut Tracees, target: BorrowedFd<'_>, scratch: u64) -> Result<i32> {
        let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
        let arguments = [libc::AF_UNIX as u64, kind, 0, scratch, 0, 0];
        self.puppet.call_checked(tracees, "making a socket", libc::SYS_socketpair, arguments)?;
        let mut bytes = [0; 8];
        memory::read_remote(tracees.pid(), scratch, &mut bytes)
            .map_err(Error::system("reading memory of process", tracees.pid()))?;
        let [a, b, c, d, e, f, g, h] = bytes;
        let (ours, theirs) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        self.descriptors = vec![ours, theirs];
        let socket = pidfd::duplicate_descriptor(target, ours)
            .map_err(Error::system("taking a socket out of process", tracees.pid()))?;
        self.socket = Some(socket);
        self.close(tracees, ours)?;
        Ok(theirs)
    }

    fn close(&mut self, tracees: &mut Tracees, number: i32) -> Result<()> {
        self.descriptors.retain(|&other| other != number);
        close_in_target(&mut self.puppet, tracees, number)
    }

    /// Number of the socket to it, for the list of descriptors that survive.
    pub(crate) fn socket_number(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_raw_fd())
    }

    /// Notes that the target holds the guard under this number; [`Parasite::remove`] leaves it open
    /// unless told otherwise.
    pub(crate) fn set_guard(&mut self, number: i32) {
        self.guard = Some(number);
    }

    /// What a successor would have to remove.
    pub(crate) fn debris(&self) -> Debris {
        let mut mappings = [(0, 0); 2];
        for (place, mapping) in mappings.iter_mut().zip(&self.mappings) {
            *place = *mapping;
        }
        Debris { mappings, guard: self.guard }
    }

    /// Gives one order and waits for its answer.
    pub(crate) fn order(
        &mut self,
        tracees: &mut Tracees,
        command: u32,
        ranges: &[Range],
        descriptors: &[RawFd],
    ) -> Result<Answer> {
        debug_assert!(ranges.len() <= MAX_RANGES);
        let order = Order { command, count: u32::try_from(ranges.len()).unwrap_or(u32::MAX) };
        let mut packet = memory::bytes_of(&order).to_vec();
        for range in ranges {
            packet.extend_from_slice(memory::bytes_of(range));
        }
        let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
        let failed = || Error::system("talking to the parasite in process", tracees.pid());
        socket::send(socket, &packet, descriptors).map_err(failed())?;
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        loop {
            let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
            match socket::receive(socket, size_of::<Answer>(), false) {
                Ok((bytes, _)) => {
                    return memory::value_of(&bytes).ok_or_else(|| {
                        Error::Protocol(format!(
                            "the parasite in process {} gave no valid answer",
                            tracees.pid()
                        ))
                    });
                }
                Err(Errno::EAGAIN) => self.wait(tracees, deadline)?,
                Err(cause) => {
                    return Err(Error::system("talking to the parasite in process", tracees.pid())(cause));
                }
            }
        }
    }

    /// Waits for an answer, or for something that happens to the thread.
    fn wait(&mut self, tracees: &mut Tracees, deadline: Instant) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
        let mut polled = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(tracees.signals(), PollFlags::POLLIN),
        ];
        let ready = wait(&mut polled, Some(remaining(deadline)));
        if ready.map_err(Error::system("waiting for the parasite in process", tracees.pid()))? == 0
            && Instant::now() >= deadline
        {
            return Err(Error::Timeout {
                pid: tracees.pid().as_raw(),
                what: "the parasite in it",
                seconds: STEP_SECONDS,
            });
        }
        tracees.drain_signals();
        while let Some((tid, stop)) = tracees.next_stop()? {
            if stop == ptrace::Stop::Exited {
                return Err(tracees.lost());
            }
            if tid == self.puppet.tid() {
                self.puppet.note(stop, tracees)?;
                ptrace::resume(tid, 0).map_err(|_| tracees.lost())?;
            }
        }
        Ok(())
    }

    /// Takes the parasite home and everything of it out of the target; of the guard only if asked to. The
    /// thread is given back whatever fails.
    pub(crate) fn remove(mut self, tracees: &mut Tracees, close_guard: bool) -> Result<()> {
        let cleaned = self.clean(tracees, close_guard);
        let released = self.puppet.release(tracees);
        cleaned.and(released)
    }

    fn clean(&mut self, tracees: &mut Tracees, close_guard: bool) -> Result<()> {
        if self.running {
            self.puppet.stop(tracees)?;
            ptrace::set_register_set(self.puppet.tid(), VECTOR_STATE, &self.vector_state)
                .map_err(Error::system("restoring the vector state of thread", self.puppet.tid()))?;
        }
        let guard = self.guard.filter(|_| close_guard);
        for number in self.descriptors.clone().into_iter().chain(guard) {
            self.close(tracees, number)?;
        }
        for (address, length) in std::mem::take(&mut self.mappings) {
            unmap_in_target(&mut self.puppet, tracees, address, length)?;
        }
        Ok(())
    }
}

/// Closes a descriptor of the target.
pub(crate) fn close_in_target(puppet: &mut Puppet, tracees: &mut Tracees, number: i32) -> Result<()> {
    let arguments = [u64::from(number as u32), 0, 0, 0, 0, 0];
    match puppet.call_checked(tracees, "closing a descriptor", libc::SYS_close, arguments) {
        // an orphaned parasite has closed it already
        Err(Error::System { cause: Errno::EBADF, .. }) => Ok(()),
        result => result.map(drop),
    }
}

/// Unmaps memory of the target.
pub(crate) fn unmap_in_target(
    puppet: &mut Puppet,
    tracees: &mut Tracees,
    address: u64,
    length: u64,
) -> Result<()> {
    let arguments = [address, length, 0, 0, 0, 0];
    puppet.call_checked(tracees, "unmapping memory", libc::SYS_munmap, arguments).map(drop)
}
