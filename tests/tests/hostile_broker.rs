//! A broker in the hands of an attacker, who asks everything of the launcher in every state: nothing that policy
//! forbids is touched, nothing crashes, and the launcher itself puts each violation on record.

use memcr_protocol::frame::{self, Message as _, PREFIX_LENGTH};
use memcr_protocol::launcher::{Ending, Job, LauncherReport, SleepOptions};
use memcr_protocol::worker::{WorkerCommand, WorkerEvent};
use memcr_tests::captured::{CapturedBroker, Channel, order_restore, until_settled};
use memcr_tests::client::Running;
use memcr_tests::content::Sequence;
use memcr_tests::foreign::{self, Foreign};
use memcr_tests::procfs;
use memcr_tests::sys::send_any;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What the broker of a test has to play with.
struct Scene {
    broker: CapturedBroker,
    /// A process that the client may put to sleep.
    target: Target,
    /// A process of root's: nobody's target by the built-in policy, but root's.
    bystander: Target,
    switches: u64,
    client: UnixStream,
    process: Running,
}

impl Scene {
    fn new() -> Self {
        let broker = CapturedBroker::with_set_up_launcher();
        let target = Target::start(&cast().target, "sample-memory", &["2"]);
        let bystander = Target::start(&cast().root, "sample-memory", &["2"]);
        let (client, process) = broker.client_of(&cast().client);
        wait::until("the bystander waits", || {
            procfs::Status::of(bystander.pid()).is_some_and(|status| status.state() == 'S')
        });
        let switches = procfs::context_switches(bystander.pid());
        Self { broker, target, bystander, switches, client, process }
    }

    fn pidfd(&self, of: &Target) -> OwnedFd {
        foreign::pidfd_of(of.pid())
    }

    fn images(&self) -> OwnedFd {
        std::fs::File::open(self.broker.images()).expect("root may open it").into()
    }

    /// Whether the bystander was never stopped.
    #[track_caller]
    fn assert_bystander_untouched(&self, what: &str) {
        let pid = self.bystander.pid();
        assert!(self.bystander.is_awake(), "{what}: somebody traces the bystander");
        assert_eq!(procfs::context_switches(pid), self.switches, "{what}: the bystander was stopped");
    }

    fn finish(mut self) {
        self.target.wait_until_awake();
        self.target.assert_intact();
        self.assert_bystander_untouched("at the end");
        self.bystander.assert_intact();
        self.process.kill();
    }
}

/// When something is asked of the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeSetUp,
    SetUp,
    WorkerAttaching,
    Asleep,
    WorkerDead,
    AfterViolation,
    HalfClosed,
}

const STATES: [State; 7] = [
    State::BeforeSetUp,
    State::SetUp,
    State::WorkerAttaching,
    State::Asleep,
    State::WorkerDead,
    State::AfterViolation,
    State::HalfClosed,
];

