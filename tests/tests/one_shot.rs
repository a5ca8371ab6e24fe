//! `memcr -p PID` for a person at a terminal, and for a script that looks at its exit status.

use memcr_tests::daemon::send;
use memcr_tests::scratch::{Scratch, SmallDisk};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, procfs, wait};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// One shot as the daemon's user, with its images there.
fn memcr(target: &Target, images: &Path, words: &[&str]) -> Command {
    let parent = images.parent().expect("the test's own directory");
    let is_drill = std::env::var_os(binaries::ORDERS).is_some();
    let program = if is_drill { binaries::drill_in(parent, "") } else { binaries::path("memcr") };
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command
        .args(["-p", &target.pid().to_string(), "--user", cast().daemon.name, "-d"])
        .arg(images)
        .args(words);
    command
}

/// Runs it to its end; gives its exit status and what it said, on both outputs.
fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("cannot run memcr");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// A run that waits for Enter, and its output, which must stay open.
fn until_it_waits(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("cannot run memcr");
    let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut said = String::new();
    while !said.contains("press enter") {
        assert!(output.read_line(&mut said).expect("it says something") > 0, "it ended having said: {said}");
    }
    (child, output)
}

fn wait_for_end(mut child: Child) -> Option<i32> {
    wait::until_some("memcr ends", wait::BOUND, || child.try_wait().expect("cannot wait")).code()
}

#[test]
fn on_a_terminal_it_shows_a_progress_bar_waits_for_enter_and_keeps_records_on_lines_of_their_own() {
    // what takes less than a tenth of a second shows no progress
    let mut target = Target::start(&cast().target, "sample-memory", &["256"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).expect("a pseudo-terminal");
    let mut command = memcr(&target, &images, &[]);
    let end = || Stdio::from(pty.slave.try_clone().expect("a duplicate"));
    command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
    let child = command.spawn().expect("cannot run memcr");
    // once it has ended nobody holds the other end
    drop(command);
    drop(pty.slave);
    let mut keyboard = File::from(pty.master);
    let mut screen = keyboard.try_clone().expect("a duplicate");
    let shown = Arc::new(Mutex::new(String::new()));
    let text = || shown.lock().expect("nobody panics").clone();
    let reader = std::thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut bytes = [0; 512];
            // EIO once the other end is closed
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                shown.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        }
    });
    wait::until("it waits for enter", || text().contains("press enter"));
    assert!(procfs::tracer(target.pid()).is_some(), "it doesn't sleep");
    let before = text();
    // the state, the bar, bytes of how many: drawn over and over in one line
    let is_bar = |line: &str| line.contains("dumping") && line.contains('█') && line.contains("/256.");
    assert!(before.split('\r').any(is_bar), "no bar: {before:?}");
    keyboard.write_all(b"\n").expect("it listens");
    assert_eq!(wait_for_end(child), Some(0), "{:?}", text());
    reader.join().expect("nobody panics");
    let all = text();
    assert!(all.contains("rss before") && all.contains("rss after"), "{all:?}");
    assert!(all.matches("\"schema\"").count() >= 4, "{all:?}");
    let is_alone =
        |line: &str| line.ends_with('}') && line.trim_start_matches(['\r', '\n']).starts_with("\u{1b}[K{");
    let records: Vec<&str> = all.split("\r\n").filter(|line| line.contains("\"schema\"")).collect();
    let last_drawn = |line: &&str| line.rfind("\r\u{1b}[K{").is_some_and(|start| is_alone(&line[start..]));
    assert!(records.iter().all(last_drawn), "{records:?}");
    assert!(!all.contains("worker-replaced"), "its worker died: {all:?}");
    target.assert_intact();
}

