//! Test builds only: an attacker in the broker, at the point where a client's bytes have been parsed. What he does is in
//! the crate `memcr-drill`; here is what takes the broker's own channels: jobs that no client asked for.

use super::Server;
use super::channel::{Channel, ChannelError};
use super::connection::Connection;
use crate::startup::listener::Listener;
use memcr_drill::{Outcome, Refused, Role};
use memcr_protocol::frame::{Message as _, PREFIX_LENGTH};
use memcr_protocol::launcher::{Job, LauncherReport};
use memcr_protocol::worker::WorkerEvent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long an answer is waited for, in milliseconds.
const PATIENCE: u16 = 5000;

fn refused(call: &'static str, cause: Errno) -> Refused {
    Refused { call, number: cause as i32 }
}

fn of_io(cause: &io::Error) -> Refused {
    refused("descriptor", Errno::from_raw(cause.raw_os_error().unwrap_or(0)))
}

impl Server {
    /// Does what is ordered for this point; `id` is the client whose bytes were parsed.
    pub(super) fn drill(&mut self, id: u64) {
        memcr_drill::know("launcher", &self.launcher_pid.to_string());
        if let Some(worker) = self.sleepers.values().find_map(|sleeper| sleeper.worker) {
            memcr_drill::know_first("worker", &worker.to_string());
        }
        Role::Broker.reached(|name| match name {
            "find-process-for-nobody" => Some(self.find_process()),
            _ => name.strip_prefix("forge-job-for-").map(|whom| self.forge(id, whom)),
        });
    }

    /// What is passed off as the socket of a client.
    fn passed_off(&self, id: u64, whom: &str) -> io::Result<OwnedFd> {
        let copy = |socket: BorrowedFd<'_>| socket.try_clone_to_owned();
        let listeners = || self.listener.iter().flat_map(Listener::sockets);
        let found = match whom {
            "pair" => Channel::pair().map(|(_, other)| Ok(other)).ok(),
            "listener" => listeners().next().map(copy),
            "job-channel" => self.launcher.as_ref().map(|jobs| copy(jobs.as_fd())),
            "standard-error" => Some(copy(io::stderr().as_fd())),
            "this-client" => self.connections.get(&id).map(Connection::duplicate),
            _ => None,
        };
        found.unwrap_or_else(|| Err(Errno::EBADF.into()))
    }

    /// Orders a sleep of the process whose pidfd this client has sent, for a client of our making. It works if a worker
    /// attaches to it.
    fn forge(&mut self, id: u64, whom: &str) -> Outcome {
        let client = self.passed_off(id, whom).map_err(|cause| of_io(&cause))?;
        let target = self.connections.get_mut(&id).and_then(Connection::take_pidfd);
        let target = target.ok_or(refused("pidfd", Errno::EBADF))?;
        let directory = self.directories.find(None).map(|directory| directory.try_clone_to_owned());
        let directory =
            directory.unwrap_or_else(|| Err(Errno::ENOENT.into())).map_err(|cause| of_io(&cause))?;
        let (control, worker) = Channel::pair().map_err(|cause| refused("socketpair", cause))?;
        let job = Job::Sleep { ticket: u64::MAX, options: self.defaults };
        let jobs = self.launcher.as_mut().ok_or(refused("launcher", Errno::EPIPE))?;
        jobs.send(&job, vec![worker, client, target, directory])
            .map_err(|_| refused("sendmsg", Errno::EPIPE))?;
        let mut buffer = vec![0; PREFIX_LENGTH + WorkerEvent::LIMIT];
        loop {
            wait(&control)?;
            match control.receive::<WorkerEvent>(&mut buffer) {
                Ok(Some(WorkerEvent::Failed(failure))) => {
                    memcr_drill::say(&format!("the worker says: {failure}"));
                    return Err(Refused { call: "sleep", number: failure.code.exit_status().into() });
                }
                Ok(Some(
                    WorkerEvent::Decided { allowed: true, .. }
                    | WorkerEvent::Confined { .. }
                    | WorkerEvent::Asleep(_),
                )) => return Ok(()),
                Ok(_) => {}
                Err(ChannelError::Closed) => return Err(refused("sleep", Errno::EPIPE)),
                Err(_) => return Err(refused("recvmsg", Errno::EPROTO)),
            }
        }
    }

    /// Has the launcher look for a process for nobody. It works if a pidfd comes back.
    fn find_process(&mut self) -> Outcome {
        let (_ours, client) = Channel::pair().map_err(|cause| refused("socketpair", cause))?;
        let pid = memcr_drill::fact("victim").parse().unwrap_or(1);
        let jobs = self.launcher.as_mut().ok_or(refused("launcher", Errno::EPIPE))?;
        let job = Job::FindTarget { ticket: u64::MAX, pid };
        jobs.send(&job, vec![client]).map_err(|_| refused("sendmsg", Errno::EPIPE))?;
        let mut buffer = vec![0; PREFIX_LENGTH + LauncherReport::LIMIT];
        loop {
            wait(jobs)?;
            let mut descriptors = Vec::new();
            match jobs.receive_with(&mut buffer, &mut descriptors) {
                Ok(Some(LauncherReport::TargetFound { found, .. })) if found || !descriptors.is_empty() => {
                    return Ok(());
                }
                Ok(Some(LauncherReport::TargetFound { .. })) => return Err(refused("find", Errno::ESRCH)),
                Ok(_) => {}
                Err(_) => return Err(refused("recvmsg", Errno::EPIPE)),
            }
        }
    }
}

fn wait(channel: &Channel) -> Result<(), Refused> {
    let mut ready = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ready, PollTimeout::from(PATIENCE)) {
        Ok(0) => Err(refused("poll", Errno::ETIMEDOUT)),
        Ok(_) => Ok(()),
        Err(cause) => Err(refused("poll", cause)),
    }
}
