//! The command over TCP, against a listener that answers in the original's protocol.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The port of a listener that answers each connection with a number, and the requests that it receives.
fn daemon(answers: &'static [i32]) -> (u16, Receiver<[u32; 2]>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).unwrap();
            let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            sender.send([word(0), word(4)]).unwrap();
            stream.write_all(&answer.to_ne_bytes()).unwrap();
        }
    });
    (port, requests)
}

fn run(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_memcr-client")).args(words).output();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_port_alone_is_of_this_machine_and_both_acts_are_done_in_their_order() {
    let (port, requests) = daemon(&[0, 0]);
    let (status, said, errors) = run(&["-l", &port.to_string(), "-p", "7", "-rc"]);
    assert_eq!((status, said.as_str(), errors.as_str()), (0, "process 7 sleeps\nprocess 7 runs\n", ""));
    let request = || requests.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!([request(), request()], [[100, 7], [101, 7]]);
}

#[test]
fn the_long_names_of_the_original_work() {
    let (port, requests) = daemon(&[0, 0]);
    let location = format!("--location=127.0.0.1:{port}");
    let (status, said, errors) = run(&[&location, "--pid", "7", "--checkpoint", "--restore", "--json"]);
    assert_eq!(status, 0, "{errors}");
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({ "pid": 7, "state": "asleep", "report": null }));
    assert_eq!(lines[1]["state"], "running");
    assert_eq!(requests.iter().count(), 2);
    for word in ["--version", "--help"] {
        let (status, said, _) = run(&[word]);
        assert!(status == 0 && said.contains("memcr-client"), "{word}: {said}");
    }
}

#[test]
fn the_exit_status_tells_the_answers_apart() {
    for (answers, act, expected, word) in [
        (&[-1][..], "-c", 4, "didn't put process 7 to sleep"),
        (&[-1], "-r", 4, "didn't wake process 7"),
        (&[-2], "-c", 3, "asleep already"),
        (&[-2], "-r", 3, "not asleep"),
    ] {
        let (port, _requests) = daemon(answers);
        let (status, said, errors) = run(&["-l", &port.to_string(), "-p", "7", act]);
        assert_eq!((status, said.as_str()), (expected, ""), "{errors}");
        assert!(errors.contains(word), "{errors}");
    }
}

#[test]
fn a_failed_checkpoint_is_not_followed_by_a_restore() {
    let (port, requests) = daemon(&[-1]);
    assert_eq!(run(&["-l", &port.to_string(), "-p", "7", "-c", "-r"]).0, 4);
    assert_eq!(requests.iter().collect::<Vec<_>>(), [[100, 7]]);
}

#[test]
fn what_can_not_be_asked_over_tcp_is_wrong_usage() {
    for words in [&["--list"][..], &["--status", "-p", "7"]] {
        let (status, _, errors) = run(&[&["-l", "localhost:9000"], words].concat());
        assert!(status == 1 && errors.contains("UNIX socket"), "{errors}");
    }
    let (status, _, errors) = run(&["-l", "99999", "-p", "7", "-c"]);
    assert!(status == 1 && errors.contains("from 1 to 65535"), "{errors}");
}