/// A packet for the launcher.
struct Packet {
    what: String,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Packet {
    fn new(what: impl Into<String>, job: &Job, descriptors: Vec<OwnedFd>) -> Self {
        Self { what: what.into(), bytes: frame::encode(job).expect("it fits"), descriptors }
    }

    fn verdict(&self, is_set_up: bool) -> Verdict {
        verdict(&self.bytes, self.descriptors.len(), is_set_up)
    }

    fn send(&self, jobs: &Channel) -> nix::Result<()> {
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        jobs.try_send_bytes(&self.bytes, &descriptors)
    }
}

/// What must come of such a packet: the job's name, if that can be made out, if it is a violation.
fn verdict(bytes: &[u8], descriptors: usize, is_set_up: bool) -> Verdict {
    if descriptors > 4 || bytes.len() > Job::LIMIT + PREFIX_LENGTH {
        return Verdict::Violation(None);
    }
    let Ok(job) = frame::decode::<Job>(bytes) else { return Verdict::Violation(None) };
    let needed = match &job {
        Job::Setup { .. } if is_set_up => None,
        Job::Setup { .. } => Some(1),
        _ if !is_set_up => None,
        Job::Identify { .. } | Job::FindTarget { .. } | Job::NameProgram { .. } => Some(1),
        Job::Sleep { .. } => Some(4),
        Job::Reload => Some(0),
    };
    if needed == Some(descriptors) { Verdict::Served } else { Verdict::Violation(Some(job.name())) }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Served,
    Violation(Option<&'static str>),
}

/// Every job as it should be, and in every way that it should not.
fn requests(scene: &Scene) -> Vec<Packet> {
    let client = || OwnedFd::from(scene.client.try_clone().expect("a copy"));
    let sleep = Job::Sleep { ticket: 5, options: SleepOptions::default() };
    let sleep_descriptors =
        || vec![Channel::pair().1, client(), scene.pidfd(&scene.bystander), scene.images()];
    let find = Job::FindTarget { ticket: 3, pid: scene.bystander.pid() };
    let (setup, device) = scene.broker.built_in_setup();
    let good = [
        (setup.clone(), vec![device.into()]),
        (Job::Identify { ticket: 2 }, vec![client()]),
        (find, vec![client()]),
        (Job::NameProgram { ticket: 4 }, vec![scene.pidfd(&scene.bystander)]),
        (sleep.clone(), sleep_descriptors()),
        (Job::Reload, Vec::new()),
    ];
    let any = sleep_descriptors();
    let mut packets = Vec::new();
    for (job, descriptors) in good {
        for count in [0, 1, 2, 3, 4, 5, 17, 253].into_iter().filter(|count| *count != descriptors.len()) {
            let some = (0..count).map(|index| {
                let pool = if descriptors.is_empty() { &any } else { &descriptors };
                let descriptor = &pool[index % pool.len()];
                descriptor.try_clone().expect("a copy")
            });
            packets.push(Packet::new(
                format!("{} with {count} descriptors", job.name()),
                &job,
                some.collect(),
            ));
        }
        packets.push(Packet::new(job.name(), &job, descriptors));
    }
    for job in [&setup, &sleep] {
        let whole = frame::encode(job).expect("it fits");
        let lengths = (1..whole.len()).filter(|length| *length < 12 || length % 7 == 0);
        packets.extend(lengths.map(|length| Packet {
            what: format!("{} cut off after {length} bytes", job.name()),
            bytes: whole[..length].to_vec(),
            descriptors: sleep_descriptors(),
        }));
        let mut longer = whole.clone();
        longer.push(0);
        let what = format!("{} with a byte too many", job.name());
        packets.push(Packet { what, bytes: longer, descriptors: sleep_descriptors() });
    }
    let bodies: [&[u8]; 6] = [&[5], &[6], &[127], &[0xff, 0xff, 0xff, 0xff, 0x0f, 1], &[0xff; 10], &[]];
    packets.extend(bodies.iter().map(|body| Packet {
        what: format!("the body {body:?}"),
        bytes: [&u32::try_from(body.len()).expect("short").to_le_bytes(), *body].concat(),
        descriptors: Vec::new(),
    }));
    for length in [Job::LIMIT + PREFIX_LENGTH + 1, 64 * 1024] {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&u32::try_from(length - 4).expect("short").to_le_bytes());
        packets.push(Packet { what: format!("{length} bytes"), bytes, descriptors: Vec::new() });
    }
    packets
}

impl Scene {
    /// A new launcher in this state; what keeps it there.
    fn enter(&mut self, state: State) -> Option<Channel> {
        self.broker.start_again();
        if state == State::BeforeSetUp {
            return None;
        }
        self.broker.set_up_again();
        if matches!(state, State::SetUp | State::HalfClosed) {
            return None;
        }
        let control = self.broker.order_sleep(1, &self.client, self.target.pid());
        let worker = self.worker();
        if state == State::WorkerAttaching {
            send_any(worker, libc::SIGSTOP);
            return Some(control);
        }
        let events = until_settled(&control);
        assert!(matches!(events.last(), Some(WorkerEvent::Asleep(_))), "{state:?}: {events:?}");
        match state {
            State::WorkerDead => send_any(worker, libc::SIGKILL),
            State::AfterViolation => {
                send_any(worker, libc::SIGSTOP);
                let before = self.broker.records().len();
                self.broker.jobs.send_bytes(&[0xff; 9], &[]);
                wait::until("the violation is on record", || self.broker.records().len() > before);
                wait::until("the launcher hangs up", || self.broker.jobs.is_hung_up());
            }
            _ => {}
        }
        Some(control)
    }

