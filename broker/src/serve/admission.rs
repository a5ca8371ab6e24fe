//! How many clients and sleepers there may be, and who makes room for whom.

use super::connection::Connection;
use std::collections::HashMap;

/// Most connections, however many descriptors there may be.
const CONNECTIONS: usize = 2048;
/// Descriptors for everything that is neither a client's nor a sleeper's.
const OWN_DESCRIPTORS: usize = 64;
/// Descriptors of one sleeper: its pidfd, its control channel, and one on the way.
const PER_TARGET: usize = 3;

/// The daemon's limits, which follow from how many file descriptors it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections.
    pub(crate) connections: usize,
    /// Connections of one user other than root.
    pub(crate) connections_per_user: usize,
    /// Targets.
    pub(crate) targets: usize,
}

impl Limits {
    /// Limits for a process that may have so many descriptors.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let connections = CONNECTIONS.min(descriptors / 2);
        Self {
            connections,
            connections_per_user: connections / 2,
            targets: descriptors.saturating_sub(OWN_DESCRIPTORS + connections) / PER_TARGET,
        }
    }

    /// Whether a client of `uid` can be served, and which client has to go for it: one that has not
    /// even said hello, the one that has been silent the longest.
    pub(crate) fn admit(&self, uid: u32, connections: &HashMap<u64, Connection>) -> Admission {
        let of_user = || connections.values().filter(|connection| connection.uid() == uid).count();
        if uid != 0 && of_user() >= self.connections_per_user {
            return oldest_silent(connections, |connection| connection.uid() == uid);
        }
        if connections.len() >= self.connections {
            return oldest_silent(connections, |_| true);
        }
        Admission::Welcome
    }
}

/// What becomes of a new client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Welcome,
    /// In the place of this connection.
    InPlaceOf(u64),
    Refused,
}

fn oldest_silent(connections: &HashMap<u64, Connection>, among: impl Fn(&Connection) -> bool) -> Admission {
    let silent = connections.iter().filter(|(_, connection)| among(connection));
    let silent = silent.filter_map(|(id, connection)| Some((connection.ungreeted_since()?, *id)));
    silent.min().map_or(Admission::Refused, |(_, id)| Admission::InPlaceOf(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_daemon_with_usual_limits_bears_300_idle_clients_of_one_user_and_thousands_of_sleepers() {
        let limits = Limits::for_descriptors(16_384);
        assert_eq!((limits.connections, limits.connections_per_user), (2048, 1024));
        assert!(limits.targets > 4000);
    }

    #[test]
    fn few_descriptors_are_shared_between_clients_and_sleepers() {
        let limits = Limits::for_descriptors(256);
        assert_eq!(limits, Limits { connections: 128, connections_per_user: 64, targets: 21 });
    }

    #[test]
    fn the_client_that_has_been_silent_the_longest_makes_room() {
        let mut connections = HashMap::new();
        let mut ends = Vec::new();
        for id in 1..=3 {
            let (end, client) = UnixStream::pair().unwrap();
            connections.insert(id, Connection::new(client).unwrap());
            ends.push(end);
        }
        connections.get_mut(&1).unwrap().heard();
        let uid = connections[&1].uid();
        let full = Limits { connections: 3, connections_per_user: 100, targets: 1 };
        assert_eq!(full.admit(uid, &connections), Admission::InPlaceOf(2));
        let room = Limits { connections: 4, ..full };
        assert_eq!(room.admit(uid, &connections), Admission::Welcome);
    }

    #[test]
    fn one_user_can_not_take_the_places_of_others() {
        let mut connections = HashMap::new();
        let (_end, client) = UnixStream::pair().unwrap();
        connections.insert(1, Connection::new(client).unwrap());
        let uid = connections[&1].uid();
        let limits = Limits { connections: 10, connections_per_user: 0, targets: 1 };
        // none of that user is there to go
        assert_eq!(limits.admit(uid + 1, &connections), Admission::Refused);
        assert_eq!(limits.admit(0, &connections), Admission::Welcome);
    }
}
