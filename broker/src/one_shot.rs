//! `memcr -p PID`: one process, for the person who started it. The same broker, launcher and worker as
//! in the service; what is a client elsewhere lives in this process, at the other end of a
//! socketpair that was made before privileges were dropped and so names whoever started it.

use crate::cli::Arguments;
use crate::confine::Mode;
use crate::error::{Attempt, BrokerError};
use crate::render::{Renderer, failure, note};
use crate::serve::{Server, Turn};
use crate::service::confined;
use crate::startup;
use crate::startup::activation::Passed;
use crate::sys::descriptors::{receive, send};
use crate::sys::process::open_pidfd;
use memcr_protocol::client::{
    Answer, CheckpointOptions, ClientFrame, Completion, Request, ServerFrame, VERSION,
};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::frame::{Assembler, encode};
use nix::errno::Errno;
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// What the event loop watches for us.
const ANSWERS: u64 = 1;
const ENTER: u64 = 2;

/// Ids of our requests.
const CHECKPOINT: u32 = 1;
const RESTORE: u32 = 2;

/// Puts `pid` to sleep, waits for Enter, wakes it.
///
/// # Errors
/// [`BrokerError`] when it can't start, or can't go on; the target is woken by its worker then.
pub(crate) fn run(pid: i32, arguments: &Arguments, passed: Passed) -> Result<ExitCode, BrokerError> {
    let pidfd = match open_pidfd(pid) {
        Ok(pidfd) => pidfd,
        Err(cause) => {
            let (code, message) = unopened(pid, &cause);
            failure(&message);
            return Ok(ExitCode::from(code.exit_status()));
        }
    };
    let (socket, ours) = UnixStream::pair().attempt("make", "a socketpair")?;
    let renderer = Renderer::new(pid);
    let copy =
        |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().attempt("duplicate", "a descriptor");
    let within = (copy(ours.as_fd())?, copy(pidfd.as_fd())?);
    let foundation = startup::lay(arguments, passed, Some(within))?;
    let mut server = confined(foundation, Mode::OneShot)?;
    server.adopt(ours)?;
    server.watch_outside(&socket, ANSWERS)?;
    let mut shot = OneShot {
        pidfd,
        socket,
        assembler: Assembler::new(),
        wait: !arguments.no_wait,
        stage: Stage::Sleeping,
        renderer,
    };
    let status = server.run(|server| {
        shot.begin()?;
        let status = loop {
            let turns = server.turn()?;
            if let Some(status) = shot.turn(server, &turns)? {
                break status;
            }
        };
        // the image is gone when this has ended
        server.stop("done");
        while !server.has_ended() {
            server.turn()?;
        }
        Ok(status)
    })?;
    Ok(ExitCode::from(status))
}

