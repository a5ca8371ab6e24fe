//! A target with known memory: `sample-memory [MIB [SEED [THREADS [plain | rseq]]]]`.
//!
//! It fills MIB MiB from SEED, with what compresses well if it is to be plain; with `rseq` it registers an area of restartable
//! sequences. It says `ready`, and then does what it is told by lines: `check`
//! compares all of it with what the seed gives, `refill SEED` fills it anew.

use memcr_tests::content::{self, Kind};
use memcr_tests::sys::Sequences;
use std::io::BufRead;

fn main() {
    let mut words = std::env::args_os().skip(1).map(|word| word.into_string().expect("UTF-8"));
    let mut number = |default: u64| words.next().map_or(default, |word| word.parse().expect("a number"));
    let (mib, mut seed, threads) = (number(16), number(1), number(0));
    let how = words.next().unwrap_or_default();
    let kind = if how == "plain" { Kind::Plain } else { Kind::Mixed };
    let sequences = (how == "rseq").then(Sequences::register);
    for _ in 0..threads {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    let mut memory = vec![0; mib as usize * 1024 * 1024];
    content::fill_with(kind, &mut memory, seed);
    let (pid, hash, address) = (std::process::id(), content::hash(&memory), memory.as_ptr() as usize);
    println!("ready pid={pid} seed={seed} hash={hash:016x} address={address:#x}");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("check", _) if sequences.as_ref().is_some_and(|area| !area.are_registered()) => {
                println!("differs: the area of restartable sequences is not registered");
            }
            ("check", _) => match content::check_with(kind, &memory, seed) {
                Ok(()) => println!("intact hash={:016x}", content::hash(&memory)),
                Err((offset, count)) => println!("differs first={offset:#x} bytes={count}"),
            },
            ("refill", number) => {
                seed = number.parse().expect("a number");
                content::fill_with(kind, &mut memory, seed);
                println!("refilled hash={:016x}", content::hash(&memory));
            }
            // reads one byte of each chunk as it is, so that nothing but what was there can be seen
            ("peek", _) => println!("peeked {:?}", memory.iter().step_by(content::CHUNK).max()),
            _ => println!("what?"),
        }
    }
}
