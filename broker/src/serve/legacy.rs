//! Clients of the original: what is special about their requests. A process is named by its number in the client's
//! own pid namespace, an unknown image directory is no mistake, and every answer is one number.

use super::Server;
use super::connection::Stage;
use super::event_loop::ending;
use super::lookups::Lookup;
use super::pending::{Pending, denial};
use super::requests::{UNKNOWN_PEER, process_of};
use crate::audit::record::Wire;
use memcr_protocol::client::{CheckpointOptions, Completion, Request};
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::legacy::{self, Command, Reply};
use memcr_protocol::subject::Action;
use std::os::fd::OwnedFd;
use std::time::Instant;
use tracing::warn;

/// A request that waits for the launcher to find its process.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) pending: Pending,
    pub(super) request: legacy::Request,
}

impl Server {
    /// Takes a request. The first of a connection waits until the launcher has named the client.
    pub(super) fn legacy_asked(&mut self, id: u64, request: legacy::Request, wire: Wire) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard();
        connection.under_way += 1;
        let is_named = matches!(connection.stage, Stage::Ready(_));
        connection.keep(request, wire);
        if is_named {
            self.serve_kept(id);
        } else if let Err(failure) = self.name_client(id) {
            self.end_kept(id, failure);
        } else {
            // one that has no name need not be waited for
            self.serve_kept(id);
        }
    }

    /// Serves the request that was kept, once it is known who asks.
    pub(super) fn serve_kept(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        if !matches!(connection.stage, Stage::Ready(_)) {
            return;
        }
        let Some(Numbered { pending, mut request }) = self.take_kept(id) else { return };
        if self.stopping.is_some() {
            self.conclude(&pending, None, None, Err(ending()));
        } else if !pending.asker.known {
            let failure = denial(pending.action, request.pid, UNKNOWN_PEER);
            self.conclude(&pending, None, Some(UNKNOWN_PEER), Err(failure));
        } else if let Some(failure) = refusal_of_number(request.pid) {
            self.conclude(&pending, None, None, Err(failure));
        } else {
            if request.command == Command::Checkpoint {
                self.put_in_known_directory(&pending, &mut request.options);
            }
            self.look_up(Lookup::Target(Numbered { pending, request }));
        }
    }

    /// Answers the request that was kept, since nobody can be asked who asks.
    pub(super) fn end_kept(&mut self, id: u64, failure: Failure) {
        if let Some(Numbered { pending, .. }) = self.take_kept(id) {
            self.conclude(&pending, None, None, Err(failure));
        }
    }

    fn take_kept(&mut self, id: u64) -> Option<Numbered> {
        let connection = self.connections.get_mut(&id)?;
        let (request, wire) = connection.take_kept()?;
        let asker = connection.asker_so_far();
        self.last_request += 1;
        let pending = Pending {
            number: self.last_request,
            connection: id,
            id: 0,
            wire,
            asker,
            action: match request.command {
                Command::Checkpoint => Action::Checkpoint,
                Command::Restore => Action::Restore,
            },
            // until it is found
            pid: 0,
            since: Instant::now(),
        };
        Some(Numbered { pending, request })
    }

    /// To the original, another directory than those of the daemon means its first.
    fn put_in_known_directory(&self, pending: &Pending, options: &mut CheckpointOptions) {
        let is_strange = |name: &mut String| self.directories.find(Some(name)).is_none();
        if let Some(name) = options.directory.take_if(is_strange) {
            let first = self.directories.names().next().unwrap_or_default();
            let number = pending.number;
            warn!(
                "request {number}: {name:?} is not one of the image directories; its image goes to {first}"
            );
        }
    }

    /// The launcher has found the process behind `ticket`, or none.
    pub(super) fn target_found(&mut self, ticket: u64, found: bool, descriptors: Vec<OwnedFd>) {
        let Some(Lookup::Target(Numbered { mut pending, request })) = self.looked_up(ticket) else { return };
        let pidfd = <[OwnedFd; 1]>::try_from(descriptors).ok().filter(|_| found);
        let target = pidfd.ok_or_else(|| no_process(request.pid)).and_then(|[pidfd]| {
            let pid = process_of(&pidfd)?;
            Ok((pidfd, pid))
        });
        let (pidfd, pid) = match target {
            Ok(target) => target,
            Err(failure) => return self.conclude(&pending, None, None, Err(failure)),
        };
        pending.pid = pid;
        if self.stopping.is_some() {
            self.conclude(&pending, None, None, Err(ending()));
        } else if let Some(failure) = self.refusal_of(pid) {
            self.conclude(&pending, None, None, Err(failure));
        } else {
            let request = match request.command {
                Command::Checkpoint => Request::Checkpoint(request.options),
                Command::Restore => Request::Restore,
            };
            self.serve(pending, request, pidfd);
        }
    }

    /// Answers a request.
    pub(super) fn reply_legacy(&mut self, pending: &Pending, outcome: &Result<Completion, Failure>) {
        let command = match pending.action {
            Action::Checkpoint => Command::Checkpoint,
            Action::Restore | Action::List | Action::Status => Command::Restore,
        };
        let outcome = outcome.as_ref().map(|_| ()).map_err(|failure| failure.code);
        let id = pending.connection;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.under_way = connection.under_way.saturating_sub(1);
        if connection.send_reply(Reply::of(command, outcome)) {
            self.ready.insert(id);
        } else {
            self.part(id);
        }
    }
}

/// What names no process, or one on which others depend, in whatever namespace: 1 is the first process of it.
fn refusal_of_number(number: i32) -> Option<Failure> {
    match number {
        ..=0 => Some(Failure::new(Code::Protocol, format!("{number} is not the number of one process"))),
        1 => Some(Failure::new(
            Code::TargetRefused,
            "process 1 is neither put to sleep nor woken: the others of its pid namespace need it",
        )),
        _ => None,
    }
}

fn no_process(number: i32) -> Failure {
    let message =
        format!("there is no process {number} in the pid namespace of this client, or the client is gone");
    Failure::new(Code::NoSuchProcess, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_kill_would_take_for_many_processes_or_for_the_first_are_refused() {
        for (number, expected) in [
            (i32::MIN, Some(Code::Protocol)),
            (-1, Some(Code::Protocol)),
            (0, Some(Code::Protocol)),
            (1, Some(Code::TargetRefused)),
            (2, None),
            (i32::MAX, None),
        ] {
            assert_eq!(refusal_of_number(number).map(|failure| failure.code), expected, "{number}");
        }
    }
}
