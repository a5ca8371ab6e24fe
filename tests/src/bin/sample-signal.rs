//! A target that treats one signal in some way: `sample-signal default|handler|blocked|ignored|thread SIGNAL
//! [MIB]`.
//!
//! `check` compares its known memory, `count` tells how often the signal came to its handler, `unblock` lets
//! it come. With `thread` the signal is blocked in every thread but one that does nothing else.

use memcr_tests::{content, sys};
use std::io::BufRead;

fn main() {
    let mut words = std::env::args().skip(1);
    let treatment = words.next().unwrap_or_default();
    let signal: i32 = words.next().and_then(|word| word.parse().ok()).expect("a signal");
    let mib: usize = words.next().map_or(4, |word| word.parse().expect("a number"));
    let mut memory = vec![0; mib * 1024 * 1024];
    content::fill(&mut memory, 5);
    match treatment.as_str() {
        "default" => {}
        "handler" => sys::count_signal(signal),
        "blocked" => {
            sys::count_signal(signal);
            sys::block_signal(signal);
        }
        "ignored" => sys::ignore_signal(signal),
        "thread" => {
            let (started, wait) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                started.send(()).expect("somebody waits");
                loop {
                    std::thread::park();
                }
            });
            wait.recv().expect("it starts");
            sys::block_signal(signal);
        }
        other => panic!("no treatment {other:?}"),
    }
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "check" => match content::check(&memory, 5) {
                Ok(()) => println!("intact"),
                Err((at, count)) => println!("differs first={at:#x} bytes={count}"),
            },
            "count" => println!("{}", sys::counted(signal)),
            "unblock" => {
                sys::unblock_signal(signal);
                println!("unblocked");
            }
            _ => println!("what?"),
        }
    }
}
