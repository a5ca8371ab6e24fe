//! What can keep a parasite from having its socket, and strangers who get in its way: the process is put to sleep or
//! refused with the reason, and is what it was; nothing is left in the directory.

use memcr_tests::binaries;
use memcr_tests::client::Outcome;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::Snapshot;
use memcr_tests::scratch::{Scratch, set_mode};
use memcr_tests::sockets::{self, assert_empty, daemon_with};
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast, required};
use memcr_tests::wait;
use memcr_tests::watch::Watch;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["4", "7", "2"])
}

/// A checkpoint is refused with these words, and the target is what it was.
#[track_caller]
fn assert_refused(daemon: &Daemon, target: &mut Target, words: &[&str]) {
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    daemon.client().checkpoint(target.pid()).expect_status(3).expect_words(words);
    target.assert_intact();
    before.assert_same(&Snapshot::of(target.pid()), "after a refusal");
    daemon.wait_until_no_image();
}

#[test]
fn a_directory_that_is_missing_or_none_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    let file = scratch.file("file", "no directory");
    for directory in [scratch.path().join("missing"), file.clone(), file.join("below")] {
        let daemon = daemon_with(&directory).start();
        let name = format!("directory {} (-S)", directory.display());
        assert_refused(&daemon, &mut sample(), &[&name, "make that directory where the process finds it"]);
    }
}

#[test]
fn a_directory_that_is_missing_where_the_process_lives_is_named_though_it_is_there_for_us() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let below = directory.join("below");
    std::fs::create_dir(&below).expect("root may");
    let daemon = daemon_with(&below).start();
    let (uid, gid) = (cast().target.uid, cast().target.gid);
    let script = format!(
        "mount -t tmpfs none {} && exec setpriv --reuid={uid} --regid={gid} --clear-groups {} 4",
        directory.display(),
        binaries::path("sample-memory").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let mut target = Target::start_command(command);
    let name = format!("directory {} (-S)", below.display());
    assert_refused(&daemon, &mut target, &[&name, "make that directory where the process finds it"]);
}

#[test]
fn a_directory_in_which_the_process_may_make_no_file_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("of-root");
    std::fs::create_dir(&directory).expect("root may");
    set_mode(&directory, 0o755);
    let daemon = daemon_with(&directory).start();
    let name = format!("directory {} (-S)", directory.display());
    let words = ["can't make a socket", &name, "permission denied", "let its user make files there"];
    assert_refused(&daemon, &mut sample(), &words);
    assert_empty(&directory);
}

#[test]
fn a_directory_on_a_file_system_that_is_read_only_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let daemon = daemon_with(&directory).start();
    let (uid, gid) = (cast().target.uid, cast().target.gid);
    let script = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec setpriv --reuid={uid} --regid={gid} \
         --clear-groups {1} 4",
        directory.display(),
        binaries::path("sample-memory").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let mut target = Target::start_command(command);
    let name = format!("directory {} (-S)", directory.display());
    assert_refused(&daemon, &mut target, &["can't make a socket", &name, "read-only"]);
}

#[test]
fn a_directory_that_the_daemon_may_not_enter_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    set_mode(&directory, 0o700);
    let daemon = daemon_with(&directory).start();
    let name = format!("directory {} (-S)", directory.display());
    assert_refused(&daemon, &mut sample(), &[&name, "permission denied", "let the daemon's user enter"]);
    assert_empty(&directory);
}

#[test]
fn a_process_that_may_open_no_more_files_is_refused_whatever_it_is_that_it_lacks() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let prlimit = required("/usr/bin/prlimit", "util-linux");
    for setup in [daemon_with(&directory), Setup::new(), Setup::new().without_pidfd_getfd()] {
        let daemon = setup.start();
        let mut refusals = 0;
        for limit in 3..=12 {
            let mut target = sample();
            let words = [format!("--pid={}", target.pid()), format!("--nofile={limit}:{limit}")];
            let status = cast().target.command(prlimit).args(words).status().expect("cannot run prlimit");
            assert!(status.success(), "prlimit: {status}");
            let before = Snapshot::of(target.pid());
            let outcome = daemon.client().checkpoint(target.pid());
            println!("{limit}: {} {}", outcome.status, outcome.errors);
            if outcome.status == 0 {
                daemon.client().restore(target.pid()).expect_status(0);
            } else {
                let limit = if outcome.errors.contains("its limit of open files") {
                    "its limit of open files"
                } else {
                    "too many open files"
                };
                outcome.expect_status(3).expect_words(&[limit]);
                refusals += 1;
            }
            target.assert_intact();
            before.assert_same(&Snapshot::of(target.pid()), "after it lacked room for files");
            assert_empty(&directory);
        }
        assert!((1..10).contains(&refusals), "{refusals} refusals: this shows nothing");
    }
}

