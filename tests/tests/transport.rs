//! The ways in which a worker and its parasite find each other: `-S`, `-G`, without pidfd_getfd(2), and in
//! whatever namespaces the target is.

use memcr_tests::daemon::{Daemon, Setup, Way};
use memcr_tests::procfs::{self, Snapshot};
use memcr_tests::scratch::Scratch;
use memcr_tests::sockets::{self, assert_empty, daemon_with};
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast};
use memcr_tests::watch::Watch;
use memcr_tests::{binaries, wait};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

/// Sleeps and wakes, three times, and nothing differs afterwards.
#[track_caller]
fn assert_sleeps_unchanged(daemon: &Daemon, target: &mut Target) {
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    for cycle in 1..=3 {
        daemon.put_to_sleep(target);
        assert!(procfs::rss_anon(target.pid()) < 4 << 20, "its memory is still there");
        let asleep = Snapshot::of(target.pid()).without_sleep();
        before.clone().without_sleep().assert_same(&asleep, &format!("asleep, in cycle {cycle}"));
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    before.assert_same(&Snapshot::of(target.pid()), "after three cycles");
}

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["16", "7", "2"])
}

fn sample_in_groups(groups: &[u32]) -> Target {
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    let groups = format!("--groups={}", groups.join(","));
    let mut command = cast().target.command_with(&[&groups], binaries::path("sample-memory"));
    command.args(["16", "7", "2"]);
    Target::start_command(command)
}

#[test]
fn with_a_socket_in_a_directory_a_process_of_another_user_sleeps_however_memcr_was_started() {
    for way in [Way::Root, Way::Ambient, Way::FileCapability] {
        let scratch = Scratch::new();
        let directory = sockets::directory_of(&cast().target, &scratch);
        let daemon = daemon_with(&directory).way(way).start();
        assert_sleeps_unchanged(&daemon, &mut sample());
        assert_empty(&directory);
    }
}

/// The socket as it is when the worker is about to connect: its mode, owner and group.
fn socket_of(setup: Setup, directory: &Path, target: &mut Target) -> (u32, u32, u32) {
    let daemon = setup.start();
    let mut watch = Watch::hold(daemon.launcher(), |call| call[0] == libc::SYS_connect as u64);
    let mut asleep = daemon.client().start_checkpoint(target.pid());
    watch.until_held();
    let names = sockets::names(directory);
    let [name] = &names[..] else { panic!("in the directory: {names:?}") };
    assert!(name.starts_with(&format!("memcr-{}-", target.pid())), "{name}");
    let socket = std::fs::symlink_metadata(directory.join(name)).expect("it is there");
    assert!(socket.file_type().is_socket());
    watch.go_on();
    watch.until("the client has its answer", || asleep.has_ended());
    asleep.finish().expect_status(0);
    watch.end();
    assert_empty(directory);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    (socket.mode() & 0o7777, socket.uid(), socket.gid())
}

#[test]
fn the_socket_is_there_for_a_moment_and_everybodys_or_that_of_the_group() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let (user, own, group) = (cast().target.uid, cast().target.gid, cast().socket_group);
    // whatever its creation mask
    let mut command = Command::new("/bin/sh");
    let sample = binaries::path("sample-memory");
    command.args(["-c", "umask 077; exec \"$@\"", "sh", "setpriv", "--reuid", &user.to_string()]);
    command.args(["--regid", &own.to_string(), "--groups", &group.to_string(), "--"]).arg(sample);
    let mut target = Target::start_command(command);
    let before = Snapshot::of(target.pid());
    let found = socket_of(daemon_with(&directory), &directory, &mut target);
    assert_eq!(found, (0o666, user, own));
    let with_group = daemon_with(&directory).arguments(&["-G", &group.to_string()]);
    assert_eq!(socket_of(with_group, &directory, &mut target), (0o660, user, group));
    before.assert_same(&Snapshot::of(target.pid()), "after two sleeps");
}

#[test]
fn with_a_group_its_members_sleep_and_others_are_refused_unharmed() {
    let group = cast().socket_group;
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).arguments(&["-G", &group.to_string()]).start();
    assert_sleeps_unchanged(&daemon, &mut sample_in_groups(&[group]));
    assert_empty(&directory);
    let mut other = sample();
    let before = Snapshot::of(other.pid());
    let refused = daemon.client().checkpoint(other.pid()).expect_status(3);
    refused.expect_words(&[&format!("group {group} (-G)"), "-S", "its user must be in that group"]);
    other.assert_intact();
    before.assert_same(&Snapshot::of(other.pid()), "after a refusal");
    assert_empty(&directory);
}

#[test]
fn a_daemon_outside_of_the_group_says_that_it_must_be_in_it() {
    let group = cast().client.gid;
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    // who isn't root can't give itself a group
    let setup = daemon_with(&directory).arguments(&["-G", &group.to_string()]).way(Way::Ambient);
    let daemon = setup.start();
    let mut target = sample_in_groups(&[group]);
    let refused = daemon.client().checkpoint(target.pid()).expect_status(3);
    refused.expect_words(&[&format!("in group {group} (-G)"), "permission denied"]);
    target.assert_intact();
    assert_empty(&directory);
}

#[test]
fn a_process_whose_main_thread_has_ended_sleeps_by_a_named_socket_too() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    for setup in [daemon_with(&directory), Setup::new().without_pidfd_getfd()] {
        let daemon = setup.start();
        let mut target = Target::start(&cast().target, "sample-state", &["without-main-thread", "16"]);
        wait::until("the main thread has ended", || {
            procfs::Status::of_thread(target.pid(), target.pid()).is_some_and(|status| status.state() == 'Z')
        });
        daemon.client().checkpoint(target.pid()).expect_status(0);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    assert_empty(&directory);
}

