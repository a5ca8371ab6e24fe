//! A target that changes its own mappings all the time: `sample-restless forks|moves [MIB]`.
//!
//! Its one thread has children, each of which checks all memory, or moves memory about. It needs nothing
//! but registers for most of that, so it goes on for a while when its memory is gone. `check` compares
//! everything, what the children found too.

use memcr_tests::input::Input;
use memcr_tests::sys::{Region, exit_at_once, ignore_children};
use memcr_tests::{arch, content, wait};
use std::sync::atomic::{AtomicU32, Ordering};

/// Turns between two system calls, a fraction of a millisecond, and system calls in a row.
const SPINS: u64 = 200_000;
const TURNS: u64 = 500;
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
    let [right, wrong, born] = [0, 1, 2].map(|number| shared.counter(number));
    println!("ready pid={}", std::process::id());
    loop {
        match mode.as_str() {
            "forks" => {
                if arch::forks_by_registers(TURNS, born, SPINS) {
                    look(places[0], length, right, wrong);
                }
            }
            "moves" => {
                let place = arch::moves_by_registers(TURNS, SPINS, length, places);
                places = if place == places[0] { places } else { [places[1], places[0]] };
            }
            other => panic!("no mode {other:?}"),
        }
        match Input::look() {
            Input::Nothing => continue,
            Input::Line(_) => {}
            Input::End => return,
        }
        let all = || right.load(Ordering::SeqCst) + wrong.load(Ordering::SeqCst);
        // one that crashed never says anything
        wait::until("every child has looked", || all() == born.load(Ordering::SeqCst));
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

/// What a child does.
fn look(place: u64, length: usize, right: &AtomicU32, wrong: &AtomicU32) -> ! {
    let count = if check(place, length).is_ok() { right } else { wrong };
    count.fetch_add(1, Ordering::SeqCst);
    exit_at_once();
}
