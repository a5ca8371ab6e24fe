//! Threads that a dead worker left in code of ours: they find home by themselves, and are waited for.

use super::{LOOK, Tracees, resume, set_registers};
use crate::arch::Registers;
use crate::error::{Error, Result};
use crate::sys::pidfd;
use crate::sys::poll::wait;
use crate::sys::ptrace;
use crate::target::proc_directory::{NotTold, ProcDirectory};
use crate::trace::blob;
use nix::unistd::Pid;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

impl Tracees {
    /// Waits, however long it takes, until an orphaned parasite has closed its socket, given as number and
    /// inode, and no thread that is stopped is in its code.
    ///
    /// The socket tells more than where its thread is: one that waits in the kernel for a guarded page is not
    /// to be told from one that frees memory there.
    pub(crate) fn let_parasite_home(
        &mut self,
        socket: Option<(i32, u64)>,
        place: (u64, u64),
        (directory, target): (&ProcDirectory, BorrowedFd<'_>),
    ) -> Result<()> {
        while !self.tids().is_empty() {
            self.let_home_from(place)?;
            // it is in one of those that have not stopped, or nowhere
            if self.running.is_empty() || !self.has_descriptor(socket, directory, target) {
                break;
            }
            wait(&mut [], Some(LOOK)).map_err(Error::system("waiting for", "the parasite"))?;
            self.wait_until_stopped(Instant::now())?;
        }
        Ok(())
    }

    /// Whether a descriptor of the target, if one is given, is open and of this inode. Any thread that is still
    /// there knows.
    fn has_descriptor(
        &self,
        descriptor: Option<(i32, u64)>,
        directory: &ProcDirectory,
        target: BorrowedFd<'_>,
    ) -> bool {
        let Some((number, inode)) = descriptor else { return false };
        let of_thread = |tid| match directory.thread(tid).ok()?.inode_of_descriptor(number) {
            Ok(inode) => inode,
            // there is one that may be copied, or there would be no socket
            Err(NotTold) => pidfd::inode_of_descriptor(target, number),
        };
        self.tids().into_iter().any(|tid| of_thread(tid) == Some(inode))
    }

    /// Lets threads run that are stopped in the code of an orphaned parasite, until none is. What one of them waits for
    /// at its socket will never come, and it isn't told so if an accomplice holds the other end: the wait ends as if it
    /// were closed.
    pub(crate) fn let_home_from(&mut self, (start, length): (u64, u64)) -> Result<()> {
        let is_inside = |registers: &Registers| registers.instruction_pointer().wrapping_sub(start) < length;
        loop {
            for (&tid, thread) in &mut self.threads {
                let registers = &mut thread.registers;
                let code = blob::code_at(start, registers.instruction_pointer());
                if is_inside(registers)
                    && registers.is_interrupted_in(&[libc::SYS_recvmsg, libc::SYS_sendmsg], code)
                {
                    registers.end_system_call(0);
                    set_registers(tid, registers)?;
                }
            }
            if self.let_home(LOOK, is_inside)? {
                return Ok(());
            }
        }
    }

    /// Lets threads run that work for a worker that has died, until none does or the time is over; whether
    /// none does.
    pub(crate) fn let_home(
        &mut self,
        time: Duration,
        works_for_us: impl Fn(&Registers) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            let inside: Vec<Pid> = self
                .threads
                .iter()
                .filter(|(_, thread)| works_for_us(&thread.registers))
                .map(|(&tid, _)| tid)
                .collect();
            if inside.is_empty() || Instant::now() >= deadline {
                return Ok(inside.is_empty());
            }
            for &tid in &inside {
                self.threads.remove(&tid);
                self.running.insert(tid);
                resume(ptrace::resume(tid, 0), tid)?;
            }
            wait(&mut [], Some(LOOK)).map_err(Error::system("waiting for", "the parasite"))?;
            for &tid in &inside {
                resume(ptrace::interrupt(tid), tid)?;
            }
            // not for others: they may wait for pages that are put back only when all this is done
            let deadline = Instant::now() + LOOK * 100;
            self.wait_while(deadline, |tracees| inside.iter().any(|tid| tracees.running.contains(tid)))?;
        }
    }
}
