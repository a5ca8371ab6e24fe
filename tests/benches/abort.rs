//! How long a restore takes to call off a checkpoint under way, for targets of several sizes and at several
//! moments: `cargo bench -p memcr-tests --bench abort` (as root). Prints milliseconds and ratios to the
//! smallest target.
//!
//! The last moment of each size may come when memory is being freed already. What was freed by then has to be
//! given back, which takes its time.

use memcr_tests::daemon::Setup;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{procfs, wait};
use memcrclient::{CheckpointOptions, Connection, open_target};
use std::time::{Duration, Instant};

const SIZES: [u64; 3] = [64, 1024, 4096];
/// Parts of the time that an undisturbed checkpoint takes, in percent.
const MOMENTS: [u32; 6] = [5, 20, 40, 60, 80, 95];

/// One checkpoint that is called off.
struct Abort {
    /// From the restore to its answer.
    answered: Duration,
    /// From the restore to the target running.
    awake: Duration,
    /// Whether the checkpoint had finished before.
    slept: bool,
}

fn main() {
    let daemon = Setup::new().start();
    let socket = daemon.socket();
    let connect = || Connection::connect(&socket).expect("the daemon answers");
    let mut first = None;
    println!("{:>8} {:>6} {:>12} {:>12} {:>7}", "MiB", "at", "answer ms", "awake ms", "ratio");
    for size in SIZES {
        let target = Target::start(&cast().target, "sample-memory", &[&size.to_string()]);
        let pidfd = open_target(target.pid()).expect("it is there");
        let began = Instant::now();
        connect().checkpoint(&pidfd, CheckpointOptions::default(), |_| {}).expect("it can sleep");
        let whole = began.elapsed();
        connect().restore(&pidfd, |_| {}).expect("it can wake");
        for percent in MOMENTS {
            let abort = std::thread::scope(|scope| {
                let checkpoint = scope
                    .spawn(|| connect().checkpoint(&pidfd, CheckpointOptions::default(), |_| {}).is_ok());
                wait::let_pass(whole * percent / 100);
                let began = Instant::now();
                let (connect, pidfd) = (&connect, &pidfd);
                let restore = scope.spawn(move || {
                    connect().restore(pidfd, |_| {}).expect("it is called off");
                    began.elapsed()
                });
                wait::until("it runs", || procfs::tracer(target.pid()).is_none());
                let awake = began.elapsed();
                let answered = restore.join().expect("it ends");
                Abort { answered, awake, slept: checkpoint.join().expect("it ends") }
            });
            let milliseconds = abort.answered.as_secs_f64() * 1000.0;
            let ratio = milliseconds / *first.get_or_insert(milliseconds);
            println!(
                "{size:>8} {percent:>5}% {milliseconds:>12.1} {:>12.1} {ratio:>6.1}x{}",
                abort.awake.as_secs_f64() * 1000.0,
                if abort.slept { "  (it slept already: a whole restore)" } else { "" }
            );
        }
    }
}