#[test]
fn one_shot_uses_a_socket_in_a_directory_too() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let mut target = sample();
    let mut command = Command::new(binaries::path("memcr"));
    command.args(["--user", cast().daemon.name, "-n", "-N", "-p", &target.pid().to_string(), "-S"]);
    let output = command.arg(&directory).arg("-d").arg(scratch.path()).output().expect("cannot run memcr");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.assert_intact();
    assert_empty(&directory);
}

#[test]
fn without_pidfd_getfd_a_socket_with_an_abstract_name_serves() {
    let daemon = Setup::new().without_pidfd_getfd().start();
    let mut target = sample();
    assert_sleeps_unchanged(&daemon, &mut target);
    let left = sockets::abstract_names(&format!("memcr-{}-", target.pid()));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_pidfd_getfd_a_process_in_another_network_needs_a_directory_and_the_refusal_says_so() {
    let daemon = Setup::new().without_pidfd_getfd().start();
    let scratch = Scratch::new();
    let mut target = target_in("net", false, &scratch.path().join("none"));
    let before = Snapshot::of(target.pid());
    let refused = daemon.client().checkpoint(target.pid()).expect_status(3);
    refused.expect_words(&["another network namespace", "-S DIR"]);
    target.assert_intact();
    before.assert_same(&Snapshot::of(target.pid()), "after a refusal");
    let directory = sockets::directory_of(&cast().target, &scratch);
    let with_directory = daemon_with(&directory).without_pidfd_getfd().start();
    assert_sleeps_unchanged(&with_directory, &mut target);
    assert_empty(&directory);
}

/// Namespaces of a target's own, for unshare(1), and whether another file system is mounted at the directory for
/// sockets.
const NAMESPACES: [(&str, bool); 7] = [
    ("net", false),
    ("pid", false),
    ("mount", false),
    ("mount", true),
    ("user", false),
    ("user net pid mount", false),
    ("user net pid mount", true),
];

/// A sample in namespaces of its own. In a user namespace it is its user's own root, else it is the target's user.
fn target_in(namespaces: &str, has_mount: bool, directory: &Path) -> Target {
    let User { uid, gid, .. } = cast().target;
    let become_user = format!("setpriv --reuid={uid} --regid={gid} --clear-groups --");
    let mut unshare = "unshare --kill-child --fork".to_owned();
    namespaces.split(' ').for_each(|name| unshare += &format!(" --{name}"));
    if namespaces.contains("pid") && namespaces.contains("mount") {
        unshare += " --mount-proc";
    }
    let mount = if has_mount {
        format!("mount -t tmpfs -o mode=777 none {} &&", directory.display())
    } else {
        String::new()
    };
    let sample = format!("{} 16 7 2", binaries::path("sample-memory").display());
    let script = if namespaces.contains("user") {
        format!("exec {become_user} {unshare} --map-root-user -- sh -c '{mount} exec {sample}'")
    } else {
        format!("exec {unshare} -- sh -c '{mount} exec {become_user} {sample}'")
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]);
    Target::start_below(command)
}

#[test]
fn a_process_in_namespaces_of_its_own_sleeps_by_default() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = Daemon::start();
    for (namespaces, has_mount) in NAMESPACES {
        println!("{namespaces}, a mount: {has_mount}");
        assert_sleeps_unchanged(&daemon, &mut target_in(namespaces, has_mount, &directory));
    }
}

#[test]
fn a_process_in_namespaces_of_its_own_sleeps_by_a_socket_in_a_directory_as_it_finds_it() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).start();
    for (namespaces, has_mount) in NAMESPACES {
        println!("{namespaces}, a mount: {has_mount}");
        let mut target = target_in(namespaces, has_mount, &directory);
        assert_sleeps_unchanged(&daemon, &mut target);
        assert_empty(
            &Path::new(&format!("/proc/{}/root", target.pid())).join(directory.strip_prefix("/").unwrap()),
        );
    }
    assert_empty(&directory);
}

#[test]
fn a_directory_behind_a_link_is_found_where_the_process_finds_it() {
    let scratch = Scratch::new();
    // in its own mount namespace the link leads to another file system than in ours
    let (place, link) = (scratch.path().join("place"), scratch.path().join("link"));
    std::fs::create_dir(&place).expect("root may");
    std::os::unix::fs::symlink(&place, &link).expect("root may");
    let daemon = daemon_with(&link).start();
    let mut target = target_in("mount", true, &place);
    assert_sleeps_unchanged(&daemon, &mut target);
    assert_empty(&place);
}

#[test]
fn with_a_group_a_process_in_a_user_namespace_is_refused_if_the_group_has_no_number_there() {
    let group = cast().socket_group;
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).arguments(&["-G", &group.to_string()]).start();
    let mut target = target_in("user", false, &directory);
    let refused = daemon.client().checkpoint(target.pid()).expect_status(3);
    refused.expect_words(&[&format!("group {group} (-G)"), "no number in its user namespace"]);
    target.assert_intact();
    // one that is there: its own
    let own = cast().target.gid.to_string();
    let daemon = daemon_with(&directory).arguments(&["-G", &own]).start();
    assert_sleeps_unchanged(&daemon, &mut target);
    assert_empty(&directory);
}

#[test]
fn a_directory_for_which_the_address_of_a_socket_has_no_room_is_refused_at_the_start() {
    let (status, said) = daemon_with(&Path::new("/").join("d".repeat(76))).start_and_fail();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("--parasite-socket-dir") && said.contains("at most 76 bytes"), "{said}");
}
