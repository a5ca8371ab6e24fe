//! A target whose threads are born and die all the time: `sample-births [SPAWNERS]`.
//!
//! Each spawner starts threads that compare known memory, live for some milliseconds and end, so many at a
//! time. `check` answers once every spawner has started three more, and compares all of the memory itself.

use memcr_tests::content;
use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SEED: u64 = 11;
const LENGTH: usize = 2 * 1024 * 1024;

/// How many threads of a spawner live at a time.
const POPULATION: usize = 8;

static ERRORS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let spawners: usize = std::env::args().nth(1).map_or(4, |word| word.parse().expect("a number"));
    let mut memory = vec![0; LENGTH];
    content::fill(&mut memory, SEED);
    let memory: &'static [u8] = memory.leak();
    let births: &'static [AtomicU64] = Box::leak((0..spawners).map(|_| AtomicU64::new(0)).collect());
    for counter in births {
        std::thread::spawn(move || spawn_for_ever(memory, counter));
    }
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "check" {
            println!("{}", check(memory, births));
        }
    }
}

fn spawn_for_ever(memory: &'static [u8], counter: &AtomicU64) {
    let mut living = VecDeque::new();
    loop {
        if living.len() == POPULATION {
            let eldest: JoinHandle<()> = living.pop_front().expect("one lives");
            eldest.join().expect("a thread doesn't panic");
        }
        let age = Duration::from_millis(counter.fetch_add(1, Ordering::Relaxed) % 8);
        living.push_back(std::thread::spawn(move || live(memory, age)));
    }
}

/// The life of a thread: it uses its own stack and memory of all.
fn live(memory: &'static [u8], age: Duration) {
    let own = std::hint::black_box([0x5a_u8; 2048]);
    std::thread::sleep(age);
    let chunk = &memory[..content::CHUNK * 2];
    if content::check(chunk, SEED).is_err() || std::hint::black_box(own).iter().any(|byte| *byte != 0x5a) {
        ERRORS.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(memory: &'static [u8], births: &[AtomicU64]) -> String {
    let goals: Vec<u64> = births.iter().map(|counter| counter.load(Ordering::Relaxed) + 3).collect();
    memcr_tests::wait::until("every spawner starts threads", || {
        births.iter().zip(&goals).all(|(counter, goal)| counter.load(Ordering::Relaxed) >= *goal)
    });
    let total: u64 = births.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    match (content::check(memory, SEED), ERRORS.load(Ordering::Relaxed)) {
        (Ok(()), 0) => format!("intact births={total}"),
        (outcome, errors) => format!("differs: {outcome:?}, seen by {errors} threads"),
    }
}