    fn worker(&self) -> i32 {
        match self.broker.jobs.receive() {
            Some(LauncherReport::Started { worker, .. }) => worker,
            other => panic!("the launcher says {other:?}"),
        }
    }

    /// Lets workers go on that were kept in a state.
    fn let_go_on(&self) {
        for worker in procfs::children(self.broker.launcher()) {
            // it may end just now
            let _ = kill(Pid::from_raw(worker), Signal::SIGCONT);
        }
    }

    fn ask(&mut self, state: State, packet: &Packet) {
        let what = format!("{state:?}, {}", packet.what);
        let held = self.enter(state);
        let before = self.broker.records().len();
        let sent = packet.send(&self.broker.jobs);
        let verdict = packet.verdict(state != State::BeforeSetUp);
        match (state, verdict) {
            (State::AfterViolation, _) => {
                assert!(sent.is_err(), "{what}: it is still listened to");
                self.let_go_on();
                assert_eq!(self.broker.wait_for_end(), Some(1), "{what}");
                assert_eq!(self.broker.records().len(), before, "{what}");
            }
            (_, Verdict::Violation(job)) => {
                sent.unwrap_or_else(|error| panic!("{what}: {error}"));
                wait::until(&what, || self.broker.records().len() > before);
                self.let_go_on();
                assert_eq!(self.broker.wait_for_end(), Some(1), "{what}");
                let records = self.broker.records();
                assert_eq!(records.len(), before + 1, "{what}: {records:?}");
                let record = records.last().expect("one");
                assert_eq!(record["event"], "launcher-violation", "{what}");
                assert_eq!(record["job"].as_str(), job, "{what}: {record}");
            }
            (_, Verdict::Served) => {
                sent.unwrap_or_else(|error| panic!("{what}: {error}"));
                if state == State::HalfClosed {
                    // nobody reads what it says to that
                    shutdown(self.broker.jobs.as_fd().as_raw_fd(), Shutdown::Read).expect("a socket");
                    shutdown(self.broker.jobs.as_fd().as_raw_fd(), Shutdown::Write).expect("a socket");
                    assert_eq!(self.broker.wait_for_end(), Some(0), "{what}");
                } else {
                    self.assert_still_serves(&what);
                    self.let_go_on();
                }
                assert_eq!(self.broker.records().len(), before, "{what}");
            }
        }
        drop(held);
        self.target.wait_until_awake();
        if state == State::WorkerDead {
            // until a successor comes it looks awake, but it can't look at all of its memory before
            self.target.assert_intact();
            self.target.wait_until_awake();
        }
        self.assert_bystander_untouched(&what);
    }

