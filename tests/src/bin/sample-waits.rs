//! A target whose threads wait in system calls with a time limit: `sample-waits [MILLISECONDS]`.
//!
//! Each of them waits again and again, and takes note when a call fails, ends early or reports a
//! signal that never came. `check` answers once each has ended a wait, with the longest one.

use memcr_tests::{sys, wait};
use std::io::BufRead;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static ROUNDS: [AtomicU64; sys::WAITS.len()] = [const { AtomicU64::new(0) }; sys::WAITS.len()];
static LONGEST: AtomicU64 = AtomicU64::new(0);

fn main() {
    let milliseconds = std::env::args().nth(1).map_or(300, |word| word.parse().expect("a number"));
    for (way, rounds) in sys::WAITS.iter().zip(&ROUNDS) {
        std::thread::spawn(move || wait_for_ever(way, Duration::from_millis(milliseconds), rounds));
    }
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "check" {
            let goals = ROUNDS.each_ref().map(|rounds| rounds.load(Ordering::Relaxed) + 1);
            wait::until("every call ends", || {
                ROUNDS.iter().zip(goals).all(|(rounds, goal)| rounds.load(Ordering::Relaxed) >= goal)
            });
            let faults = FAULTS.lock().expect("no thread panics");
            let longest = LONGEST.load(Ordering::Relaxed);
            println!(
                "{}",
                if faults.is_empty() { format!("intact longest={longest}") } else { faults.join("; ") }
            );
        }
    }
}

fn wait_for_ever(way: &sys::Wait, time: Duration, rounds: &AtomicU64) {
    loop {
        match way.wait(time) {
            Ok(took) => drop(LONGEST.fetch_max(took.as_millis() as u64, Ordering::Relaxed)),
            Err(fault) => FAULTS.lock().expect("no thread panics").push(fault),
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}
