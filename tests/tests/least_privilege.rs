//! Invariant 4: what each process may do, as /proc tells, in every way of starting.

use memcr_tests::daemon::{Daemon, Setup, Way};
use memcr_tests::procfs::{self, Status};
use memcr_tests::scratch::Scratch;
use memcr_tests::sockets::{self, daemon_with};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, wait};
use std::os::unix::net::UnixStream;

const SYS_PTRACE: u64 = 1 << 19;

#[test]
fn started_by_root_every_process_ends_up_with_the_least_privilege() {
    assert_least_privilege(Way::Root);
}

#[test]
fn started_with_an_ambient_capability_every_process_ends_up_with_the_least_privilege() {
    assert_least_privilege(Way::Ambient);
}

#[test]
fn started_from_a_file_with_the_capability_every_process_ends_up_with_the_least_privilege() {
    assert_least_privilege(Way::FileCapability);
}

#[test]
fn with_a_group_for_sockets_launcher_and_worker_have_that_one_group_and_the_broker_none() {
    let group = cast().client.gid.to_string();
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).arguments(&["-G", &group]).start();
    let groups = format!("--groups={group}");
    let mut command = cast().target.command_with(&[&groups], binaries::path("sample-memory"));
    command.arg("8");
    let mut target = Target::start_command(command);
    measure(Way::Root, &daemon, &mut target, &group);
}

#[test]
fn with_a_socket_in_a_directory_every_process_ends_up_with_the_least_privilege() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).start();
    measure(Way::Root, &daemon, &mut Target::start(&cast().target, "sample-memory", &["8"]), "");
}

fn assert_least_privilege(way: Way) {
    let daemon = Setup::new().way(way).start();
    // only root can give groups up; who starts it otherwise chooses them
    let groups = if way == Way::Root { String::new() } else { cast().socket_group.to_string() };
    measure(way, &daemon, &mut Target::start(&cast().target, "sample-memory", &["8"]), &groups);
}