    /// Reads what the launcher has answered, up to the answer to one more question.
    fn assert_still_serves(&self, what: &str) {
        self.broker.jobs.send(&Job::Identify { ticket: 77 }, &[self.client.as_fd()]);
        loop {
            match self.broker.jobs.receive() {
                Some(LauncherReport::Identified { ticket: 77, peer }) => {
                    assert!(peer.is_some_and(|peer| peer.uid == cast().client.uid), "{what}");
                    return;
                }
                Some(_) => {}
                None => panic!("{what}: the launcher has ended"),
            }
        }
    }
}

#[test]
fn in_every_state_each_request_is_served_or_ends_the_launcher_and_is_on_record_and_nothing_forbidden_is_touched()
 {
    let mut scene = Scene::new();
    let mut served = 0;
    for state in STATES {
        for packet in requests(&scene) {
            scene.ask(state, &packet);
            served += usize::from(packet.verdict(state != State::BeforeSetUp) == Verdict::Served);
        }
        scene.target.assert_intact();
    }
    // a set-up before it, five jobs in each of the others
    assert_eq!(served, 1 + 5 * 6);
    scene.finish();
}

#[test]
fn an_empty_packet_is_the_end_of_the_broker_with_or_without_descriptors() {
    let mut scene = Scene::new();
    for count in [0, 1, 4] {
        let control = scene.enter(State::Asleep);
        let images = scene.images();
        let descriptors: Vec<_> = (0..count).map(|_| images.as_fd()).collect();
        scene.broker.jobs.send_bytes(&[], &descriptors);
        scene.target.wait_until_awake();
        assert_eq!(scene.broker.wait_for_end(), Some(0));
        drop(control);
    }
    scene.finish();
}

#[test]
fn a_foreign_descriptor_in_any_place_of_any_job_is_refused_and_hurts_nobody() {
    let mut scene = Scene::new();
    let (stranger, process_of_it) = scene.broker.client_of(&cast().stranger);
    scene.broker.start_again();
    scene.broker.set_up_again();
    let all = foreign::all(scene.bystander.pid(), &stranger);
    assert!(all.len() >= 25, "{}", all.len());
    for foreign in &all {
        scene.ask_about(foreign);
        for place in 0..4 {
            scene.sleep_with(foreign, place);
            scene.assert_bystander_untouched(foreign.what);
        }
    }
    process_of_it.kill();
    scene.finish();
}

impl Scene {
    /// Asks all questions about it; none is an error, and none gets an answer that helps.
    fn ask_about(&self, foreign: &Foreign) {
        let jobs = &self.broker.jobs;
        let descriptor = [foreign.descriptor.as_fd()];
        jobs.send(&Job::Identify { ticket: 1 }, &descriptor);
        match jobs.receive() {
            Some(LauncherReport::Identified { ticket: 1, peer }) => {
                let uid = peer.map(|peer| peer.uid);
                assert_eq!(uid, foreign.client, "{}", foreign.what);
            }
            other => panic!("{}: the launcher says {other:?}", foreign.what),
        }
        jobs.send(&Job::FindTarget { ticket: 2, pid: self.target.pid() }, &descriptor);
        match jobs.receive() {
            Some(LauncherReport::TargetFound { ticket: 2, found }) => {
                assert_eq!(found, foreign.client.is_some(), "{}", foreign.what);
            }
            other => panic!("{}: the launcher says {other:?}", foreign.what),
        }
        jobs.send(&Job::NameProgram { ticket: 3 }, &descriptor);
        match jobs.receive() {
            Some(LauncherReport::ProgramNamed { ticket: 3, executable, .. }) => {
                assert_eq!(executable.is_some(), foreign.is_process, "{}", foreign.what);
            }
            other => panic!("{}: the launcher says {other:?}", foreign.what),
        }
    }

