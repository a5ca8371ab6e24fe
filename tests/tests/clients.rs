//! Invariant 9: no client waits for a stranger, and none can do harm by what it sends.

use memcr_protocol::client::{ClientFrame, Request, VERSION};
use memcr_protocol::frame;
use memcr_tests::content::Sequence;
use memcr_tests::daemon::Daemon;
use memcr_tests::procfs;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, wait};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest that a small process may take to sleep and wake while others are in the way.
const SOON: Duration = Duration::from_secs(5);

fn sample(mib: &str) -> Target {
    Target::start(&cast().target, "sample-memory", &[mib])
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("root may connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    stream
}

/// Puts a small process to sleep and wakes it, as another client.
#[track_caller]
fn assert_served(daemon: &Daemon) {
    let mut target = sample("4");
    let start = Instant::now();
    daemon.put_to_sleep(&target);
    daemon.client().restore(target.pid()).expect_status(0);
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    target.assert_intact();
}

#[test]
fn a_client_that_says_nothing_delays_no_other() {
    let daemon = Daemon::start();
    let _silent = connect(&daemon);
    assert_served(&daemon);
}

#[test]
fn a_client_that_sends_half_a_frame_delays_no_other() {
    let daemon = Daemon::start();
    let hello = frame::encode(&ClientFrame::Hello { version: VERSION }).expect("a hello fits");
    let _halves: Vec<_> = (1..hello.len())
        .map(|length| {
            let mut stream = connect(&daemon);
            stream.write_all(&hello[..length]).expect("the daemon listens");
            stream
        })
        .collect();
    assert_served(&daemon);
}

#[test]
fn three_hundred_idle_clients_delay_no_other() {
    let daemon = Daemon::start();
    let idle: Vec<_> = (0..300).map(|_| connect(&daemon)).collect();
    assert_served(&daemon);
    drop(idle);
    assert_served(&daemon);
}

#[test]
fn a_client_that_hangs_up_before_its_answer_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let before = procfs::descriptors(daemon.pid()).len();
    let hello = frame::encode(&ClientFrame::Hello { version: VERSION }).expect("a hello fits");
    for bytes in [&hello[..], &[0xff; 64], &[100, 0, 0, 0, 1], &[100, 0, 0, 0, 1, 0, 0, 0]] {
        for _ in 0..40 {
            connect(&daemon).write_all(bytes).expect("the daemon listens");
        }
    }
    // they are accepted in order; all but the first forty, which asked for nothing, are on record
    wait::until("all are heard", || daemon.audit().len() > 3 * 40);
    wait::until("all are parted with", || procfs::descriptors(daemon.pid()).len() <= before);
    assert_served(&daemon);
}

#[test]
fn a_client_that_never_reads_its_answers_delays_no_other() {
    let daemon = Daemon::start();
    let mut deaf = connect(&daemon);
    deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
    let mut frames = frame::encode(&ClientFrame::Hello { version: VERSION }).expect("a hello fits");
    for id in 1..2000 {
        frames.extend(frame::encode(&ClientFrame::Request { id, request: Request::List }).expect("it fits"));
    }
    for _ in 0..50 {
        if deaf.write_all(&frames).is_err() {
            break;
        }
    }
    assert_served(&daemon);
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let daemon = Daemon::start();
    let mut numbers = Sequence::new(99);
    for round in 0..200 {
        let mut stream = connect(&daemon);
        if round % 2 == 0 {
            let hello = frame::encode(&ClientFrame::Hello { version: VERSION }).expect("a hello fits");
            stream.write_all(&hello).expect("the daemon listens");
        }
        let length = 8 + numbers.below(200) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| numbers.next_number() as u8).collect();
        // else most of them would be but the beginning of a long frame, which may still come
        bytes[..4].copy_from_slice(&(numbers.below(length as u64 - 4) as u32).to_le_bytes());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // it closes: at once, or having said why
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
    }
    assert_served(&daemon);
    assert!(daemon.audit().iter().any(|record| record["event"] == "protocol-violation"));
}

#[test]
fn an_overlong_length_ends_the_connection_at_once() {
    let daemon = Daemon::start();
    let mut stream = connect(&daemon);
    stream.write_all(&u32::MAX.to_le_bytes()).expect("the daemon listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon closes the connection");
    assert_served(&daemon);
}

