//! A target in some state of which putting it to sleep must know: `sample-state STATE [MIB]`.
//!
//! `check` compares its known memory, whatever the state.

use memcr_tests::{content, sys};
use std::io::BufRead;

fn main() {
    let mut words = std::env::args().skip(1);
    let state = words.next().unwrap_or_default();
    let mib: usize = words.next().map_or(4, |word| word.parse().expect("a number"));
    let mut memory = vec![0; mib * 1024 * 1024];
    content::fill(&mut memory, 3);
    let serve = move |note: String| {
        println!("ready pid={} {note}", std::process::id());
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "check" {
                let outcome = content::check(&memory, 3);
                println!(
                    "{}",
                    outcome.map_or_else(|(at, _)| format!("differs at {at:#x}"), |()| "intact".into())
                );
            }
        }
        std::process::exit(0);
    };
    match state.as_str() {
        "plain" => serve(String::new()),
        "not-dumpable" => {
            sys::forbid_dumping();
            serve(String::new());
        }
        "filtered" => {
            sys::install_harmless_filter();
            serve(String::new());
        }
        "without-executable-gain" => {
            sys::refuse_executable_gain();
            serve(String::new());
        }
        "with-ring" => {
            let _ring = sys::set_up_ring(None);
            serve(String::new());
        }
        "with-registered-buffer" => {
            let buffer = sys::Region::private(64 * 1024);
            let _ring = sys::set_up_ring(Some(&buffer));
            serve(String::new());
        }
        "with-asynchronous-io" => {
            sys::set_up_asynchronous_io();
            serve(String::new());
        }
        "shares-memory" => serve(format!("child={}", sys::share_memory_with_a_child())),
        "in-vfork" => {
            std::thread::spawn(move || serve(String::new()));
            sys::start_vfork_that_lasts();
        }
        "without-main-thread" => {
            std::thread::spawn(move || serve(String::new()));
            sys::end_main_thread();
        }
        other => panic!("no state {other:?}"),
    }
}
