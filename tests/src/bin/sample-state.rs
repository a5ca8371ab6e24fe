//! A target in some state of which putting it to sleep must know: `sample-state STATE [MIB]`.
//!
//! `check` compares its known memory, whatever the state.

use memcr_tests::{content, sys};
use std::io::{BufRead, Read, Write};

fn main() {
    let mut words = std::env::args().skip(1);
    let state = words.next().unwrap_or_default();
    let mib: usize = words.next().map_or(4, |word| word.parse().expect("a number"));
    let mut memory = vec![0; mib * 1024 * 1024];
    content::fill(&mut memory, 3);
    let memory: &'static [u8] = memory.leak();
    let serve = move |note: String| {
        println!("ready pid={} {note}", std::process::id());
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "check" {
                let outcome = content::check(memory, 3);
                println!(
                    "{}",
                    outcome.map_or_else(|(at, _)| format!("differs at {at:#x}"), |()| "intact".into())
                );
            }
        }
        std::process::exit(0);
    };
    if let Some((answer, call)) = state.split_once(':') {
        return filtered(answer, call, memory);
    }
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
        "strict" => {
            println!("ready");
            sys::be_strict();
            serve_strictly(memory);
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

/// Has a filter that answers one call.
fn filtered(answer: &str, call: &str, memory: &[u8]) {
    let number = match call {
        "mmap" => libc::SYS_mmap,
        "munmap" => libc::SYS_munmap,
        "madvise" => libc::SYS_madvise,
        "openat" => libc::SYS_openat,
        "ioctl" => libc::SYS_ioctl,
        "close" => libc::SYS_close,
        "recvmsg" => libc::SYS_recvmsg,
        "sendmsg" => libc::SYS_sendmsg,
        "prctl" => libc::SYS_prctl,
        "socketpair" => libc::SYS_socketpair,
        "umask" => libc::SYS_umask,
        "restart_syscall" => libc::SYS_restart_syscall,
        other => panic!("no call {other:?}"),
    };
    println!("ready");
    let answer = match answer {
        "error" => sys::Answer::Error,
        "trap" => sys::Answer::Trap,
        "kill" => sys::Answer::Kill,
        "kill-thread" => {
            // of which there is another one
            std::thread::spawn(std::thread::park);
            sys::Answer::KillThread
        }
        other => panic!("no answer {other:?}"),
    };
    sys::count_traps();
    sys::install_filter(number, answer);
    if number == libc::SYS_restart_syscall {
        // which is how a wait goes on that was interrupted
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(600)));
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let traps = if line == "trap" { sys::traps_after(number) } else { 0 };
        let outcome = content::check(memory, 3);
        println!(
            "{} traps={traps}",
            outcome.map_or_else(|(at, _)| format!("differs at {at:#x}"), |()| "intact".into())
        );
    }
}

/// Serves by calls that are allowed in the strict mode only.
fn serve_strictly(memory: &[u8]) -> ! {
    let mut line = [0; 64];
    while std::io::stdin().read(&mut line).is_ok_and(|length| length > 0) {
        let said: &[u8] = if content::check(memory, 3).is_ok() { b"intact\n" } else { b"differs\n" };
        std::io::stdout().write_all(said).and_then(|()| std::io::stdout().flush()).expect("somebody reads");
    }
    sys::exit_at_once()
}
