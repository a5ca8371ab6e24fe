//! Every rule of the filters is needed: without it something breaks. Test builds (tests/drill) leave rules out.
//!
//! Most are needed to put a process to sleep and wake it: `breaks`. What others are for is a test elsewhere, which
//! is run here against a daemon that lacks the rule, and must fail.

use memcr_tests::binaries::{self, ORDERS};
use memcr_tests::client::Running;
use memcr_tests::daemon::{Daemon, Setup, send};
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// What needs a rule.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// This test: its file and name.
    Test(&'static str, &'static str),
    /// Nothing that this machine can show, but other machines need it.
    Elsewhere(&'static str),
}
use Need::{Elsewhere, Test};

/// Rules and what needs them.
type Needs = &'static [(&'static str, Need)];

/// Tables of the document, whose filter they are in, and the rules that a sleep and a waking don't need.
const TABLES: &[(&str, &str, Needs)] = &[
    (
        "confined",
        "### A confined worker",
        &[
            (
                "ioctl:UFFDIO_ZEROPAGE",
                Test("image_options", "a_wake_by_the_daemon_itself_has_the_checksum_too"),
            ),
            (
                "mremap",
                Test(
                    "hostile_target",
                    "a_process_with_a_hundred_thousand_mappings_sleeps_and_wakes_and_one_without_room_for_more_is_refused",
                ),
            ),
            (
                "madvise:MADV_GUARD_INSTALL",
                Elsewhere("threads of glibc 2.42 and later have their guard pages by it"),
            ),
            (
                "clock_gettime",
                Elsewhere("machines whose clock the vDSO can't read: virtual ones, faulty ones"),
            ),
        ],
    ),
    (
        "confined",
        "### A confined worker on x86-64",
        &[("fadvise64", Test("images", "a_flipped_byte_in_a_frame_kills_the_target_rather_than_reach_it"))],
    ),
    (
        "launcher",
        "### The launcher, and a worker that attaches",
        &[
            (
                "restart_syscall",
                Test("hostile_target", "code_on_a_file_system_that_does_not_answer_is_no_trap"),
            ),
            ("sched_yield", Elsewhere("an answer that comes in the very moment in which it is given up")),
            (
                "kcmp:KCMP_FILE",
                Test("crash_safety", "a_sleeper_whose_worker_is_killed_wakes_with_its_memory"),
            ),
            ("pidfd_open:process", Test("wire", "version_1_puts_to_sleep_and_wakes")),
            (
                "pidfd_open:PIDFD_THREAD",
                Test("nothing_stays", "a_process_whose_main_thread_has_ended_sleeps_and_wakes"),
            ),
            (
                "ioctl:NS_GET_PARENT",
                Test("wire_namespaces", "in_nested_namespaces_each_client_has_its_own_numbers"),
            ),
            (
                "ioctl:NS_GET_PID_FROM_PIDNS",
                Test(
                    "wire_namespaces",
                    "a_client_in_a_namespace_of_its_own_names_a_process_there_by_the_number_there",
                ),
            ),
        ],
    ),
    ("launcher", "### The launcher on x86-64", &[]),
    ("launcher", "### Where a socket is taken out of the target", &[]),
    (
        "launcher",
        "### Where the parasite has a socket with a name",
        &[
            ("connect", Test("transport", "without_pidfd_getfd_a_socket_with_an_abstract_name_serves")),
            (
                "socket:AF_UNIX",
                Test("transport", "without_pidfd_getfd_a_socket_with_an_abstract_name_serves"),
            ),
        ],
    ),
    (
        "launcher",
        "### Where that socket is in a directory",
        &[("openat2", Test("transport", "a_directory_behind_a_link_is_found_where_the_process_finds_it"))],
    ),
    (
        "launcher",
        "### Where clients come over TCP",
        &[(
            "socket:NETLINK_SOCK_DIAG",
            Test("tcp", "clients_over_tcp_are_named_by_their_user_and_the_record_tells_who_they_are"),
        )],
    ),
    (
        "broker",
        "### The broker",
        &[
            (
                "setsockopt:SO_LINGER",
                Test("hostile_client", "messages_full_of_descriptors_are_refused_and_none_stays_open"),
            ),
            ("brk", Test("hostile_client", "ten_thousand_connections_leave_room_for_others")),
            ("mremap", Elsewhere("a list of so many sleepers that an answer outgrows 128 KiB")),
            ("futex", Test("hostile_client", "messages_full_of_descriptors_are_refused_and_none_stays_open")),
            (
                "clock_gettime",
                Elsewhere("machines whose clock the vDSO can't read: virtual ones, faulty ones"),
            ),
            (
                "restart_syscall",
                Elsewhere(
                    "a stop and a continue in the moment in which it waits for a reader of its standard error",
                ),
            ),
            ("gettid", Test("faults", "a_fault_of_the_broker_ends_the_daemon_on_record_and_wakes_all")),
        ],
    ),
    (
        "broker",
        "### The broker on x86-64",
        &[("mmap", Test("policy_reload", "the_largest_policy_that_there_may_be_is_read_anew"))],
    ),
    (
        "broker",
        "### Where the audit log can be opened anew",
        &[("openat:append", REOPENED), ("fstat", REOPENED), ("fcntl:F_OFD_SETLK", REOPENED)],
    ),
    ("broker", "### One shot", &[("ioctl:TIOCGWINSZ", ON_A_TERMINAL), ("ioctl:TCGETS", ON_A_TERMINAL)]),
];

