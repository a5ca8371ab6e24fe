//! Questions about processes that only the launcher can answer.
//!
//! Each takes it some time, in which it serves nobody else. So those of one user are asked one after the other:
//! nobody keeps the launcher from others for longer than one of them takes.

use super::Server;
use super::event_loop::ending;
use super::legacy::Numbered;
use super::outside::Outside;
use super::pending::Pending;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::launcher::Job;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

/// Questions of one user that may wait.
const MAX_WAITING: usize = 256;

/// One question, with what is to be done with the answer.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Which process does a client of the original mean?
    Target(Numbered),
    /// What does a process run that is not in the table, and may it be asleep?
    Program(Outside),
}

impl Lookup {
    pub(super) fn pending(&self) -> &Pending {
        match self {
            Self::Target(Numbered { pending, .. }) | Self::Program(Outside { pending, .. }) => pending,
        }
    }

    fn uid(&self) -> u32 {
        self.pending().asker.peer.uid
    }
}

/// The questions that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// With the launcher, by ticket.
    asked: HashMap<u64, Lookup>,
    waiting: VecDeque<Lookup>,
}

impl Lookups {
    /// Takes a question; gives it back if too many of its user wait.
    fn push(&mut self, lookup: Lookup) -> Result<(), Lookup> {
        let uid = lookup.uid();
        if self.waiting.iter().filter(|waiting| waiting.uid() == uid).count() >= MAX_WAITING {
            return Err(lookup);
        }
        self.waiting.push_back(lookup);
        Ok(())
    }

    /// The one of this user that may be asked now.
    fn next_of(&mut self, uid: u32) -> Option<Lookup> {
        if self.asked.values().any(|asked| asked.uid() == uid) {
            return None;
        }
        let first = self.waiting.iter().position(|waiting| waiting.uid() == uid)?;
        self.waiting.remove(first)
    }

    fn take_all(&mut self) -> Vec<Lookup> {
        let asked = std::mem::take(&mut self.asked).into_values();
        asked.chain(std::mem::take(&mut self.waiting)).collect()
    }
}

impl Server {
    /// Asks the launcher, now or when the other questions of this user are answered.
    pub(super) fn look_up(&mut self, lookup: Lookup) {
        if self.stopping.is_some() {
            self.conclude(lookup.pending(), None, None, Err(ending()));
            return;
        }
        let uid = lookup.uid();
        match self.lookups.push(lookup) {
            Ok(()) => self.ask_next(uid),
            Err(lookup) => {
                let message = format!(
                    "{MAX_WAITING} requests of user {uid} wait for a look at their process; try again later"
                );
                self.conclude(lookup.pending(), None, None, Err(Failure::new(Code::Limit, message)));
            }
        }
    }

    /// What was asked with this ticket; the next question of its user is asked.
    pub(super) fn looked_up(&mut self, ticket: u64) -> Option<Lookup> {
        let lookup = self.lookups.asked.remove(&ticket)?;
        self.ask_next(lookup.uid());
        Some(lookup)
    }

    fn ask_next(&mut self, uid: u32) {
        while let Some(lookup) = self.lookups.next_of(uid) {
            let ticket = self.new_id();
            match (self.job(ticket, &lookup), &mut self.launcher) {
                (Ok((job, descriptor)), Some(launcher)) => {
                    let sent = launcher.send(&job, vec![descriptor]);
                    self.lookups.asked.insert(ticket, lookup);
                    self.launcher_sent(sent);
                }
                (Ok(_), None) => self.conclude(lookup.pending(), None, None, Err(ending())),
                (Err(failure), _) => self.conclude(lookup.pending(), None, None, Err(failure)),
            }
        }
    }

    fn job(&self, ticket: u64, lookup: &Lookup) -> Result<(Job, OwnedFd), Failure> {
        match lookup {
            Lookup::Target(Numbered { pending, request }) => {
                let client = self.client_socket(pending.connection)?;
                Ok((Job::FindTarget { ticket, pid: request.pid }, client))
            }
            Lookup::Program(Outside { pidfd, .. }) => {
                let pidfd = pidfd.try_clone().map_err(|cause| no_duplicate(&cause))?;
                Ok((Job::NameProgram { ticket }, pidfd))
            }
        }
    }

    /// The daemon ends and waits for no answer any more.
    pub(super) fn forget_lookups(&mut self) {
        for lookup in self.lookups.take_all() {
            self.conclude(lookup.pending(), None, None, Err(ending()));
        }
    }

    /// The launcher is gone and names no client any more.
    pub(super) fn forget_unnamed(&mut self) {
        for id in std::mem::take(&mut self.identifying).into_values() {
            self.end_kept(id, ending());
        }
    }
}

pub(super) fn no_duplicate(cause: &io::Error) -> Failure {
    Failure::new(Code::Limit, format!("duplicate the pidfd: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Wire;
    use crate::serve::pending::Asker;
    use memcr_protocol::subject::{Action, Peer, PeerKind};
    use std::fs::File;
    use std::rc::Rc;
    use std::time::Instant;

    fn lookup(number: u64, uid: u32) -> Lookup {
        let kind = PeerKind::Process;
        let peer = Peer {
            kind,
            uid,
            gid: 1,
            groups: Vec::new(),
            pid: 7,
            executable: None,
            cgroup: None,
            namespaces: None,
        };
        let pending = Pending {
            number,
            connection: number,
            id: 1,
            wire: Wire::Framed,
            asker: Rc::new(Asker { peer, known: true, looked_up: true, address: None }),
            action: Action::Restore,
            pid: 7,
            since: Instant::now(),
        };
        Lookup::Program(Outside { pending, pidfd: File::open("/dev/null").unwrap().into() })
    }

    fn next(lookups: &mut Lookups, uid: u32) -> Option<u64> {
        let lookup = lookups.next_of(uid)?;
        let number = lookup.pending().number;
        lookups.asked.insert(number, lookup);
        Some(number)
    }

    #[test]
    fn the_launcher_is_asked_one_thing_of_each_user_at_a_time() {
        let mut lookups = Lookups::default();
        for (number, uid) in [(1, 5), (2, 5), (3, 6), (4, 5)] {
            assert!(lookups.push(lookup(number, uid)).is_ok());
        }
        assert_eq!((next(&mut lookups, 5), next(&mut lookups, 5)), (Some(1), None));
        assert_eq!((next(&mut lookups, 6), next(&mut lookups, 6)), (Some(3), None));
        lookups.asked.remove(&1);
        assert_eq!((next(&mut lookups, 5), next(&mut lookups, 5)), (Some(2), None));
        assert_eq!(lookups.take_all().len(), 3);
    }

    #[test]
    fn questions_of_one_user_do_not_pile_up_without_bound_and_keep_no_other_from_asking() {
        let mut lookups = Lookups::default();
        for number in 0..256 {
            assert!(lookups.push(lookup(number, 5)).is_ok());
        }
        assert!(lookups.push(lookup(999, 5)).is_err());
        assert!(lookups.push(lookup(999, 6)).is_ok());
    }
}