    /// Orders a sleep of the target with it in this place.
    fn sleep_with(&mut self, foreign: &Foreign, place: usize) {
        let what = format!("{} in place {place}", foreign.what);
        let (control, theirs) = Channel::pair();
        let (pidfd, images) = (self.pidfd(&self.target), self.images());
        let mut descriptors: [BorrowedFd<'_>; 4] =
            [theirs.as_fd(), self.client.as_fd(), pidfd.as_fd(), images.as_fd()];
        descriptors[place] = foreign.descriptor.as_fd();
        let job = Job::Sleep { ticket: 9, options: SleepOptions::default() };
        let before = self.broker.records().len();
        self.broker.jobs.send(&job, &descriptors);
        drop(theirs);
        if place == 0 && !foreign.is_control {
            assert_eq!(self.broker.wait_for_end(), Some(1), "{what}");
            let records = self.broker.records();
            assert_eq!(records.len(), before + 1, "{what}");
            assert_eq!(records[before]["job"], "sleep", "{what}");
            self.broker.start_again();
            self.broker.set_up_again();
        } else {
            if place == 0 {
                // it talks to whoever holds the other end, and wakes its target when that hangs up
                assert!(matches!(self.broker.jobs.receive(), Some(LauncherReport::Started { .. })), "{what}");
            } else {
                self.assert_sleep_ends(&what, &control, foreign.is_directory && place == 3);
            }
            if place == 0 {
                self.broker.start_again();
                self.broker.set_up_again();
            }
        }
        drop(control);
        self.target.wait_until_awake();
    }

    /// A sleep that must come to nothing, unless it `works`.
    fn assert_sleep_ends(&self, what: &str, control: &Channel, works: bool) {
        let events = until_settled(control);
        if works {
            assert!(matches!(events.last(), Some(WorkerEvent::Asleep(_))), "{what}: {events:?}");
            order_restore(control, 1, &self.client);
            assert!(matches!(until_settled(control).last(), Some(WorkerEvent::Awake(_))), "{what}");
        } else {
            assert!(matches!(events.last(), Some(WorkerEvent::Failed(_))), "{what}: {events:?}");
        }
        assert!(matches!(self.broker.jobs.receive(), Some(LauncherReport::Started { .. })), "{what}");
        // whether a process lives can't be asked of what is no pidfd
        let ended = self.broker.jobs.receive();
        let is_unharmed = |ending| matches!(ending, Ending::Exited | Ending::DiedUnharmed);
        assert!(
            matches!(ended, Some(LauncherReport::Ended { ending, .. }) if is_unharmed(ending)),
            "{what}: the launcher says {ended:?}"
        );
    }
}

#[test]
fn jobs_that_are_replayed_and_reordered_put_nothing_to_sleep_but_what_their_clients_may() {
    let scene = Scene::new();
    let (stranger, process_of_it) = scene.broker.client_of(&cast().stranger);
    let pidfds = [&scene.target, &scene.bystander].map(|target| scene.pidfd(target));
    let sockets = [scene.client.as_fd(), stranger.as_fd()];
    let images = scene.images();
    let mut numbers = seeded(11);
    // sleeps of any process for any client, again and again, each with a channel of its own or that of another one
    let channels: Vec<_> = (0..4).map(|_| Channel::pair()).collect();
    let (mut about, mut decisions) = (None, [0; 2]);
    for round in 0..300 {
        let (socket, pidfd) = (sockets[numbers.below(2)], &pidfds[numbers.below(2)]);
        let control = &channels[numbers.below(4)].1;
        let job = match numbers.below(4) {
            0 => Job::Identify { ticket: round },
            1 => Job::FindTarget { ticket: round, pid: scene.bystander.pid() },
            _ => Job::Sleep { ticket: numbers.below(3) as u64, options: SleepOptions::default() },
        };
        let all = [control.as_fd(), socket, pidfd.as_fd(), images.as_fd()];
        let descriptors = if matches!(job, Job::Sleep { .. }) { &all[..] } else { &all[1..2] };
        scene.broker.jobs.send(&job, descriptors);
        if round % 10 == 9 {
            scene.assert_still_serves("replayed");
            scene.assert_bystander_untouched("replayed");
        }
        let packets = channels.iter().flat_map(|(ours, _)| ours.drain());
        for packet in packets {
            match frame::decode(&packet).expect("a frame of ours") {
                WorkerEvent::Subjects { target, .. } => about = Some(target.pid),
                // of whichever worker
                WorkerEvent::Decided { allowed, .. } => decisions[usize::from(allowed)] += 1,
                _ => {}
            }
        }
    }
    assert!(about.is_some() && decisions.iter().all(|count| *count > 0), "{decisions:?}");
    assert!(scene.broker.records().is_empty(), "{:?}", scene.broker.records());
    drop(channels);
    process_of_it.kill();
    scene.finish();
}

#[test]
fn a_broker_that_reads_no_answer_keeps_nobody_asleep_once_it_is_gone() {
    let mut scene = Scene::new();
    let control = scene.enter(State::Asleep);
    let identify = frame::encode(&Job::Identify { ticket: 1 }).expect("it fits");
    // until the launcher waits for us, and then some
    while scene.broker.jobs.offer_bytes(&identify, &[scene.client.as_fd()]).is_ok() {}
    assert!(!scene.target.is_awake());
    let (jobs, _) = Channel::pair();
    drop(std::mem::replace(&mut scene.broker.jobs, jobs));
    assert_eq!(scene.broker.wait_for_end(), Some(0));
    drop(control);
    scene.finish();
}

/// Random numbers, whose seed is shown with the output of a test that fails.
struct Numbers(Sequence);

impl Numbers {
    /// Below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).expect("below a usize")
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Numbers from a seed, or from that of the environment.
fn seeded(seed: u64) -> Numbers {
    let given = std::env::var("MEMCR_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or(seed);
    println!("seed {seed} (set MEMCR_SEED for another one)");
    Numbers(Sequence::new(seed))
}

/// How many random frames launchers get: a million, which takes a minute and a half.
fn frames() -> u64 {
    std::env::var("MEMCR_FRAMES").map_or(1_000_000, |text| text.parse().expect("MEMCR_FRAMES is a number"))
}

#[test]
fn random_frames_are_served_or_end_the_launcher_exactly_as_they_must_and_touch_nothing_forbidden() {
    let mut scene = Scene::new();
    let mut numbers = seeded(4);
    let (mut sent, mut lives, mut sleeps) = (0, 0, 0);
    let started = std::time::Instant::now();
    while sent < frames() {
        scene.broker.start_again();
        scene.broker.set_up_again();
        let pool = Pool::new(&scene);
        let before = scene.broker.records().len();
        let mut life = Life::default();
        while life.violation.is_none() && sent + life.sent < frames() {
            let packet = pool.packet(&mut numbers, &scene);
            life.send(&packet, &scene.broker.jobs);
        }
        life.finish(&mut scene.broker, before);
        lives += 1;
        sent += life.sent;
        sleeps += life.sleeps;
        if lives % 50 == 0 {
            scene.assert_bystander_untouched("random frames");
        }
        scene.target.wait_until_awake();
    }
    println!("{sent} frames for {lives} launchers, {sleeps} sleeps, in {:?}", started.elapsed());
    assert!(lives > frames() / 4000 && sleeps > 0);
    scene.finish();
}

/// Descriptors that random frames come with.
struct Pool {
    anything: Vec<OwnedFd>,
    control: OwnedFd,
    targets: Vec<OwnedFd>,
    directories: Vec<OwnedFd>,
}

impl Pool {
    fn new(scene: &Scene) -> Self {
        let copy = || OwnedFd::from(scene.client.try_clone().expect("a copy"));
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let bystander = scene.pidfd(&scene.bystander);
        let pair = UnixStream::pair().expect("a pair").0;
        let anything = vec![copy(), reader, writer, bystander, pair.into(), scene.images()];
        let targets = vec![
            scene.pidfd(&scene.target),
            scene.pidfd(&scene.bystander),
            foreign::pidfd_of_a_dead_process(),
            copy(),
        ];
        // whose other end is closed: what sleeps wakes at once
        Self { anything, control: Channel::pair().1, targets, directories: vec![scene.images(), copy()] }
    }

    fn packet<'a>(&'a self, numbers: &mut Numbers, scene: &Scene) -> Frame<'a> {
        let any = |numbers: &mut Numbers| self.anything[numbers.below(self.anything.len())].as_fd();
        let ticket = numbers.0.next_number() >> numbers.below(64);
        let (job, mut descriptors) = match numbers.below(400) {
            0 => {
                let options = SleepOptions {
                    limit_seconds: numbers
                        .one_in(2)
                        .then_some(u32::try_from(numbers.below(9)).expect("small")),
                    ..SleepOptions::default()
                };
                let target = self.targets[numbers.below(self.targets.len())].as_fd();
                let directory = self.directories[numbers.below(2)].as_fd();
                (Job::Sleep { ticket, options }, vec![self.control.as_fd(), any(numbers), target, directory])
            }
            1..200 => (Job::Identify { ticket }, vec![any(numbers)]),
            200..300 => {
                let pid = match numbers.below(3) {
                    0 => scene.bystander.pid(),
                    1 => i32::try_from(numbers.below(40_000)).expect("small"),
                    _ => numbers.0.next_number() as i32,
                };
                (Job::FindTarget { ticket, pid }, vec![any(numbers)])
            }
            _ => (Job::NameProgram { ticket }, vec![any(numbers)]),
        };
        let mut bytes = frame::encode(&job).expect("it fits");
        match numbers.below(4000) {
            0 => {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
            1 => bytes.truncate(1 + numbers.below(bytes.len())),
            2 => bytes = (0..1 + numbers.below(300)).map(|_| numbers.below(256) as u8).collect(),
            3 => bytes.extend((0..numbers.below(9000)).map(|index| index as u8)),
            4 => descriptors = (0..numbers.below(7)).map(|_| any(numbers)).collect(),
            _ => {}
        }
        Frame { bytes, descriptors }
    }
}

/// A frame with descriptors that others have, too.
struct Frame<'a> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'a>>,
}

impl Frame<'_> {
    fn verdict(&self) -> Verdict {
        // a sleep needs a channel, too
        let is_sleep = matches!(frame::decode::<Job>(&self.bytes), Ok(Job::Sleep { .. }));
        match verdict(&self.bytes, self.descriptors.len(), true) {
            Verdict::Served if is_sleep && !is_packet_socket(self.descriptors[0]) => {
                Verdict::Violation(Some("sleep"))
            }
            verdict => verdict,
        }
    }
}

fn is_packet_socket(descriptor: BorrowedFd<'_>) -> bool {
    use nix::sys::socket::{SockType, getsockopt, sockopt};
    getsockopt(&descriptor, sockopt::SockType) == Ok(SockType::SeqPacket)
}

/// What one launcher got, and what it said to that.
#[derive(Default)]
struct Life {
    sent: u64,
    sleeps: u64,
    /// Answers that are to come, and that came.
    expected: u64,
    answers: u64,
    violation: Option<Option<&'static str>>,
}

impl Life {
    fn send(&mut self, frame: &Frame<'_>, jobs: &Channel) {
        match frame.verdict() {
            Verdict::Served => self.expected += 1,
            Verdict::Violation(job) => self.violation = Some(job),
        }
        self.sleeps += u64::from(frame.descriptors.len() == 4);
        self.sent += 1;
        // both sides could wait for the other to read
        while let Err(error) = jobs.offer_bytes(&frame.bytes, &frame.descriptors) {
            assert_eq!(error, nix::errno::Errno::EAGAIN, "the launcher has ended too early");
            self.take_answers(jobs.drain());
            jobs.wait_until_ready();
        }
        self.take_answers(jobs.drain());
    }