/// A checkpoint whose worker is held when it is about to connect to the parasite's socket, for `meanwhile` to happen
/// at that socket.
#[track_caller]
fn checkpoint_with(
    daemon: &Daemon,
    target: &Target,
    place: impl Fn() -> PathBuf,
    meanwhile: impl FnOnce(&Path),
) -> Outcome {
    let mut watch = Watch::hold(daemon.launcher(), |call| call[0] == libc::SYS_connect as u64);
    let mut asleep = daemon.client().start_checkpoint(target.pid());
    watch.until_held();
    meanwhile(&place());
    watch.go_on();
    watch.until("the client has its answer", || asleep.has_ended());
    let outcome = asleep.finish();
    watch.end();
    outcome
}

/// A daemon whose parasites have their sockets in a directory, a target, and what that was like before.
struct Scene {
    directory: PathBuf,
    daemon: Daemon,
    target: Target,
    before: Snapshot,
    _scratch: Scratch,
}

impl Scene {
    fn new() -> Self {
        Self::of(sample())
    }

    fn of(target: Target) -> Self {
        let scratch = Scratch::new();
        let directory = sockets::directory_of(&cast().target, &scratch);
        let daemon = daemon_with(&directory).start();
        let before = Snapshot::of(target.pid());
        Self { directory, daemon, target, before, _scratch: scratch }
    }

    /// A checkpoint during which something happens at the socket before the worker connects.
    #[track_caller]
    fn checkpoint_with(&self, meanwhile: impl FnOnce(&Path)) -> Outcome {
        checkpoint_with(&self.daemon, &self.target, || only_file(&self.directory), meanwhile)
    }

    /// How the directory is named in messages.
    fn name(&self) -> String {
        format!("directory {} (-S)", self.directory.display())
    }

    fn wake(&self) {
        self.daemon.client().restore(self.target.pid()).expect_status(0);
    }

    /// The target is what it was, and nothing is left in the directory.
    #[track_caller]
    fn assert_as_before(&mut self, when: &str) {
        self.target.assert_intact();
        self.before.assert_same(&Snapshot::of(self.target.pid()), when);
        assert_empty(&self.directory);
    }
}

/// The only file in a directory.
fn only_file(directory: &Path) -> PathBuf {
    let names = sockets::names(directory);
    let [name] = &names[..] else { panic!("in {}: {names:?}", directory.display()) };
    directory.join(name)
}

/// Connects as this user; keeps its connections until this is dropped.
fn intrude_as(user: &User, place: &Path, words: &[&str]) -> Target {
    let place = place.to_str().expect("a path of ours is text");
    Target::start(user, "sample-intruder", &[&[place], words].concat())
}

/// The same as a user who has nothing to do with it.
fn intrude(place: &Path, words: &[&str]) -> Target {
    intrude_as(&cast().stranger, place, words)
}

#[test]
fn strangers_who_connect_first_are_turned_away_and_the_process_sleeps() {
    let mut scene = Scene::new();
    let mut intruder = None;
    let outcome = scene.checkpoint_with(|socket| intruder = Some(intrude(socket, &["100"])));
    outcome.expect_status(0);
    assert_eq!(intruder.expect("somebody was there").fact("connected"), "100");
    assert_empty(&scene.directory);
    scene.wake();
    scene.assert_as_before("after strangers have connected");
}

#[test]
fn strangers_who_connect_to_an_abstract_name_first_are_turned_away_too() {
    let daemon = Setup::new().without_pidfd_getfd().start();
    let mut target = sample();
    let before = Snapshot::of(target.pid());
    let beginning = format!("memcr-{}-", target.pid());
    let name = || {
        let names = sockets::abstract_names(&beginning);
        let [name] = &names[..] else { panic!("{names:?}") };
        PathBuf::from(format!("@{name}"))
    };
    let mut intruder = None;
    let outcome = checkpoint_with(&daemon, &target, name, |name| {
        intruder = Some(intrude(name, &["100"]));
    });
    outcome.expect_status(0);
    assert_eq!(intruder.expect("somebody was there").fact("connected"), "100");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    before.assert_same(&Snapshot::of(target.pid()), "after strangers have connected");
}

#[test]
fn somebody_of_the_daemons_own_user_without_the_token_is_turned_away() {
    // in a namespace of its own it sees the same of everybody outside: process 0 of user 65534
    let mut command = cast().target.command("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--"]);
    command.arg(binaries::path("sample-memory")).arg("4");
    let mut scene = Scene::of(Target::start_below(command));
    let mut intruder = None;
    let intrude = |socket: &Path| intruder = Some(intrude_as(&cast().daemon, socket, &["50"]));
    scene.checkpoint_with(intrude).expect_status(0);
    assert_eq!(intruder.expect("somebody was there").fact("connected"), "50");
    assert_empty(&scene.directory);
    scene.wake();
    scene.assert_as_before("after strangers have connected");
}

