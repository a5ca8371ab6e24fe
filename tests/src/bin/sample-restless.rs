//! A target that changes its own mappings all the time: `sample-restless forks|moves [MIB]`.
//!
//! A thread has children, each of which checks all memory, or moves memory about. It needs nothing but
//! registers for that, so it goes on when its memory is gone. `check` stops it for a moment and compares
//! everything, what the children found too.

use memcr_tests::sys::{Region, ignore_children};
use memcr_tests::{arch, content};
use std::io::BufRead;
use std::sync::atomic::{AtomicU32, Ordering};

/// Turns between two system calls: a fraction of a millisecond.
const SPINS: u64 = 200_000;
const SEED: u64 = 8;

fn main() {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    let length = words.next().map_or(2, |word| word.parse::<usize>().expect("a number")) * 1024 * 1024;
    ignore_children();
    let mut memory = Region::private(length);
    content::fill(memory.bytes(), SEED);
    let mut places = [memory.address(), Region::private(length).address()];
    let shared = Region::shared(4096);
    let [stop, right, wrong] = [0, 1, 2].map(|number| shared.counter(number));
    println!("ready pid={}", std::process::id());
    let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
    loop {
        stop.store(0, Ordering::SeqCst);
        let thread = match mode.as_str() {
            "forks" => std::thread::spawn(move || forks(stop, right, wrong, places, length)),
            "moves" => std::thread::spawn(move || {
                let place = arch::moves_by_registers(stop, SPINS, length, places);
                if place == places[0] { places } else { [places[1], places[0]] }
            }),
            other => panic!("no mode {other:?}"),
        };
        if lines.next().is_none() {
            return;
        }
        stop.store(1, Ordering::SeqCst);
        places = thread.join().expect("the thread ends");
        let checked = check(places[0], length);
        match (&checked, wrong.load(Ordering::SeqCst)) {
            (Ok(()), 0) => println!("intact children={}", right.load(Ordering::SeqCst)),
            (_, children) => println!("differs memory={checked:?} children={children}"),
        }
    }
}

fn check(place: u64, length: usize) -> Result<(), (usize, usize)> {
    // SAFETY: the region is there: whoever moves it has just said so.
    content::check(unsafe { Region::at(place, length) }, SEED)
}

fn forks(
    stop: &'static AtomicU32,
    right: &AtomicU32,
    wrong: &AtomicU32,
    places: [u64; 2],
    length: usize,
) -> [u64; 2] {
    if arch::forks_by_registers(stop, SPINS) {
        let count = if check(places[0], length).is_ok() { right } else { wrong };
        count.fetch_add(1, Ordering::SeqCst);
        memcr_tests::sys::exit_at_once();
    }
    places
}
