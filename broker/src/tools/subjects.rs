//! Clients and targets as they are given to `memcr policy test`.

use crate::audit::chain::Hash;
use crate::serve::process::public_facts;
use crate::sys::process::open_pidfd;
use memcr_protocol::subject::{NO_ID, Namespaces, Peer, PeerKind, TargetFacts};
use memcr_protocol::text;
use nix::unistd::{Group, User};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// A client: `pid:NUMBER`, `anonymous`, or facts.
pub(super) fn client(words: &str) -> Result<Peer, String> {
    if words == "anonymous" {
        return Ok(Peer::anonymous());
    }
    if let Some(pid) = words.strip_prefix("pid:") {
        let (facts, groups) = process(pid)?;
        return Ok(Peer {
            kind: PeerKind::Process,
            uid: facts.uids[1],
            gid: facts.gids[1],
            groups,
            pid: facts.pid,
            executable: Some(facts.executable).filter(|path| !path.is_empty()),
            cgroup: Some(facts.cgroup),
            namespaces: facts.namespaces,
        });
    }
    let mut peer = Peer { kind: PeerKind::Process, ..Peer::by_socket(NO_ID) };
    for (key, value) in facts_in(words)? {
        match key {
            "uid" => peer.uid = number(value)?,
            "user" => peer.uid = user(value)?,
            "gid" | "group" => {
                let group = if key == "gid" { number(value)? } else { group(value)? };
                if peer.gid == NO_ID {
                    peer.gid = group;
                }
                peer.groups.push(group);
            }
            "executable" => peer.executable = Some(value.to_owned()),
            "cgroup" => peer.cgroup = Some(value.to_owned()),
            key => return Err(unknown(key)),
        }
    }
    if peer.uid == NO_ID { Err("a client has a uid or a user".into()) } else { Ok(peer) }
}

/// A target: `pid:NUMBER` or facts.
pub(super) fn target(words: &str) -> Result<TargetFacts, String> {
    if let Some(pid) = words.strip_prefix("pid:") {
        return process(pid).map(|(facts, _)| facts);
    }
    let mut target = TargetFacts {
        pid: 0,
        start_time: 0,
        uids: [NO_ID; 3],
        gids: [NO_ID; 3],
        executable: String::new(),
        cgroup: String::new(),
        namespaces: None,
        sha256: None,
    };
    for (key, value) in facts_in(words)? {
        match key {
            "uid" => target.uids = [number(value)?; 3],
            "user" => target.uids = [user(value)?; 3],
            "gid" => target.gids = [number(value)?; 3],
            "group" => target.gids = [group(value)?; 3],
            "executable" => value.clone_into(&mut target.executable),
            "cgroup" => value.clone_into(&mut target.cgroup),
            "sha256" => target.sha256 = Some(hash(value)?),
            key => return Err(unknown(key)),
        }
    }
    Ok(target)
}

fn unknown(key: &str) -> String {
    format!("{key} is no fact: they are uid, user, gid, group, executable, cgroup, and of a target sha256")
}

fn facts_in(words: &str) -> Result<Vec<(&str, &str)>, String> {
    words
        .split(',')
        .map(|word| word.split_once('=').ok_or_else(|| format!("give pid:NUMBER or KEY=VALUE, not {word}")))
        .collect()
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|id| *id != NO_ID).ok_or_else(|| format!("{text} is no id"))
}

fn hash(digits: &str) -> Result<[u8; 32], String> {
    Hash::parse(digits)
        .map(Hash::bytes)
        .ok_or_else(|| format!("{digits} is no hash: it has 64 hexadecimal digits in lower case"))
}

fn user(name: &str) -> Result<u32, String> {
    let found = User::from_name(name).ok().flatten();
    found.map(|user| user.uid.as_raw()).ok_or_else(|| format!("there is no user {name}"))
}

fn group(name: &str) -> Result<u32, String> {
    let found = Group::from_name(name).ok().flatten();
    found.map(|group| group.gid.as_raw()).ok_or_else(|| format!("there is no group {name}"))
}

/// The facts of a process that runs, and its supplementary groups. What its owner hides is unknown.
fn process(pid: &str) -> Result<(TargetFacts, Vec<u32>), String> {
    let pid: i32 =
        pid.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| format!("{pid} is no process id"))?;
    let gone = || format!("there is no process {pid}");
    let pidfd = open_pidfd(pid).map_err(|_| gone())?;
    let namespace =
        |name: &str| fs::metadata(format!("/proc/{pid}/ns/{name}")).ok().map(|status| status.ino());
    let namespaces = namespace("pid").zip(namespace("user")).map(|(pid, user)| Namespaces { pid, user });
    let executable = fs::read_link(format!("/proc/{pid}/exe"));
    let executable = executable.map(|path| text::of_bytes(path.as_os_str().as_bytes())).unwrap_or_default();
    let sha256 = fs::read(format!("/proc/{pid}/exe")).ok().map(|bytes| Hash::of(&bytes).bytes());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    let groups = groups.split_whitespace().filter_map(|group| group.parse().ok()).collect();
    // it was read of this process, if that is still there
    let public = public_facts(pid, pidfd.as_fd()).ok_or_else(gone)?;
    Ok((TargetFacts { executable, namespaces, sha256, ..public.facts }, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_taken_one_by_one() {
        let peer = client("uid=5,gid=6,gid=7,executable=/usr/bin/x,cgroup=/a").unwrap();
        assert_eq!((peer.uid, peer.gid, peer.groups), (5, 6, vec![6, 7]));
        assert_eq!((peer.executable.as_deref(), peer.cgroup.as_deref()), (Some("/usr/bin/x"), Some("/a")));
        let facts = target("user=root,executable=/bin/y").unwrap();
        assert_eq!((facts.uids, facts.gids, facts.executable.as_str()), ([0; 3], [NO_ID; 3], "/bin/y"));
        assert_eq!(client("anonymous").unwrap().kind, PeerKind::Anonymous);
    }

    #[test]
    fn what_is_no_fact_is_an_error() {
        for words in [
            "uid",
            "gid=5",
            "uid=4294967295",
            "uid=x",
            "user=no-such-user",
            "uid=1,colour=2",
            "pid:0",
            "pid:x",
        ] {
            assert!(client(words).is_err(), "{words}");
        }
        assert!(target("colour=2").is_err() && target("pid:99999999").is_err());
    }

    #[test]
    fn a_running_process_has_all_of_its_facts() {
        let own = std::process::id();
        let facts = target(&format!("pid:{own}")).unwrap();
        assert_eq!(facts.uids, [nix::unistd::geteuid().as_raw(); 3]);
        assert!(facts.namespaces.is_some() && !facts.executable.is_empty());
        let peer = client(&format!("pid:{own}")).unwrap();
        assert_eq!((peer.namespaces, peer.cgroup), (facts.namespaces, Some(facts.cgroup)));
    }
}
