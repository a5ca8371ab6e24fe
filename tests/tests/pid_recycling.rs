//! Ten thousand times a process is named, dies, and its number goes to somebody else, before, while or after it is
//! put to sleep: that one is never taken for it.

use memcr_tests::content::Sequence;
use memcr_tests::daemon::Daemon;
use memcr_tests::namespace::PidNamespace;
use memcr_tests::procfs;
use memcr_tests::sys::Numbered;
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast};
use memcr_tests::wait;
use memcr_tests::watch::Watch;
use memcr_tests::wire::{CHECKPOINT, Wire, v1};
use memcrclient::{Code, Connection, Error};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const BY_PIDFD: u32 = 6_000;
const BY_NUMBER: u32 = 4_000;

/// A process of `user` with these numbers, which waits.
fn start(numbers: &[i32], user: &User) -> Numbered {
    let process = wait::until_some("the number is free", wait::BOUND, || {
        match Numbered::start(numbers, user.uid, user.gid) {
            Ok(process) => Some(process),
            // the one that had it may be about to go
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => None,
            Err(error) => panic!("clone3: {error}"),
        }
    });
    let uid = user.uid.to_string();
    let is_ready = || {
        let status = procfs::Status::of(process.pid()).expect("it lives");
        // the state is there a moment before it gives its processor up, which counts as a switch
        status.field("Uid").split_whitespace().next() == Some(&uid)
            && status.state() == 'S'
            && status.number("voluntary_ctxt_switches") > 0
    };
    while !is_ready() {
        std::thread::yield_now();
    }
    process
}

/// A number of this machine that is nobody's, far from those that are given out next.
fn free_number(numbers: &mut Sequence) -> i32 {
    let largest = std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("there is a limit");
    let largest: u64 = largest.trim().parse().expect("a number");
    let lowest = largest - largest / 8;
    wait::until_some("a number is free", wait::BOUND, || {
        let number = i32::try_from(lowest + numbers.below(largest / 8 - 1)).expect("a pid");
        procfs::Status::of(number).is_none().then_some(number)
    })
}

/// Who has the number now; whether it was ever stopped.
struct Victim {
    process: Numbered,
    switches: u64,
}

impl Victim {
    fn start(numbers: &[i32], user: &User) -> Self {
        let process = start(numbers, user);
        let switches = procfs::context_switches(process.pid());
        Self { process, switches }
    }

    #[track_caller]
    fn assert_untouched(&self, round: u32) {
        let pid = self.process.pid();
        assert_eq!(procfs::tracer(pid), None, "round {round}: the next owner of the number is traced");
        assert_eq!(procfs::context_switches(pid), self.switches, "round {round}: it was stopped");
    }
}

/// A client in a thread of its own, which asks for checkpoints.
fn client(daemon: &Daemon) -> (Sender<OwnedFd>, Receiver<Result<(), Error>>) {
    let socket = daemon.socket();
    let ((ask, asked), (tell, told)) = (channel::<OwnedFd>(), channel());
    std::thread::spawn(move || {
        let mut connection = Connection::connect(&socket).expect("root may connect");
        for pidfd in asked {
            let outcome = connection.checkpoint(&pidfd, Default::default(), |_| {}).map(drop);
            if tell.send(outcome).is_err() {
                break;
            }
        }
    });
    (ask, told)
}

