//! A target that computes: `sample-threads [THREADS]`.
//!
//! Each thread keeps known values in all general and vector registers over long loops, and looks
//! whether they are still there. `check` answers once every thread has done another round.

use memcr_tests::{arch, content::Sequence};
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};

/// Turns of the innermost loops: a few milliseconds.
const SPINS: u64 = 2_000_000;

static ERRORS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let threads: u64 = std::env::args().nth(1).map_or(64, |word| word.parse().expect("a number"));
    let rounds: &'static [AtomicU64] = Box::leak((0..threads).map(|_| AtomicU64::new(0)).collect());
    for (index, round) in rounds.iter().enumerate() {
        std::thread::spawn(move || compute(index as u64, round));
    }
    wait_for_a_round(rounds);
    println!("ready pid={} threads={threads}", std::process::id());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "check" {
            wait_for_a_round(rounds);
            let total: u64 = rounds.iter().map(|round| round.load(Ordering::Relaxed)).sum();
            match ERRORS.load(Ordering::Relaxed) {
                0 => println!("intact rounds={total}"),
                errors => println!("differs errors={errors}"),
            }
        }
    }
}

fn compute(index: u64, round: &AtomicU64) {
    let mut numbers = Sequence::new(index);
    loop {
        if !arch::holds_registers(numbers.next_number(), SPINS) {
            ERRORS.fetch_add(1, Ordering::Relaxed);
        }
        round.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until every thread has ended two rounds, so that one was begun and ended after the call.
fn wait_for_a_round(rounds: &[AtomicU64]) {
    let goals: Vec<u64> = rounds.iter().map(|round| round.load(Ordering::Relaxed) + 2).collect();
    memcr_tests::wait::until("every thread ends a round", || {
        rounds.iter().zip(&goals).all(|(round, goal)| round.load(Ordering::Relaxed) >= *goal)
    });
}