const REOPENED: Need =
    Test("audit_chain", "a_rotated_log_is_opened_anew_by_a_confined_daemon_and_both_files_are_one_chain");
const ON_A_TERMINAL: Need = Test(
    "one_shot",
    "on_a_terminal_it_shows_a_progress_bar_waits_for_enter_and_keeps_records_on_lines_of_their_own",
);

/// How long something may take that a rule is left out of; whoever hangs is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the rules under a heading of doc/confinement.md, which other tests hold against the filters.
fn rules(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/confinement.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let lines = document.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| `"));
    let names: Vec<_> = rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    assert!(!names.is_empty(), "no rows under {heading}");
    names
}

/// Whether a daemon has lost a part of itself.
fn is_broken(daemon: &Daemon) -> bool {
    daemon.log().contains("worker-forbidden-call")
        || !procfs::is_alive(daemon.launcher())
        || !procfs::is_alive(daemon.pid())
}

/// Whether a sleep and a waking, with all that belongs to it, break if `filter` lacks the rule.
fn breaks(filter: &str, rule: &str) -> bool {
    let setup = Setup::new().arguments(&["-c", "-z"]).drill(&format!("{filter} without {rule}\n"));
    let Ok(mut daemon) = setup.try_start() else { return true };
    // more than one thread works at 24 MiB
    let target = Target::start(&cast().target, "sample-memory", &["24", "3", "2"]);
    let client = daemon.client();
    let steps: [&dyn Fn() -> Running; 2] =
        [&|| client.start_checkpoint(target.pid()), &|| client.start_restore(target.pid())];
    for step in steps {
        let mut running = step();
        wait::until("it is done, or broken", || running.has_ended() || is_broken(&daemon));
        if is_broken(&daemon) || running.finish().status != 0 {
            // it would go on trying for as long as it is let
            let all = daemon.workers().into_iter().chain([daemon.launcher(), daemon.pid()]);
            all.filter(|pid| *pid > 0).for_each(|pid| send(pid, Signal::SIGKILL));
            return true;
        }
    }
    daemon.signal(Signal::SIGTERM);
    let end = daemon.wait_for_end();
    // it has told of the last worker by then
    wait::until("the launcher has ended", || !procfs::is_alive(daemon.launcher()));
    end.code() != Some(0) || daemon.log().contains("worker-forbidden-call")
}

/// Whether a test fails against daemons whose `filter` lacks the rule.
fn fails(filter: &str, rule: &str, file: &str, name: &str) -> bool {
    static PROGRAMS: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(binaries::tests);
    let program = programs.get(file).unwrap_or_else(|| panic!("no file {file}.rs"));
    let listed = Command::new(program).args(["--exact", name, "--list"]).output().expect("cannot run a test");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(name), "{file}.rs has no test {name}");
    let mut test = Command::new(program)
        .args(["--exact", name])
        .env(ORDERS, format!("{filter} without {rule}"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("cannot run a test");
    let begin = std::time::Instant::now();
    loop {
        match test.try_wait().expect("cannot wait for a test") {
            Some(end) => return !end.success(),
            None if begin.elapsed() < PATIENCE => wait::let_pass(Duration::from_millis(20)),
            None => {
                // with all that it has started: it may wait for that
                send(-i32::try_from(test.id()).expect("a pid is an i32"), Signal::SIGKILL);
                let _ = test.wait();
                return true;
            }
        }
    }
}

/// How often a rule is looked at that nothing seems to need.
const TRIES: u32 = 10;

fn assert_needed(of: &str) {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut unneeded = Vec::new();
    for (filter, heading, others) in TABLES.iter().filter(|(filter, ..)| *filter == of) {
        let rules = rules(heading);
        for (name, _) in *others {
            assert!(rules.iter().any(|rule| rule == name), "{heading} has no {name}");
        }
        for rule in rules.iter().filter(|rule| only.is_empty() || rule.contains(&only)) {
            let begin = std::time::Instant::now();
            let is_needed = match others.iter().find(|(name, _)| name == rule) {
                // threads that wait for each other don't do so each time (futex)
                None => (0..TRIES).any(|_| breaks(filter, rule)),
                Some((_, Test(file, name))) => fails(filter, rule, file, name),
                Some((_, Elsewhere(why))) => {
                    println!("{filter}: {rule} is not shown here: {why}");
                    true
                }
            };
            if !is_needed {
                unneeded.push(format!("{heading}: {rule}"));
            }
            println!("{filter}: {rule} {is_needed} {:?}", begin.elapsed());
        }
    }
    assert!(unneeded.is_empty(), "nothing breaks without {unneeded:#?}");
}

#[test]
fn a_confined_worker_needs_every_rule() {
    // so that the tests below mean something
    assert!(!breaks("confined", "no rule of this name"));
    assert_needed("confined");
}

#[test]
fn the_launcher_needs_every_rule() {
    assert_needed("launcher");
}

#[test]
fn the_broker_needs_every_rule() {
    assert_needed("broker");
}
