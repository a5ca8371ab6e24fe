//! The parasite in the target: put in, given orders, taken home.

use crate::arch;
use crate::error::{Error, Result};
use crate::sys::poll::{remaining, wait};
use crate::sys::ptrace;
use crate::sys::{memory, socket};
use crate::target::proc_directory::{NotTold, ProcDirectory};
use crate::trace::STEP_SECONDS;
use crate::trace::blob::BLOB;
use crate::trace::meeting::{self, CALLS, Met};
use crate::trace::place::Place;
use crate::trace::puppet::Puppet;
use crate::trace::rendezvous::Rendezvous;
use crate::trace::tracees::Tracees;
use memcr_protocol::deposit::Debris;
use memcr_protocol::parasite::{Answer, FREE, MAX_RANGES, OPEN, Order, PROTECTED, Range, Start};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Protection and kind of the mappings (the same on all architectures).
const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const READ_EXECUTE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const PRIVATE_ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
/// Where nothing is yet, and over what we mapped ourselves.
const NEW: u64 = PRIVATE_ANONYMOUS | libc::MAP_FIXED_NOREPLACE as u64;
const OVER: u64 = PRIVATE_ANONYMOUS | libc::MAP_FIXED as u64;

/// Everything of ours in the target, from the first mapping on; [`Parasite::remove`] takes it out
/// again however far it got. Should this process die, the parasite closes what it has opened and goes
/// home by itself, and its memory is left for a successor.
pub(crate) struct Parasite {
    puppet: Puppet,
    place: Place,
    socket: Option<OwnedFd>,
    /// Number and inode of its own end in the target.
    own_socket: Option<(i32, u64)>,
    guard: Option<i32>,
    is_mapped: bool,
    /// Whether the thread is in its code, and whether it runs there.
    is_prepared: bool,
    is_running: bool,
    /// Whether it is stopped behind its last system call, with nothing left to do.
    has_left: bool,
}

impl Parasite {
    /// A parasite that isn't there yet.
    pub(crate) fn new(puppet: Puppet, place: Place) -> Self {
        Self {
            puppet,
            place,
            socket: None,
            own_socket: None,
            guard: None,
            is_mapped: false,
            is_prepared: false,
            is_running: false,
            has_left: false,
        }
    }

    /// The thread it lives in.
    pub(crate) fn puppet(&mut self) -> &mut Puppet {
        &mut self.puppet
    }

    /// Maps and writes the code and its memory, lets it run and connects to it. What
    /// [`Parasite::debris`] says must be known to the launcher by then.
    pub(crate) fn inject(
        &mut self,
        tracees: &mut Tracees,
        live: &ProcDirectory,
        rendezvous: &Rendezvous<'_>,
    ) -> Result<()> {
        let place = self.place;
        // read and execute, and written from outside: works where write and execute is forbidden
        self.map(tracees, place.address, place.length, READ_EXECUTE, NEW)?;
        self.is_mapped = true;
        self.map(tracees, place.memory(), place.length - place.code_length, READ_WRITE, OVER)?;
        ptrace::write(self.puppet.tid(), place.address, BLOB)
            .map_err(Error::system("writing the parasite into process", tracees.pid()))?;
        let name = rendezvous.name();
        let start = Start { buffer: place.buffer(), home: place.frame(), sockets: [-1; 2], name };
        let (tid, home, mask) = (self.puppet.tid(), self.puppet.home(), self.puppet.signal_mask());
        let frame = arch::home_frame(home, self.puppet.vector_state(), mask, start.home);
        let write = |address, bytes: &[u8]| {
            memory::write_remote(tid, address, bytes)
                .map_err(Error::system("preparing the parasite in process", tracees.pid()))
        };
        write(start.home, &frame)?;
        write(place.memory(), memory::bytes_of(&start))?;
        self.puppet.prepare(place.address, place.memory(), place.end())?;
        self.is_prepared = true;
        self.connect(tracees, live, rendezvous)
    }