#[test]
fn strangers_who_leave_no_room_for_the_worker_are_named_as_the_reason() {
    let mut scene = Scene::new();
    let mut intruder = None;
    let outcome = scene.checkpoint_with(|socket| intruder = Some(intrude(socket, &["1000"])));
    outcome.expect_status(3).expect_words(&[
        &scene.name(),
        "others keep connecting",
        "let nobody else enter",
    ]);
    let connected: u32 = intruder.expect("somebody was there").fact("connected").parse().expect("a number");
    assert!(connected < 1000, "there is room without end");
    scene.assert_as_before("after strangers have filled the queue");
}

#[test]
fn strangers_whose_connections_take_long_to_close_hold_it_up_for_seconds_and_harm_nothing() {
    let mut scene = Scene::new();
    let mut intruder = None;
    // it has its answer within the bound of every wait
    let outcome = scene.checkpoint_with(|socket| intruder = Some(intrude(socket, &["10", "slow"])));
    assert_eq!(intruder.expect("somebody was there").fact("connected"), "10");
    assert_ne!(outcome.status, 0, "nobody was held up: this shows nothing");
    scene.target.wait_until_awake();
    wait::until("no worker is left", || scene.daemon.workers().is_empty());
    scene.assert_as_before("after strangers held it up");
}

#[test]
fn somebody_who_listens_in_the_place_of_the_parasite_is_told_nothing() {
    let mut scene = Scene::new();
    let mut listener = None;
    let outcome = scene.checkpoint_with(|socket| {
        std::fs::remove_file(socket).expect("root may");
        listener = Some(listen_at(socket));
    });
    outcome.expect_status(3).expect_words(&["somebody else listens", &scene.directory.display().to_string()]);
    let connected = nix::sys::socket::accept(listener.expect("it listens").as_raw_fd());
    let connected = connected.expect("the worker has connected");
    let mut bytes = [0; 64];
    let received = nix::sys::socket::recv(connected, &mut bytes, nix::sys::socket::MsgFlags::empty());
    assert_eq!(received, Ok(0), "it was told something");
    scene.assert_as_before("after somebody took the place of its socket");
}

fn listen_at(path: &Path) -> OwnedFd {
    let kind = SockType::SeqPacket;
    let listener = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(listener.as_raw_fd(), &UnixAddr::new(path).expect("an address")).expect("it is free");
    set_mode(path, 0o666);
    listen(&listener, Backlog::new(5).expect("a backlog")).expect("it listens");
    listener
}

#[test]
fn a_socket_that_is_taken_away_is_refused_with_the_reason() {
    let mut scene = Scene::new();
    let outcome = scene.checkpoint_with(|socket| std::fs::remove_file(socket).expect("root may"));
    outcome.expect_status(3).expect_words(&[&scene.name(), "somebody may have taken it away"]);
    scene.assert_as_before("after its socket was taken away");
}

#[test]
fn the_group_is_given_to_no_file_that_somebody_has_put_in_the_place_of_the_socket() {
    let group = cast().socket_group;
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    let secret = scratch.file("secret", "of the target's user");
    chown(&secret, Some(cast().target.uid), Some(cast().target.gid)).expect("root may");
    for by_link in [true, false] {
        let daemon = daemon_with(&directory).arguments(&["-G", &group.to_string()]).start();
        let groups = format!("--groups={group}");
        let mut command = cast().target.command_with(&[&groups], binaries::path("sample-memory"));
        command.arg("4");
        let mut target = Target::start_command(command);
        let before = Snapshot::of(target.pid());
        // as soon as the socket has its name
        let place = directory.clone();
        let mut watch = Watch::hold(daemon.launcher(), move |_| !sockets::names(&place).is_empty());
        let mut asleep = daemon.client().start_checkpoint(target.pid());
        watch.until_held();
        let socket = only_file(&directory);
        std::fs::remove_file(&socket).expect("root may");
        if by_link {
            symlink(&secret, &socket).expect("root may");
        } else {
            std::fs::hard_link(&secret, &socket).expect("root may");
        }
        watch.go_on();
        watch.until("the client has its answer", || asleep.has_ended());
        asleep.finish().expect_status(3).expect_words(&["somebody has taken away the socket"]);
        watch.end();
        let metadata = std::fs::metadata(&secret).expect("it is there");
        assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (cast().target.gid, 0o644));
        target.assert_intact();
        before.assert_same(&Snapshot::of(target.pid()), "after its socket was replaced");
        assert_empty(&directory);
    }
}
