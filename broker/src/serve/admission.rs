//! How many clients and sleepers there may be, and who makes room for whom.

use super::connection::Connection;
use std::collections::HashMap;

/// Most connections, however many descriptors there may be.
const CONNECTIONS: usize = 2048;
/// Connections and targets that only root may have: it can always look, and wake.
const ROOT_PLACES: usize = 8;
/// Descriptors for everything that is neither a client's nor a sleeper's.
const OWN_DESCRIPTORS: usize = 64;
/// Descriptors of one sleeper: its pidfd, its control channel, and one on the way.
const PER_TARGET: usize = 3;
/// Bytes of answers that one user may have unread, of all connections together, if more are to come in a long list.
const UNREAD_PER_USER: usize = 8 * 1024 * 1024;
/// Descriptors from one user that may wait to be closed.
const UNCLOSED_PER_USER: usize = 64;

/// The daemon's limits, which follow from how many file descriptors it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections.
    pub(crate) connections: usize,
    /// Connections of one user other than root.
    pub(crate) connections_per_user: usize,
    /// Targets.
    pub(crate) targets: usize,
    /// Targets that one user other than root put to sleep.
    pub(crate) targets_per_user: usize,
    /// Descriptors from clients that wait to be closed; with more nobody is accepted.
    pub(crate) unclosed: usize,
    /// Those from one user other than root, who is not served with more.
    pub(crate) unclosed_per_user: usize,
}

impl Limits {
    /// Limits for a process that may have so many descriptors.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let connections = CONNECTIONS.min(descriptors / 2);
        let targets = descriptors.saturating_sub(OWN_DESCRIPTORS + connections) / PER_TARGET;
        Self {
            connections,
            connections_per_user: connections / 2,
            targets,
            targets_per_user: targets / 2,
            // more than one user leaves behind who had all of its places: others are still served then
            unclosed: connections / 8 * 7,
            unclosed_per_user: UNCLOSED_PER_USER.min(descriptors / 8),
        }
    }

    /// The same with no more for each user other than root than the administrator says.
    pub(crate) fn at_most(
        self,
        connections_per_user: Option<usize>,
        targets_per_user: Option<usize>,
    ) -> Self {
        let least = |usual: usize, said: Option<usize>| said.map_or(usual, |said| said.min(usual));
        Self {
            connections_per_user: least(self.connections_per_user, connections_per_user),
            targets_per_user: least(self.targets_per_user, targets_per_user),
            ..self
        }
    }

    /// Whether a client of `uid` can be served, and which client has to go for it: one that has nothing
    /// under way, of the user who has the most connections (and more than `uid` itself), the one that has
    /// been idle the longest.
    pub(crate) fn admit(&self, uid: u32, connections: &HashMap<u64, Connection>) -> Admission {
        let held = held(connections);
        let own = held.get(&uid).copied().unwrap_or_default();
        if uid != 0 && own >= self.connections_per_user {
            return idlest(uid, connections).map_or(Admission::Refused, Admission::InPlaceOf);
        }
        if has_place(uid, connections.len(), held.get(&0).copied(), self.connections) {
            return Admission::Welcome;
        }
        let mut holders: Vec<_> = held.into_iter().map(|(user, count)| (count, user)).collect();
        holders.retain(|(count, user)| *count > own || *user == uid);
        holders.sort_unstable();
        let goes = holders.into_iter().rev().find_map(|(_, user)| idlest(user, connections));
        goes.map_or(Admission::Refused, Admission::InPlaceOf)
    }

    /// Whether the clients of `uid` read so little of their answers that a long one must not be added.
    pub(crate) fn has_too_much_unread(uid: u32, connections: &HashMap<u64, Connection>) -> bool {
        let of_user = connections.values().filter(|connection| connection.uid() == uid);
        uid != 0 && of_user.map(Connection::unread).sum::<usize>() > UNREAD_PER_USER
    }

    /// Whether `uid` may put another process to sleep; `owners` are the users who did so before.
    pub(crate) fn admits_target(&self, uid: u32, owners: impl Iterator<Item = u32>) -> bool {
        let (mut all, mut own, mut roots) = (0, 0, 0);
        for owner in owners {
            all += 1;
            own += usize::from(owner == uid);
            roots += usize::from(owner == 0);
        }
        has_place(uid, all, Some(roots), self.targets) && (uid == 0 || own < self.targets_per_user)
    }
}

/// Whether there is one more place, if the last few are root's.
fn has_place(uid: u32, taken: usize, roots: Option<usize>, places: usize) -> bool {
    let kept = if uid == 0 { 0 } else { ROOT_PLACES.saturating_sub(roots.unwrap_or_default()) };
    taken + kept < places
}

/// What becomes of a new client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Welcome,
    /// In the place of this connection.
    InPlaceOf(u64),
    Refused,
}

/// How many connections each user has.
fn held(connections: &HashMap<u64, Connection>) -> HashMap<u32, usize> {
    let mut held = HashMap::new();
    for connection in connections.values() {
        *held.entry(connection.uid()).or_default() += 1;
    }
    held
}

