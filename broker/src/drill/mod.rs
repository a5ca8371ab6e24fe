//! Test builds only: an attacker in the broker, at the point where a client's bytes have been parsed. What he does is in
//! the crate `memcr-drill`; here is what takes the broker's own channels: jobs that no client asked for.

use crate::serve::Server;
use crate::serve::channel::{Channel, ChannelError};
use memcr_drill::{Outcome, Refused, Role};
use memcr_filter::Filter;
use memcr_protocol::frame::{Message as _, PREFIX_LENGTH};
use memcr_protocol::launcher::{Job, LauncherReport};
use memcr_protocol::worker::WorkerEvent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How long an answer is waited for, in milliseconds.
const PATIENCE: u16 = 5000;

/// A filter without the entries that it is to lack.
pub(crate) fn altered(filter: Filter) -> Filter {
    Role::removed("broker").into_iter().fold(filter, Filter::without)
}

fn refused(call: &'static str, cause: Errno) -> Refused {
    Refused { call, number: cause as i32 }
}

fn of_io(cause: &io::Error) -> Refused {
    refused("descriptor", Errno::from_raw(cause.raw_os_error().unwrap_or(0)))
}

impl Server {
    /// Does what is ordered for this point; `id` is the client whose bytes were parsed.
    pub(crate) fn drill(&mut self, id: u64) {
        memcr_drill::know("launcher", &self.launcher_pid.to_string());
        Role::Broker.reached(|name| match name {
            "forge-job-for-pair" => {
                Some(self.forge(id, || Channel::pair().map(|(_, other)| other).map_err(io::Error::from)))
            }
            "forge-job-for-listener" => {
                let listener = self.copies(|server| {
                    server
                        .listener
                        .iter()
                        .flat_map(|listener| listener.sockets().map(|socket| socket.try_clone_to_owned()))
                        .next()
                });
                Some(self.forge(id, || listener))
            }
            "forge-job-for-job-channel" => {
                let jobs = self.copies(|server| {
                    server.launcher.as_ref().map(|launcher| launcher.as_fd().try_clone_to_owned())
                });
                Some(self.forge(id, || jobs))
            }
            "forge-job-for-standard-error" => {
                Some(self.forge(id, || io::stderr().as_fd().try_clone_to_owned()))
            }
            "forge-job-for-this-client" => {
                let client =
                    self.copies(|server| server.connections.get(&id).map(|client| client.duplicate()));
                Some(self.forge(id, || client))
            }
            "find-process-for-pair" => Some(self.find_process()),
            _ => None,
        });
    }

    fn copies(&self, find: impl FnOnce(&Self) -> Option<io::Result<OwnedFd>>) -> io::Result<OwnedFd> {
        find(self).unwrap_or_else(|| Err(Errno::EBADF.into()))
    }

    /// Orders a sleep of the process whose pidfd this client has sent, for a client of our making. It works if a worker
    /// attaches to it.
    fn forge(&mut self, id: u64, client: impl FnOnce() -> io::Result<OwnedFd>) -> Outcome {
        let client = client().map_err(|cause| of_io(&cause))?;
        let target = self.connections.get_mut(&id).and_then(|client| client.take_pidfd());
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