#[test]
fn a_pidfd_never_means_the_next_owner_of_its_number_in_six_thousand_rounds() {
    let daemon = Daemon::start();
    let (ask, told) = client(&daemon);
    let mut numbers = Sequence::new(21);
    println!("seed 21");
    let (mut dead, mut lost, mut asleep) = (0, 0, 0);
    for round in 0..BY_PIDFD {
        let number = free_number(&mut numbers);
        let target = start(&[number], &cast().target);
        let pidfd = target.pidfd.try_clone().expect("a copy");
        let victim = if round % 2 == 0 {
            // before it is asked for
            drop(target);
            let victim = Victim::start(&[number], &cast().target);
            ask.send(pidfd).expect("the client is there");
            victim
        } else {
            // while it is being put to sleep
            ask.send(pidfd).expect("the client is there");
            spin(Duration::from_micros(numbers.below(4000)));
            drop(target);
            Victim::start(&[number], &cast().target)
        };
        assert_eq!(victim.process.pid(), number);
        match told.recv().expect("the client is there") {
            Ok(()) => asleep += 1,
            Err(Error::Failed(failure)) if failure.code == Code::NoSuchProcess => dead += 1,
            Err(Error::Failed(failure)) if failure.code == Code::TargetLost => lost += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        victim.assert_untouched(round);
        assert!(round % 2 == 1 || asleep + lost + dead == round + 1);
    }
    println!(
        "{BY_PIDFD} rounds, in each of which the number had another owner: {dead} times it was gone, {lost} times \
         it died meanwhile, {asleep} times it slept before"
    );
    assert!(dead >= BY_PIDFD / 2 && lost + dead > BY_PIDFD / 2);
    wait::until("nobody sleeps", || daemon.client().listed().is_empty());
}

#[test]
fn who_gets_the_number_in_the_last_moment_is_not_stopped() {
    let daemon = Daemon::start();
    let (ask, told) = client(&daemon);
    let mut numbers = Sequence::new(23);
    println!("seed 23");
    for round in 0..8 {
        let number = free_number(&mut numbers);
        let target = start(&[number], &cast().target);
        let seizes = [libc::SYS_ptrace as u64, u64::from(libc::PTRACE_SEIZE), number as u64];
        let mut watch = Watch::hold(daemon.launcher(), move |call| call == seizes);
        ask.send(target.pidfd.try_clone().expect("a copy")).expect("the client is there");
        watch.until_held();
        // what the worker knows of it was true until now
        drop(target);
        let victim = Victim::start(&[number], &cast().root);
        watch.go_on();
        let mut outcome = None;
        watch.until("the client is told", || {
            outcome = told.try_recv().ok();
            outcome.is_some()
        });
        watch.until("its worker is gone", || daemon.workers().is_empty());
        watch.end();
        let outcome = outcome.expect("it was told");
        assert!(
            matches!(&outcome, Err(Error::Failed(failure)) if failure.code == Code::NoSuchProcess),
            "round {round}: {outcome:?}"
        );
        victim.assert_untouched(round);
    }
}

fn spin(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}

#[test]
fn a_number_in_a_namespace_never_means_one_who_may_not_be_meant_in_four_thousand_rounds() {
    let daemon = Daemon::start();
    let namespace = PidNamespace::new();
    // whoever has the same number here is not meant either
    let bystander = Target::start(&cast().target, "sample-memory", &["2"]);
    let mut wire = Wire::connect_in(&namespace, &daemon, &cast().client);
    let mut numbers = Sequence::new(22);
    println!("seed 22");
    let inside = bystander.pid();
    wait::until("the bystander waits", || {
        procfs::Status::of(inside).is_some_and(|status| status.state() == 'S')
    });
    let switches = procfs::context_switches(inside);
    let (mut refused, mut asleep) = (0, 0);
    std::thread::scope(|scope| {
        let rounds = || {
            namespace.enter();
            // one that lives on is found by its number, and sleeps
            let living = start(&[inside, free_number(&mut numbers)], &cast().target);
            wire.reconnect().send(&v1(CHECKPOINT, inside)).await_answer();
            assert_eq!(wire.awaited(), Some(0));
            assert!(procfs::tracer(living.pid()).is_some());
            drop(living);
            for round in 0..BY_NUMBER {
                let both = [inside, free_number(&mut numbers)];
                let target = start(&both, &cast().target);
                let ask = |wire: &mut Wire| {
                    wire.reconnect().send(&v1(CHECKPOINT, inside)).await_answer();
                };
                // the next owner is root's, whom this client may not even stop
                let victim = if round % 2 == 0 {
                    drop(target);
                    let victim = Victim::start(&both, &cast().root);
                    ask(&mut wire);
                    victim
                } else {
                    ask(&mut wire);
                    spin(Duration::from_micros(numbers.below(6000)));
                    drop(target);
                    Victim::start(&both, &cast().root)
                };
                match wire.awaited() {
                    Some(0) => asleep += 1,
                    Some(-1) => refused += 1,
                    other => panic!("round {round}: {other:?}"),
                }
                victim.assert_untouched(round);
            }
        };
        scope.spawn(rounds).join().expect("all rounds are good");
    });
    println!("{BY_NUMBER} rounds: {refused} times refused, {asleep} times it slept before");
    assert!(refused > BY_NUMBER / 2);
    assert!(
        bystander.is_awake() && procfs::context_switches(inside) == switches,
        "the bystander was stopped"
    );
    wait::until("nobody sleeps", || daemon.client().listed().is_empty());
}
