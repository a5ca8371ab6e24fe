//! The policy in force when there is no policy file.

use crate::{Decision, OVERFLOW_ID};
use memcr_protocol::subject::{Peer, PeerKind, TargetFacts};

/// What every name of a built-in rule begins with; no rule of a file may.
pub(crate) const PREFIX: &str = "built-in:";

const ROOT: &str = "built-in: root";
const OWN_PROCESS: &str = "built-in: own process";
const LISTEN_GROUP: &str = "built-in: listen group";

/// The built-in rules make no difference between actions.
pub(crate) fn decide(listen_group: Option<u32>, peer: &Peer, target: &TargetFacts) -> Decision {
    if peer.kind == PeerKind::Anonymous {
        return Decision::default_deny();
    }
    if peer.uid == 0 {
        return Decision::by(ROOT, true);
    }
    if owns(peer, target) {
        return Decision::by(OWN_PROCESS, true);
    }
    match listen_group {
        Some(group) if peer.is_in_group(group) == Some(true) && !target.uids.contains(&0) => {
            Decision::by(LISTEN_GROUP, true)
        }
        _ => Decision::default_deny(),
    }
}

// as ptrace(2) has it: real, effective and saved ids, so that a setuid or setgid program isn't its
// caller's
fn owns(peer: &Peer, target: &TargetFacts) -> bool {
    peer.uid != OVERFLOW_ID && target.uids.iter().all(|uid| *uid == peer.uid) && owns_groups(peer, target)
}

fn owns_groups(peer: &Peer, target: &TargetFacts) -> bool {
    let [real, effective, saved] = target.gids;
    match peer.kind {
        PeerKind::Process => [real, effective, saved].iter().all(|gid| *gid == peer.gid),
        // the client's own group is not known; that of a setgid program is another than its caller's
        PeerKind::Socket => real == effective && effective == saved,
        PeerKind::Anonymous => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let kind = PeerKind::Process;
        Peer {
            kind,
            uid,
            gid,
            groups: groups.to_vec(),
            pid: 7,
            executable: None,
            cgroup: None,
            namespaces: None,
        }
    }

    fn target(uids: [u32; 3], gids: [u32; 3]) -> TargetFacts {
        TargetFacts {
            pid: 8,
            start_time: 9,
            uids,
            gids,
            executable: "/usr/bin/app".to_owned(),
            cgroup: "/".to_owned(),
            namespaces: None,
            sha256: None,
        }
    }

    #[test]
    fn root_may_act_on_every_process() {
        let decision = decide(None, &peer(0, 0, &[]), &target([5; 3], [5; 3]));
        assert_eq!(decision, Decision::by("built-in: root", true));
    }

    #[test]
    fn a_user_may_act_on_its_own_process() {
        let decision = decide(None, &peer(5, 6, &[]), &target([5; 3], [6; 3]));
        assert_eq!(decision, Decision::by("built-in: own process", true));
    }

    #[test]
    fn a_setuid_or_setgid_program_is_not_its_callers_own() {
        for index in 0..3 {
            let (mut uids, mut gids) = ([5; 3], [6; 3]);
            uids[index] = 0;
            gids[index] = 0;
            let peer = peer(5, 6, &[0]);
            assert_eq!(decide(None, &peer, &target(uids, [6; 3])), Decision::default_deny());
            assert_eq!(decide(None, &peer, &target([5; 3], gids)), Decision::default_deny());
        }
    }

    #[test]
    fn a_user_without_a_name_in_our_namespace_owns_nothing() {
        let decision = decide(None, &peer(65534, 6, &[]), &target([65534; 3], [6; 3]));
        assert_eq!(decision, Decision::default_deny());
    }

    #[test]
    fn a_member_of_the_listen_group_may_act_on_other_users_processes() {
        let allowed = Decision::by("built-in: listen group", true);
        let target = target([5; 3], [6; 3]);
        assert_eq!(decide(Some(10), &peer(4, 10, &[]), &target), allowed);
        assert_eq!(decide(Some(10), &peer(4, 4, &[9, 10]), &target), allowed);
        assert_eq!(decide(Some(10), &peer(4, 4, &[9]), &target), Decision::default_deny());
        assert_eq!(decide(None, &peer(4, 10, &[]), &target), Decision::default_deny());
    }

    #[test]
    fn a_member_of_the_listen_group_may_not_act_on_a_process_with_any_root_id() {
        for index in 0..3 {
            let mut uids = [5; 3];
            uids[index] = 0;
            let decision = decide(Some(10), &peer(4, 10, &[]), &target(uids, [6; 3]));
            assert_eq!(decision, Decision::default_deny());
        }
    }

    #[test]
    fn a_user_over_tcp_may_act_on_its_own_process_and_on_no_setuid_or_setgid_program() {
        let peer = Peer::by_socket(5);
        let own = Decision::by("built-in: own process", true);
        assert_eq!(decide(None, &peer, &target([5; 3], [6; 3])), own);
        for index in 0..3 {
            let (mut uids, mut gids) = ([5; 3], [6; 3]);
            uids[index] = 4;
            gids[index] = 7;
            assert_eq!(decide(None, &peer, &target(uids, [6; 3])), Decision::default_deny());
            assert_eq!(decide(None, &peer, &target([5; 3], gids)), Decision::default_deny());
        }
        let unknown = Peer::by_socket(65534);
        assert_eq!(decide(None, &unknown, &target([65534; 3], [6; 3])), Decision::default_deny());
    }

    #[test]
    fn groups_that_were_found_of_a_client_over_tcp_make_it_no_member() {
        let peer = Peer { gid: 10, groups: vec![10], pid: 7, ..Peer::by_socket(4) };
        assert_eq!(decide(Some(10), &peer, &target([5; 3], [6; 3])), Decision::default_deny());
    }

    #[test]
    fn anonymous_clients_may_nothing_whatever_their_ids_look_like() {
        for uid in [0, 5, u32::MAX] {
            let peer = Peer { uid, gid: uid, groups: vec![uid], ..Peer::anonymous() };
            assert_eq!(decide(Some(uid), &peer, &target([uid; 3], [uid; 3])), Decision::default_deny());
        }
    }
}