    fn map(
        &mut self,
        tracees: &mut Tracees,
        address: u64,
        length: u64,
        protection: u64,
        kind: u64,
    ) -> Result<()> {
        let arguments = [address, length, protection, kind, u64::MAX, 0];
        let mapped = match self.puppet.call_checked(tracees, "mapping memory", arch::MMAP, arguments) {
            Err(Error::System { cause: Errno::ENOMEM, .. }) => {
                return Err(Error::Refused {
                    pid: tracees.pid().as_raw(),
                    reason:
                        "it has no room for two more mappings, by its limits (vm.max_map_count, RLIMIT_AS)"
                            .into(),
                });
            }
            mapped => mapped?,
        };
        if mapped == address { Ok(()) } else { Err(tracees.lost()) }
    }

    /// Meets it and lets it run.
    fn connect(
        &mut self,
        tracees: &mut Tracees,
        live: &ProcDirectory,
        rendezvous: &Rendezvous<'_>,
    ) -> Result<()> {
        let met = meeting::meet(rendezvous, &mut self.puppet, tracees, &self.place);
        let Met { socket, own } = met.map_err(|not_met| {
            self.has_left = not_met.has_left;
            not_met.error
        })?;
        let told = live.inode_of_descriptor(own).unwrap_or_else(|NotTold| rendezvous.inode_of(own));
        let inode = told.ok_or_else(|| Error::Refused {
            pid: tracees.pid().as_raw(),
            reason: "the kernel doesn't tell which file a descriptor is of (Linux 5.14 does)".into(),
        })?;
        self.own_socket = Some((own, inode));
        self.socket = Some(socket);
        self.is_running = true;
        ptrace::resume(self.puppet.tid(), 0).map_err(|_| tracees.lost())
    }