#[test]
fn another_version_is_refused_with_a_sentence() {
    let daemon = Daemon::start();
    let mut stream = connect(&daemon);
    stream
        .write_all(&frame::encode(&ClientFrame::Hello { version: 999 }).expect("it fits"))
        .expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon closes the connection");
    assert!(String::from_utf8_lossy(&answer).contains("version"), "{answer:?}");
}

#[test]
fn a_request_without_a_pidfd_or_with_another_descriptor_is_refused() {
    let daemon = Daemon::start();
    let mut connection = memcrclient::Connection::connect(&daemon.socket()).expect("root may connect");
    let no_process = std::fs::File::open("/dev/null").expect("/dev/null").into();
    let refusal =
        connection.checkpoint(&no_process, Default::default(), |_| {}).expect_err("it is no process");
    assert!(matches!(refusal, memcrclient::Error::Failed(_) | memcrclient::Error::Closed), "{refusal}");
    let mut stream = connect(&daemon);
    let mut frames = frame::encode(&ClientFrame::Hello { version: VERSION }).expect("a hello fits");
    frames
        .extend(frame::encode(&ClientFrame::Request { id: 5, request: Request::Restore }).expect("it fits"));
    stream.write_all(&frames).expect("the daemon listens");
    let mut answer = [0; 512];
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("pidfd") {
        let length = stream.read(&mut answer).expect("the daemon answers");
        assert!(length > 0, "it said only {:?}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&answer[..length]);
    }
    assert_served(&daemon);
}

#[test]
fn several_processes_are_put_to_sleep_and_woken_at_once() {
    let daemon = Daemon::start();
    let mut targets: Vec<_> = (0..8).map(|_| sample("24")).collect();
    let running: Vec<_> =
        targets.iter().map(|target| daemon.client().start_checkpoint(target.pid())).collect();
    running.into_iter().for_each(|running| drop(running.finish().expect_status(0)));
    let mut listed = daemon.client().listed();
    listed.sort_unstable();
    let mut expected: Vec<_> = targets.iter().map(|target| i64::from(target.pid())).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(daemon.workers().len(), 8);
    let running: Vec<_> = targets.iter().map(|target| daemon.client().start_restore(target.pid())).collect();
    running.into_iter().for_each(|running| drop(running.finish().expect_status(0)));
    targets.iter_mut().for_each(Target::assert_intact);
}

#[test]
fn a_small_process_does_not_wait_for_a_large_one() {
    let daemon = Daemon::start();
    let large = sample("768");
    let running = daemon.client().start_checkpoint(large.pid());
    wait::until("its memory is being written", || daemon.client().state(large.pid()) != "running");
    assert_served(&daemon);
    let state = daemon.client().state(large.pid());
    assert!(
        matches!(state.as_str(), "attaching" | "dumping"),
        "the large one was {state} before the small one was done"
    );
    running.kill();
}

#[test]
fn a_second_checkpoint_of_the_same_process_does_not_disturb_the_first() {
    let daemon = Daemon::start();
    let mut target = sample("128");
    let running: Vec<_> = (0..4).map(|_| daemon.client().start_checkpoint(target.pid())).collect();
    let statuses: Vec<_> = running.into_iter().map(|running| running.finish().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 0).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 0 | 3)), "{statuses:?}");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_client_in_namespaces_of_its_own_names_its_child_by_the_number_there() {
    let daemon = Daemon::start();
    let scratch = Scratch::new();
    let place = scratch.directory_of(&cast().client, "client");
    let script = format!(
        "set -e; cd {place}; mkfifo line; {bin}/sample-memory 8 < line > said & exec 3> line\n\
         target=$!; while ! grep -q ready said; do :; done\n\
         grep -q \"pid=$target\" said; test $target -lt 100\n\
         {bin}/memcr-client -l {socket} -p $target -c --json; {bin}/memcr-client -l {socket} -p $target --status --json\n\
         {bin}/memcr-client -l {socket} -p $target -r --json; echo check >&3; while ! grep -q intact said; do :; done; cat said",
        place = place.display(),
        bin = binaries::directory().display(),
        socket = daemon.socket().display(),
    );
    let mut command = cast().client.command("/usr/bin/unshare");
    let output = command
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "--net",
            "--kill-child",
            "timeout",
            "60",
        ])
        .args(["sh", "-c", &script])
        .output()
        .expect("cannot run unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("intact"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("\"state\":\"asleep\"") && said.contains("\"state\":\"running\""), "{said}");
    assert!(procfs::is_alive(daemon.pid()));
}