    fn take_answers(&mut self, packets: Vec<Vec<u8>>) {
        for packet in packets {
            match frame::decode::<LauncherReport>(&packet).expect("a frame of ours") {
                LauncherReport::Identified { .. }
                | LauncherReport::TargetFound { .. }
                | LauncherReport::ProgramNamed { .. }
                | LauncherReport::Started { .. } => self.answers += 1,
                LauncherReport::Ended { ending: Ending::Exited | Ending::DiedUnharmed, .. } => {}
                // the last words
                LauncherReport::SetupFailed { .. } if self.violation.is_some() => {}
                other => panic!("the launcher says {other:?}"),
            }
        }
    }

    fn finish(&mut self, broker: &mut CapturedBroker, before: usize) {
        if let Some(job) = self.violation {
            let end = broker.wait_for_end_while(|jobs| self.take_answers(jobs.drain()));
            assert_eq!(end, Some(1));
            let records = broker.records();
            assert_eq!(records.len(), before + 1, "{records:?}");
            assert_eq!(
                (&records[before]["event"], records[before]["job"].as_str()),
                (&"launcher-violation".into(), job)
            );
            self.take_answers(broker.jobs.drain());
        } else {
            wait::until("all is answered", || {
                self.take_answers(broker.jobs.drain());
                self.answers == self.expected
            });
            assert_eq!(broker.records().len(), before);
        }
        assert_eq!(self.answers, self.expected);
    }
}

/// Orders that a worker must not get, and what is wrong with them.
fn bad_orders(scene: &Scene) -> Vec<(Vec<u8>, Vec<OwnedFd>)> {
    let restore = frame::encode(&WorkerCommand::Restore { ticket: 7 }).expect("it fits");
    let images = || scene.images();
    let mut orders: Vec<(Vec<u8>, Vec<OwnedFd>)> = vec![
        (vec![0xff; 60], vec![]),
        (vec![1, 0, 0, 0, 9], vec![]),
        (vec![1, 0, 0, 0, 2], vec![images()]),
        (vec![0; 70_000], vec![]),
        (restore[..restore.len() - 1].to_vec(), vec![]),
    ];
    for count in [0, 2, 4, 5, 40] {
        orders.push((restore.clone(), (0..count).map(|_| images()).collect()));
    }
    orders
}

fn send_all(orders: &[(Vec<u8>, Vec<OwnedFd>)], control: &Channel) {
    for (bytes, descriptors) in orders {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        control.send_bytes(bytes, &descriptors);
    }
}

#[test]
fn orders_that_no_broker_gives_change_nothing_in_any_phase_and_are_on_record() {
    let mut scene = Scene::new();
    let (stranger, process_of_it) = scene.broker.client_of(&cast().stranger);
    let foreign = foreign::all(scene.bystander.pid(), &stranger);
    let orders = bad_orders(&scene);
    // while it attaches
    let control = scene.enter(State::WorkerAttaching).expect("a channel");
    send_all(&orders, &control);
    foreign.iter().for_each(|foreign| order_restore(&control, 3, &foreign.descriptor));
    scene.let_go_on();
    let mut denied = 0;
    loop {
        match control.receive::<WorkerEvent>() {
            Some(WorkerEvent::RestoreDenied { ticket: 3, .. }) => denied += 1,
            Some(WorkerEvent::Asleep(_)) => break,
            Some(WorkerEvent::Failed(failure)) => panic!("{failure:?}"),
            Some(_) => {}
            None => panic!("the worker has ended"),
        }
    }
    // asleep, when none of the descriptors may stay open
    let worker = procfs::tracer(scene.target.pid()).expect("it sleeps");
    let deny_all = |denied: &mut usize, expected: usize| {
        while *denied < expected {
            let events = until_settled(&control);
            assert!(
                matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 3, .. })),
                "{events:?}"
            );
            *denied += 1;
        }
    };
    deny_all(&mut denied, foreign.len());
    let open = procfs::descriptors(worker);
    for round in 2..5 {
        send_all(&orders, &control);
        foreign.iter().for_each(|foreign| order_restore(&control, 3, &foreign.descriptor));
        deny_all(&mut denied, round * foreign.len());
        // it answers before it closes
        wait::until("no descriptor of an order stays open", || {
            procfs::descriptors(worker).len() <= open.len()
        });
    }
    order_restore(&control, 6, &stranger);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 6, .. })), "{events:?}");
    let records = scene.broker.records();
    let (mut of_jobs, mut without) = (0, 0);
    for record in &records {
        assert_eq!(
            (&record["event"], record["pid"].as_i64()),
            (&"worker-violation".into(), Some(worker.into()))
        );
        match record["job"].as_str() {
            Some("restore") => of_jobs += 1,
            None => without += 1,
            other => panic!("{other:?}"),
        }
    }
    // not one for each: nobody may fill the disk
    assert_eq!((records.len(), of_jobs + without), (8, 8));
    assert!(of_jobs >= 3 && without >= 4, "{records:?}");
    // while it wakes, and twice
    order_restore(&control, 4, &scene.client);
    order_restore(&control, 5, &scene.client);
    let _ = control.try_send_bytes(&orders[0].0, &[]);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::Awake(_))), "{events:?}");
    process_of_it.kill();
    drop(control);
    scene.finish();
}