fn idlest(uid: u32, connections: &HashMap<u64, Connection>) -> Option<u64> {
    let of_user = connections.iter().filter(|(_, connection)| connection.uid() == uid);
    let idle = of_user.filter_map(|(id, connection)| Some((connection.idle_since()?, *id)));
    idle.min().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcr_protocol::code::{Code, Failure};
    use std::os::unix::net::UnixStream;

    const ROOMY: Limits = Limits {
        connections: 100,
        connections_per_user: 100,
        targets: 100,
        targets_per_user: 100,
        unclosed: 100,
        unclosed_per_user: 100,
    };

    /// Connections of these users, the one that is idle the longest first; and their other ends.
    fn connections(users: &[u32]) -> (HashMap<u64, Connection>, Vec<UnixStream>) {
        let (mut all, mut ends) = (HashMap::new(), Vec::new());
        for (id, uid) in (1..).zip(users) {
            let (end, client) = UnixStream::pair().unwrap();
            let mut connection = Connection::of_user(client, *uid).unwrap();
            connection.heard();
            all.insert(id, connection);
            ends.push(end);
        }
        (all, ends)
    }

    #[test]
    fn a_daemon_with_usual_limits_bears_300_idle_clients_of_one_user_and_thousands_of_sleepers() {
        let limits = Limits::for_descriptors(16_384);
        assert_eq!((limits.connections, limits.connections_per_user), (2048, 1024));
        assert!(limits.targets > 4000 && limits.targets_per_user > 2000);
    }

    #[test]
    fn few_descriptors_are_shared_between_clients_and_sleepers() {
        let limits = Limits::for_descriptors(256);
        assert_eq!((limits.connections, limits.connections_per_user), (128, 64));
        assert_eq!((limits.targets, limits.targets_per_user), (21, 10));
        assert_eq!((limits.unclosed, limits.unclosed_per_user), (112, 32));
        // its connections, those that are counted, and what one message brings
        let usual = Limits::for_descriptors(16_384);
        assert!(usual.unclosed > usual.connections_per_user + usual.unclosed_per_user + 253);
    }

    #[test]
    fn in_a_full_house_the_idlest_of_the_user_with_most_connections_makes_room() {
        let (mut all, _ends) = connections(&[7, 5, 6, 6, 6, 5]);
        let full = Limits { connections: 6 + ROOT_PLACES, ..ROOMY };
        assert_eq!(full.admit(8, &all), Admission::InPlaceOf(3));
        // those that have something under way stay
        all.get_mut(&3).unwrap().under_way = 1;
        assert_eq!(full.admit(8, &all), Admission::InPlaceOf(4));
        for busy in [4, 5] {
            all.get_mut(&busy).unwrap().under_way = 1;
        }
        assert_eq!(full.admit(8, &all), Admission::InPlaceOf(2));
        // nobody makes room for one who has as many
        assert_eq!(full.admit(7, &all), Admission::InPlaceOf(2));
        assert_eq!(full.admit(5, &all), Admission::InPlaceOf(2));
        all.get_mut(&2).unwrap().under_way = 1;
        all.get_mut(&6).unwrap().under_way = 1;
        assert_eq!(full.admit(8, &all), Admission::InPlaceOf(1));
        assert_eq!(full.admit(5, &all), Admission::Refused);
    }

    #[test]
    fn the_last_places_are_roots() {
        let (all, _ends) = connections(&[5; 6]);
        let full = Limits { connections: 6 + ROOT_PLACES, ..ROOMY };
        assert_eq!(full.admit(0, &all), Admission::Welcome);
        let room = Limits { connections: 7 + ROOT_PLACES, ..ROOMY };
        assert_eq!(room.admit(8, &all), Admission::Welcome);
        // root in its places takes none of the others'
        let (all, _ends) = connections(&[0, 0, 5, 5]);
        let room = Limits { connections: 3 + ROOT_PLACES, ..ROOMY };
        assert_eq!(room.admit(8, &all), Admission::Welcome);
    }

    #[test]
    fn one_user_can_not_take_the_places_of_others() {
        let (mut all, _ends) = connections(&[6, 5, 5]);
        let limits = Limits { connections_per_user: 2, ..ROOMY };
        assert_eq!(limits.admit(5, &all), Admission::InPlaceOf(2));
        for busy in [2, 3] {
            all.get_mut(&busy).unwrap().under_way = 1;
        }
        assert_eq!(limits.admit(5, &all), Admission::Refused);
        assert_eq!(limits.admit(6, &all), Admission::Welcome);
        assert_eq!(limits.admit(0, &all), Admission::Welcome);
    }

    #[test]
    fn clients_of_one_user_who_read_nothing_fill_no_more_than_their_share() {
        let (mut all, _ends) = connections(&[5, 5, 5, 6, 0]);
        let has_too_much = |uid, all: &_| Limits::has_too_much_unread(uid, all);
        for id in [1, 2, 3] {
            assert!(!has_too_much(5, &all));
            let unread = all.get_mut(&id).unwrap();
            // the kernel takes some of it
            while unread.unread() < UNREAD_PER_USER / 3 + 1 {
                assert!(unread.send_last(Failure::new(Code::Limit, "x".repeat(10_000))));
            }
        }
        assert!(has_too_much(5, &all) && !has_too_much(6, &all));
        // root can always look
        while all[&5].unread() <= UNREAD_PER_USER {
            assert!(all.get_mut(&5).unwrap().send_last(Failure::new(Code::Limit, "x".repeat(10_000))));
        }
        assert!(!has_too_much(0, &all));
    }

    #[test]
    fn one_user_can_not_put_so_many_to_sleep_that_nothing_is_left_for_others() {
        let limits = Limits { targets: 2 + ROOT_PLACES, targets_per_user: 1, ..ROOMY };
        assert!(limits.admits_target(5, [].into_iter()));
        assert!(!limits.admits_target(5, [5].into_iter()));
        assert!(limits.admits_target(6, [5].into_iter()));
        assert!(!limits.admits_target(7, [5, 6].into_iter()));
        assert!(limits.admits_target(0, [5, 6].into_iter()));
        assert!(!limits.admits_target(0, [0; 2 + ROOT_PLACES].into_iter()));
    }
}