#[test]
fn without_a_terminal_there_is_no_bar_and_records_go_to_standard_error() {
    let mut target = Target::start(&cast().target, "sample-memory", &["64"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let output = memcr(&target, &images, &["-n"]).output().expect("cannot run memcr");
    assert_eq!(output.status.code(), Some(0));
    let errors = String::from_utf8(output.stderr).expect("text");
    assert!(!errors.contains(['\r', '\u{1b}', '█']), "{errors}");
    let records = errors.lines().filter(|line| line.starts_with('{'));
    let records = records.map(|line| serde_json::from_str(line).expect("a record is JSON"));
    let actions: Vec<serde_json::Value> =
        records.map(|mut record: serde_json::Value| record["action"].take()).collect();
    assert!(
        ["checkpoint", "restore"].iter().all(|action| actions.iter().any(|found| found == action)),
        "{errors}"
    );
    assert!(!errors.contains("worker-replaced"), "its worker died: {errors}");
    target.assert_intact();
}

#[test]
fn its_exit_status_is_2_when_the_policy_refuses_it() {
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let policy =
        "version = 1\n[[rule]]\nname = \"nobody may\"\nactions = [\"checkpoint\"]\neffect = \"deny\"\n";
    let policy = scratch.file("policy.toml", policy);
    let (status, said) = run(memcr(&target, &images, &["-n", "--policy", &policy.to_string_lossy()]));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("nobody may"), "{said}");
    target.assert_intact();
}

#[test]
fn its_exit_status_is_4_when_the_disk_is_full_and_the_process_runs_on() {
    let mut target = Target::start(&cast().target, "sample-memory", &["32"]);
    let scratch = Scratch::new();
    let disk = SmallDisk::at(scratch.directory_of(&cast().daemon, "small"), &cast().daemon, "4m");
    let (status, said) = run(memcr(&target, disk.path(), &["-n"]));
    assert_eq!(status, Some(4), "{said}");
    assert!(said.to_lowercase().contains("no space left"), "{said}");
    assert!(target.is_awake());
    target.assert_intact();
    assert_eq!(std::fs::read_dir(disk.path()).expect("a directory").count(), 0, "an image is left");
}

#[test]
fn its_exit_status_is_5_when_the_image_was_altered_or_the_process_was_killed() {
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    for is_killed in [false, true] {
        let mut target = Target::start(&cast().target, "sample-memory", &["16"]);
        let (mut child, _output) = until_it_waits(memcr(&target, &images, &[]));
        if is_killed {
            send(target.pid(), Signal::SIGKILL);
        } else {
            let path = images.join(format!("pages-{}.img", target.pid()));
            let file = File::options().read(true).write(true).open(path).expect("root may open the image");
            let middle = file.metadata().expect("its size").len() / 2;
            let mut byte = [0];
            file.read_exact_at(&mut byte, middle).expect("the image is that long");
            file.write_all_at(&[!byte[0]], middle).expect("root may write the image");
            child.stdin.take().expect("its input is a pipe").write_all(b"\n").expect("it listens");
        }
        assert_eq!(wait_for_end(child), Some(5), "killed: {is_killed}");
        assert_eq!(target.wait_for_end().signal(), Some(libc::SIGKILL));
        assert_eq!(std::fs::read_dir(&images).expect("a directory").count(), 0, "an image is left");
    }
}

#[test]
fn a_process_that_a_signal_ends_while_it_sleeps_is_let_go_to_die_and_the_exit_status_is_5() {
    let mut target = Target::start(&cast().target, "sample-signal", &["default", "15", "32"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let mut command = memcr(&target, &images, &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cannot run memcr");
    let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut said = String::new();
    while !said.contains("press enter to restore") {
        assert!(output.read_line(&mut said).expect("it says something") > 0, "it ended having said: {said}");
    }
    send(target.pid(), Signal::SIGTERM);
    child.stdin.take().expect("its input is a pipe").write_all(b"\n").expect("it listens");
    let mut errors = String::new();
    child.stderr.take().expect("its errors are a pipe").read_to_string(&mut errors).expect("text");
    assert_eq!(wait_for_end(child), Some(5), "{errors}");
    assert!(errors.contains("SIGTERM") && errors.contains("let go to die"), "{errors}");
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGTERM));
}

#[test]
fn an_interrupt_while_it_sleeps_wakes_the_process_first() {
    let mut target = Target::start(&cast().target, "sample-memory", &["32"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let (child, _output) = until_it_waits(memcr(&target, &images, &[]));
    send(i32::try_from(child.id()).expect("a pid"), Signal::SIGINT);
    assert_eq!(wait_for_end(child), Some(0));
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn a_stop_and_a_continue_while_it_waits_for_enter_change_nothing() {
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let (mut child, output) = until_it_waits(memcr(&target, &images, &[]));
    let pid = i32::try_from(child.id()).expect("a pid is an i32");
    for (signal, state) in [(Signal::SIGSTOP, 'T'), (Signal::SIGCONT, 'S')] {
        send(pid, signal);
        wait::until("it is stopped, and waits again", || {
            procfs::Status::of(pid).is_some_and(|status| status.state() == state)
        });
    }
    assert!(procfs::tracer(target.pid()).is_some(), "it doesn't sleep");
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("it listens");
    assert_eq!(wait_for_end(child), Some(0));
    drop(output);
    target.assert_intact();
}