/// Measures all three processes while a target sleeps, and wakes it. Launcher and worker have these groups.
fn measure(way: Way, daemon: &Daemon, target: &mut Target, groups: &str) {
    let of_broker = if way == Way::Root { "" } else { groups };
    let worker = daemon.put_to_sleep(target);
    assert_eq!(daemon.workers(), [worker]);
    for (role, pid, permitted, groups) in [
        ("broker", daemon.pid(), 0, of_broker),
        ("launcher", daemon.launcher(), SYS_PTRACE, groups),
        ("worker", worker, 0, groups),
    ] {
        assert_confined(role, pid, permitted, groups);
    }
    assert_little_open(daemon, worker);
    assert_filters(daemon, worker);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

fn assert_confined(role: &str, pid: i32, permitted: u64, groups: &str) {
    for tid in procfs::threads(pid) {
        let status = Status::of_thread(pid, tid).expect("a status");
        let set = |name| status.hexadecimal(name);
        assert_eq!(set("CapPrm"), permitted, "{role}: CapPrm");
        assert_eq!(set("CapEff"), 0, "{role}: CapEff");
        assert_eq!(set("CapInh"), 0, "{role}: CapInh");
        assert_eq!(set("CapAmb"), 0, "{role}: CapAmb");
        assert_eq!(status.field("NoNewPrivs"), "1", "{role}: NoNewPrivs");
        assert_eq!(status.field("Umask"), "0077", "{role}: Umask");
        assert_eq!(status.field("Seccomp"), "2", "{role}: Seccomp");
        assert_eq!(status.field("Groups"), groups, "{role}: supplementary groups");
        let user = cast().daemon.uid.to_string();
        assert!(
            status.field("Uid").split_whitespace().all(|uid| uid == user),
            "{role}: Uid {}",
            status.field("Uid")
        );
        let group = cast().daemon.gid.to_string();
        assert!(
            status.field("Gid").split_whitespace().all(|gid| gid == group),
            "{role}: Gid {}",
            status.field("Gid")
        );
    }
    // what is not dumpable belongs to root
    assert_eq!(procfs::owner(pid), 0, "the {role} is dumpable");
}

/// Neither the launcher nor the worker has the listening socket, a client's socket, the audit log or an environment.
fn assert_little_open(daemon: &Daemon, worker: i32) {
    let _silent = UnixStream::connect(daemon.socket()).expect("root may connect");
    let roles = [("broker", daemon.pid()), ("launcher", daemon.launcher()), ("worker", worker)];
    wait::until("the broker alone has its listening socket and that of its client", || {
        let served = procfs::sockets_at(&daemon.socket());
        served.len() == 2 && served.is_subset(&procfs::sockets_of(daemon.pid()))
    });
    let served = procfs::sockets_of(daemon.pid());
    for (role, pid) in roles {
        let sockets = procfs::sockets_of(pid);
        assert!(role == "broker" || sockets.is_disjoint(&served), "the {role} has sockets of the broker");
        let all = procfs::descriptors(pid).into_iter().map(|number| procfs::descriptor_target(pid, number));
        let has_log = all.into_iter().any(|name| name.ends_with("/audit.log"));
        assert_eq!(has_log, role == "broker", "the {role} and the audit log");
    }
    // to the broker, and to the launcher
    assert_eq!(procfs::sockets_of(worker).len(), 2, "the worker has other sockets than its own two");
    for (role, pid) in roles {
        let environment = String::from_utf8_lossy(&procfs::environment(pid)).into_owned();
        assert_eq!(environment, "", "the {role} has an environment");
    }
}

/// What a process has open: names of files, kinds of others, in alphabetical order.
fn open_in(pid: i32) -> Vec<String> {
    let all = procfs::descriptors(pid).into_iter().map(|number| procfs::descriptor_target(pid, number));
    let name = |target: String| match target.split_once(':') {
        Some(("socket", _)) => "socket".to_owned(),
        Some(("anon_inode", kind)) => kind.to_owned(),
        _ if target.starts_with("/dev/") => target,
        _ => target.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    let mut all: Vec<_> = all.map(name).collect();
    all.sort();
    all
}

#[test]
fn each_process_has_exactly_the_descriptors_that_it_needs() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    let worker = daemon.put_to_sleep(&target);
    let image = format!("pages-{}.img", target.pid());
    let directory = daemon.scratch().path().file_name().expect("a name").to_string_lossy().into_owned();
    // the directories of its socket and of its log, to remove the one and to open the other anew; sockets: listener,
    // launcher, worker
    let mut broker = vec!["/dev/null", "/dev/null", "[eventpoll]", "[pidfd]", "[signalfd]", "audit.log"];
    broker.extend(["daemon.log", "images", &directory, &directory, "socket", "socket", "socket"]);
    broker.sort_unstable();
    wait::until("the client is gone", || procfs::descriptors(daemon.pid()).len() <= broker.len());
    assert_eq!(open_in(daemon.pid()), broker);
    // broker, and of the worker: control and deposits; the pidfds are of the broker and of the target
    let mut launcher = vec!["/dev/null", "/dev/null", "/dev/userfaultfd", "[pidfd]", "[pidfd]", "[signalfd]"];
    launcher.extend(["[userfaultfd]", "daemon.log", "images", "mem", &image, "socket", "socket", "socket"]);
    assert_eq!(open_in(daemon.launcher()), launcher);
    let mut confined = vec!["[pidfd]", "[signalfd]", "[userfaultfd]", "daemon.log", "mem"];
    confined.extend([&image, "socket", "socket", "status"]);
    assert_eq!(open_in(worker), confined);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn limits_are_as_small_as_the_work_and_can_not_be_raised() {
    const MIB: u64 = 1 << 20;
    let daemon = Setup::new().descriptors(1024).start();
    let mut target = Target::start(&cast().target, "sample-memory", &["64"]);
    let worker = daemon.put_to_sleep(&target);
    let cores = std::thread::available_parallelism().expect("there are cores").get() as u64;
    for pid in [daemon.pid(), daemon.launcher(), worker] {
        assert_eq!(procfs::limit(pid, "Max core file size"), (0, 0));
    }
    assert_eq!(procfs::limit(daemon.pid(), "Max processes"), (0, 0));
    assert_eq!(procfs::limit(daemon.pid(), "Max open files"), (1024, 1024));
    assert_eq!(procfs::limit(daemon.launcher(), "Max open files"), (1024, 1024));
    for pid in [daemon.launcher(), worker] {
        let workers = 1024 / 4;
        assert_eq!(
            procfs::limit(pid, "Max processes"),
            (workers * (cores + 1) + 8, workers * (cores + 1) + 8)
        );
    }
    // its own last words; workers need more
    let (soft, _) = procfs::limit(daemon.launcher(), "Max file size");
    assert!((MIB..2 * MIB).contains(&soft), "{soft}");
    assert_eq!(procfs::limit(worker, "Max open files"), (1024, 1024));
    let (soft, hard) = procfs::limit(worker, "Max file size");
    assert_eq!(soft, hard);
    // its target's memory, an eighth of it, and 16 MiB
    assert!((80 * MIB..100 * MIB).contains(&soft), "{soft}");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn what_the_broker_was_started_with_shows_in_no_environment() {
    let daemon = Setup::new().environment("SECRET", "of the administrator").start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    measure(Way::Root, &daemon, &mut target, "");
}

#[test]
fn the_broker_can_start_no_thread_the_others_are_alone_in_theirs() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    let worker = daemon.put_to_sleep(&target);
    let threads = [daemon.pid(), daemon.launcher(), worker].map(|pid| procfs::threads(pid).len());
    // the broker has one more, that closes what clients sent
    assert_eq!(threads, [2, 1, 1]);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

/// A process gets one filter more than the one it was forked from: the launcher has its own, a worker also the
/// one made for its target.
fn assert_filters(daemon: &Daemon, worker: i32) {
    let filters = |pid| Status::of(pid).expect("a status").number("Seccomp_filters");
    let own = Status::of(std::process::id() as i32).expect("a status").number("Seccomp_filters");
    assert!(filters(daemon.launcher()) > own, "the launcher has no filter");
    assert!(filters(worker) > filters(daemon.launcher()), "the worker has no filter of its own");
    assert!(filters(daemon.pid()) > own, "the broker has no filter");
}

#[test]
fn a_user_that_may_not_create_images_gets_a_private_directory() {
    let setup = Setup::new();
    let images = setup.scratch().path().join("of-root");
    std::fs::create_dir(&images).expect("cannot make a directory");
    memcr_tests::scratch::set_mode(&images, 0o755);
    let daemon = setup.images(&images).start();
    let target = Target::start(&cast().target, "sample-memory", &["4"]);
    daemon.put_to_sleep(&target);
    let names = daemon.image_names();
    assert_eq!(names.len(), 1, "{names:?}");
    let private = std::fs::metadata(images.join(&names[0])).expect("a directory");
    assert!(private.is_dir());
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&private), cast().daemon.uid);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&private) & 0o777, 0o700);
    daemon.client().restore(target.pid()).expect_status(0);
}

#[test]
fn an_image_belongs_to_the_daemon_alone_and_shows_nothing_of_the_memory() {
    let daemon = Daemon::start();
    let target = Target::start(&cast().target, "sample-memory", &["8"]);
    daemon.put_to_sleep(&target);
    assert_eq!(daemon.image_names(), [format!("pages-{}.img", target.pid())]);
    let path = daemon.images().join(&daemon.image_names()[0]);
    let metadata = std::fs::metadata(&path).expect("an image");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o600);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), cast().daemon.uid);
    let image = std::fs::read(&path).expect("root may read it");
    for word in [&b"kernel socket"[..], b"sleep memory", b"policy\n"] {
        assert!(!image.windows(word.len()).any(|window| window == word), "the image shows text");
    }
    daemon.client().restore(target.pid()).expect_status(0);
    daemon.wait_until_no_image();
}