    /// Number of the socket to it, for the list of descriptors that survive.
    pub(crate) fn socket_number(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_raw_fd())
    }

    /// Notes that the target holds the guard under this number.
    pub(crate) fn set_guard(&mut self, number: i32) {
        self.guard = Some(number);
    }

    /// What a successor would have to remove; `frame` is where its thread's way home is.
    pub(crate) fn debris(&self, frame: (u64, u64)) -> Debris {
        Debris { place: self.place.debris(), socket: self.own_socket, frame, guard: self.guard }
    }

    /// Has it open what only the target may open; the answer, and the descriptors.
    pub(crate) fn open(
        &mut self,
        tracees: &mut Tracees,
        descriptors: &[RawFd],
        is_protected: bool,
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        let order = Order { command: OPEN, count: if is_protected { PROTECTED } else { 0 } };
        self.exchange(tracees, order, &[], descriptors)
    }

    /// Gives one order and waits for its answer.
    pub(crate) fn order(&mut self, tracees: &mut Tracees, command: u32, ranges: &[Range]) -> Result<Answer> {
        let order = Order { command, count: u32::try_from(ranges.len()).unwrap_or(u32::MAX) };
        self.exchange(tracees, order, ranges, &[]).map(|(answer, _)| answer)
    }

    fn exchange(
        &mut self,
        tracees: &mut Tracees,
        order: Order,
        ranges: &[Range],
        descriptors: &[RawFd],
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        debug_assert!(ranges.len() <= MAX_RANGES);
        if order.command == FREE {
            self.puppet.wait_without_limit();
        }
        let mut packet = memory::bytes_of(&order).to_vec();
        for range in ranges {
            packet.extend_from_slice(memory::bytes_of(range));
        }
        let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
        let failed = || Error::system("talking to the parasite in process", tracees.pid());
        // a parasite has read what came before; a socket without room is not the one that it made
        socket::offer(socket, &packet, descriptors).map_err(failed())?;
        let deadline = self.puppet.deadline();
        loop {
            let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
            match socket::receive(socket, size_of::<Answer>(), false) {
                Ok((bytes, descriptors)) => {
                    let answer = memory::value_of(&bytes);
                    return answer.map(|answer| (answer, descriptors)).ok_or_else(|| {
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
    fn wait(&mut self, tracees: &mut Tracees, deadline: Option<Instant>) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
        let mut polled = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(tracees.signals(), PollFlags::POLLIN),
        ];
        let time = deadline.map_or(Duration::from_secs(STEP_SECONDS), remaining);
        let ready = wait(&mut polled, Some(time));
        let ready = ready.map_err(Error::system("waiting for the parasite in process", tracees.pid()))?;
        if ready == 0 {
            let is_over = match deadline {
                Some(deadline) => Instant::now() >= deadline,
                None => self.has_lost_its_order(tracees)?,
            };
            if is_over {
                return Err(Error::Timeout {
                    pid: tracees.pid().as_raw(),
                    what: "the parasite in it",
                    seconds: STEP_SECONDS,
                });
            }
        }
        tracees.drain_signals();
        while let Some((tid, stop)) = tracees.next_stop()? {
            if stop == ptrace::Stop::Exited {
                return Err(tracees.lost());
            }
            if tid == self.puppet.tid() {
                // it stays stopped with what it can't bear
                self.is_running = false;
                self.puppet.note(stop, tracees)?;
                self.is_running = true;
                ptrace::resume(tid, 0).map_err(|_| tracees.lost())?;
            }
        }
        Ok(())
    }

    /// Whether the parasite, which may take as long as it needs, waits for an order that it was given: then
    /// somebody who shares the target's descriptors has taken that away, and it would wait for ever. It is stopped
    /// then.
    fn has_lost_its_order(&mut self, tracees: &mut Tracees) -> Result<bool> {
        self.puppet.stop(tracees)?;
        self.is_running = false;
        let socket = self.socket.as_ref().ok_or_else(|| tracees.lost())?;
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let answered = wait(&mut polled, Some(Duration::ZERO))
            .map_err(Error::system("waiting for the parasite in process", tracees.pid()))?;
        if answered == 0 && self.puppet.is_interrupted_in(libc::SYS_recvmsg, &self.place, tracees)? {
            return Ok(true);
        }
        self.is_running = true;
        ptrace::resume(self.puppet.tid(), 0).map_err(|_| tracees.lost())?;
        Ok(false)
    }

    /// Takes the parasite home and everything of it out of the target, except the guard once it was told
    /// to free.
    ///
    /// # Errors
    /// Nobody knows where its thread is then, so nothing may be done to it. It finds home by itself once this
    /// process has ended; what is left is for a successor.
    pub(crate) fn remove(mut self, tracees: &mut Tracees) -> Result<()> {
        if self.is_prepared {
            self.take_home(tracees)?;
        }
        if self.is_mapped {
            unmap_in_target(&mut self.puppet, tracees, self.place.debris())?;
        }
        self.puppet.release(tracees)
    }

    fn take_home(&mut self, tracees: &mut Tracees) -> Result<()> {
        if self.is_running {
            self.puppet.stop(tracees)?;
        }
        // what it freed is freed now. If somebody closed its socket it has gone home by itself already, and
        // would be waited for as long as the program does nothing
        self.puppet.wait_with_limit();
        if !self.has_left {
            self.let_leave(tracees)?;
        }
        self.puppet.leave_call(tracees)?;
        self.puppet.go_home()
    }

    /// Lets it do what it does when this process dies: close what it opened, its socket last. Behind its last
    /// call it is stopped, since the way home by itself would forget the kernel's restart block (kernel fact 22).
    fn let_leave(&mut self, tracees: &mut Tracees) -> Result<()> {
        if let Some(socket) = self.socket.take() {
            socket::hang_up(&socket);
        }
        for _ in 0..CALLS {
            if self.puppet.next_call(tracees)?.is_farewell() {
                return Ok(());
            }
        }
        Err(Error::Timeout {
            pid: tracees.pid().as_raw(),
            what: "the parasite that is to leave it",
            seconds: STEP_SECONDS,
        })
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
    (address, length): (u64, u64),
) -> Result<()> {
    let arguments = [address, length, 0, 0, 0, 0];
    puppet.call_checked(tracees, "unmapping memory", libc::SYS_munmap, arguments).map(drop)
}
