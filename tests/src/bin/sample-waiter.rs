//! A target with one thread that does nothing but wait, or with more: `sample-waiter WAY [MILLISECONDS [THREADS]]`, in one of the
//! ways of `sys::LONE_WAITS`.
//!
//! Whenever a wait ends it says how: `over`, or `interrupted` by SIGUSR1, and how many milliseconds it took; `differs` if its
//! memory isn't what it was.

use memcr_tests::{content, sys};
use std::time::{Duration, Instant};

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let time = words.next().map_or(600_000, |word| word.parse().expect("a number"));
    let threads = words.next().map_or(1, |word| word.parse().expect("a number"));
    let way = sys::LONE_WAITS.into_iter().find(|way| way.name == name).expect("a way");
    let mut memory = vec![0; 2 << 20];
    content::fill(&mut memory, 9);
    sys::end_calls_by_signal(libc::SIGUSR1);
    for _ in 1..threads {
        std::thread::spawn(move || wait_for_ever(way, time, &[]));
    }
    println!("ready pid={}", std::process::id());
    wait_for_ever(way, time, &memory)
}

fn wait_for_ever(way: sys::LoneWait, time: u64, memory: &[u8]) -> ! {
    loop {
        let began = Instant::now();
        let outcome = (way.call)(Duration::from_millis(time));
        let error = std::io::Error::last_os_error();
        let took = began.elapsed().as_millis();
        if let Err(difference) = content::check(memory, 9) {
            println!("differs {difference:?}");
        } else if outcome == 0 {
            println!("over took={took}");
        } else if outcome == -1 && error.raw_os_error() == Some(libc::EINTR) {
            println!("interrupted took={took}");
        } else {
            println!("failed outcome={outcome} error={error}");
        }
    }
}