#[test]
fn a_restore_before_it_sleeps_calls_the_checkpoint_off_for_a_client_that_may_and_for_no_other() {
    let mut scene = Scene::new();
    let (stranger, process_of_it) = scene.broker.client_of(&cast().stranger);
    for _ in 0..3 {
        let control = scene.enter(State::WorkerAttaching).expect("a channel");
        order_restore(&control, 1, &stranger);
        order_restore(&control, 2, &scene.client);
        order_restore(&control, 3, &scene.client);
        scene.let_go_on();
        let mut events = Vec::new();
        while let Some(event) = control.receive::<WorkerEvent>() {
            events.push(event);
        }
        let has = |wanted: fn(&WorkerEvent) -> bool| events.iter().any(wanted);
        assert!(has(|event| matches!(event, WorkerEvent::RestoreDenied { ticket: 1, .. })), "{events:?}");
        assert!(has(|event| matches!(event, WorkerEvent::RestoreAllowed { ticket: 2, .. })), "{events:?}");
        let aborted = |event: &WorkerEvent| matches!(event, WorkerEvent::Failed(failure) if failure.code == memcr_protocol::code::Code::Aborted);
        assert!(events.last().is_some_and(aborted), "{events:?}");
        scene.target.wait_until_awake();
        scene.target.assert_intact();
    }
    assert!(scene.broker.records().is_empty());
    process_of_it.kill();
    scene.finish();
}
