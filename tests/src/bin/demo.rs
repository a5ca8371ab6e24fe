//! What memcr does, shown once: a sample process with 256 MiB of known memory is put to sleep
//! through a real daemon by an unprivileged client, and woken, and checks its own memory.

use memcr_tests::daemon::Daemon;
use memcr_tests::procfs;
use memcr_tests::target::{Target, value};
use memcr_tests::users::{self, cast};
use std::process::ExitCode;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "the demonstration must run as root: it starts the daemon, the sample and the client as three other users"
        );
        return ExitCode::FAILURE;
    }
    let result = std::panic::catch_unwind(show);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show() {
    users::require_root();
    println!("building ...");
    let daemon = Daemon::start();
    let mut sample = Target::start(&cast().target, "sample-memory", &["256", "4711", "4"]);
    let hash = sample.fact("hash").to_owned();
    let pid = sample.pid();
    println!(
        "daemon   memcr, process {}, as user {}, without a capability",
        daemon.pid(),
        cast().daemon.name
    );
    println!("sample   process {pid}, as user {}, 256 MiB of known memory", cast().target.name);
    println!("client   memcr-client, as user {}, in the daemon's group\n", cast().client.name);
    println!("{:<10}{:>14}{:>18}", "", "resident", "memory hash");
    row("before", pid, &hash);
    let asleep = daemon.client().checkpoint(pid).expect_status(0);
    row("asleep", pid, "-");
    let awake = daemon.client().restore(pid).expect_status(0);
    let answer = sample.ask("check");
    row("after", pid, if answer.starts_with("intact") { value(&answer, "hash") } else { &answer });
    assert_eq!(answer, format!("intact hash={hash}"), "the sample's memory is not what it was");
    let seconds = |micros: u64| micros as f64 / 1e6;
    let slept = ["attach_micros", "dump_micros", "free_micros"].iter().map(|name| asleep.figure(name)).sum();
    println!(
        "\nasleep in {:.2} s with an image of {}, awake in {:.2} s; the sample found all of its memory intact",
        seconds(slept),
        mib(asleep.figure("image")),
        seconds(awake.figure("restore_micros"))
    );
}

fn row(state: &str, pid: i32, hash: &str) {
    println!("{state:<10}{:>14}{hash:>18}", mib(procfs::rss_anon(pid)));
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