/// Only what the kernel says of the process is the process's fault.
fn unopened(pid: i32, cause: &io::Error) -> (Code, String) {
    match cause.raw_os_error() {
        Some(libc::ESRCH) => (Code::NoSuchProcess, format!("there is no process {pid}")),
        Some(libc::EINVAL | libc::ENOENT) => {
            (Code::NoSuchProcess, format!("{pid} is a thread, not a process"))
        }
        _ => (Code::Unsupported, format!("open a pidfd of process {pid}: {cause}")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sleeping,
    Asleep,
    Waking,
}

/// The client within.
struct OneShot {
    pidfd: OwnedFd,
    socket: UnixStream,
    assembler: Assembler,
    wait: bool,
    stage: Stage,
    renderer: Renderer,
}

impl OneShot {
    fn begin(&self) -> Result<(), BrokerError> {
        self.send(&ClientFrame::Hello { version: VERSION }, false)?;
        let request = Request::Checkpoint(CheckpointOptions::default());
        self.send(&ClientFrame::Request { id: CHECKPOINT, request }, true)
    }

    /// Orders the wake; before the process sleeps, that calls the checkpoint off.
    fn wake(&mut self, server: &Server) -> Result<(), BrokerError> {
        if self.stage != Stage::Waking {
            self.stage = Stage::Waking;
            server.forget_outside(io::stdin());
            self.send(&ClientFrame::Request { id: RESTORE, request: Request::Restore }, true)?;
        }
        Ok(())
    }

    /// The exit status, once it is settled.
    fn turn(&mut self, server: &Server, turns: &[Turn]) -> Result<Option<u8>, BrokerError> {
        for turn in turns {
            match turn {
                Turn::Signal => self.wake(server)?,
                Turn::Outside(ENTER) if self.stage == Stage::Asleep => self.read_enter(server)?,
                Turn::Outside(_) => {}
                Turn::BadEnd(failure) => return Ok(Some(self.failed(failure))),
            }
        }
        while let Some(answer) = self.next_answer()? {
            if let Some(status) = self.answered(server, answer)? {
                return Ok(Some(status));
            }
        }
        Ok(server.has_lost_its_launcher().then_some(Code::Internal.exit_status()))
    }

    fn answered(&mut self, server: &Server, (id, answer): (u32, Answer)) -> Result<Option<u8>, BrokerError> {
        match answer {
            Answer::Progress { state, done, total } => self.renderer.progress(state, done, total),
            Answer::Done(Completion::Asleep(report)) => {
                self.renderer.asleep(&report);
                if self.stage == Stage::Sleeping {
                    self.stage = Stage::Asleep;
                    self.await_enter(server)?;
                }
            }
            Answer::Done(Completion::Awake(report)) => {
                self.renderer.awake(&report);
                return Ok(Some(0));
            }
            // the end of a checkpoint that was called off is told by the checkpoint
            Answer::Failed(failure) if id != RESTORE || failure.code != Code::NotAsleep => {
                return Ok(Some(self.failed(&failure)));
            }
            Answer::Failed(_) | Answer::Entry(_) | Answer::Done(Completion::Listed) => {}
        }
        Ok(None)
    }

    fn failed(&mut self, cause: &Failure) -> u8 {
        self.renderer.end();
        failure(cause);
        cause.code.exit_status()
    }

    fn await_enter(&mut self, server: &Server) -> Result<(), BrokerError> {
        if !self.wait {
            return self.wake(server);
        }
        note("press enter to restore");
        match server.watch_outside(io::stdin(), ENTER) {
            Ok(()) => Ok(()),
            // a file is always ready
            Err(BrokerError::System { cause: Errno::EPERM, .. }) => self.read_enter(server),
            Err(other) => Err(other),
        }
    }

    /// A line, the end of the input, or an input that can't be read: all wake the process.
    fn read_enter(&mut self, server: &Server) -> Result<(), BrokerError> {
        let mut text = [0; 256];
        match read(io::stdin(), &mut text) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Ok(length) if length > 0 && !text[..length].contains(&b'\n') => {
                // a file is not told of again
                self.await_enter_silently(server)
            }
            Ok(_) | Err(_) => self.wake(server),
        }
    }

    fn await_enter_silently(&mut self, server: &Server) -> Result<(), BrokerError> {
        match server.watch_outside(io::stdin(), ENTER) {
            Err(BrokerError::System { cause: Errno::EPERM, .. }) => self.wake(server),
            // watched already
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn send(&self, frame: &ClientFrame, with_target: bool) -> Result<(), BrokerError> {
        let bytes = encode(frame).unwrap_or_default();
        let target = [self.pidfd.as_fd()];
        let descriptors = if with_target { &target[..] } else { &[] };
        // a few bytes into a socket of our own: there is room
        send(self.socket.as_fd(), &bytes, descriptors).attempt("ask", "the broker within").map(drop)
    }

    fn next_answer(&mut self) -> Result<Option<(u32, Answer)>, BrokerError> {
        loop {
            match self.assembler.next_message::<ServerFrame>() {
                Ok(Some(ServerFrame::Hello { .. })) => continue,
                Ok(Some(ServerFrame::Answer { id, answer })) => return Ok(Some((id, answer))),
                Ok(None) => {}
                Err(_) => {
                    return Err(io::Error::from_raw_os_error(libc::EPROTO)).attempt("read", "an answer");
                }
            }
            let mut bytes = [0; 4096];
            match receive(self.socket.as_fd(), &mut bytes, &mut Vec::new()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).attempt("read", "an answer"),
                // the broker within hung up: it has said why
                Ok(received) if received.length == 0 => {
                    return Err(io::Error::from_raw_os_error(libc::ECONNRESET)).attempt("read", "an answer");
                }
                Ok(received) => self.assembler.push(bytes.get(..received.length).unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_the_process_is_told_as_its_state() {
        for (cause, status) in
            [(libc::ESRCH, 3), (libc::EINVAL, 3), (libc::ENOENT, 3), (libc::EMFILE, 4), (libc::ENOSYS, 4)]
        {
            let (code, message) = unopened(7, &io::Error::from_raw_os_error(cause));
            assert_eq!(code.exit_status(), status, "{message}");
        }
    }
}
