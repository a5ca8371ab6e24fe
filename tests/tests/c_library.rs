//! The C library as C programs use it: compiled with cc, linked with -lmemcrclient, run as the usual client.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::scratch::{self, Scratch};
use memcr_tests::target::{Target, value};
use memcr_tests::users::{User, cast, required};
use memcr_tests::{binaries, procfs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Compiles a program and links it with the library; `words` are for the compiler.
fn compile(source: &Path, words: &[&str], scratch: &Scratch) -> PathBuf {
    let program = scratch.path().join(source.file_stem().expect("a name"));
    let mut command = Command::new(required("/usr/bin/cc", "gcc libc6-dev"));
    command.args(["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"]).args(words);
    command
        .arg("-o")
        .arg(&program)
        .arg(source)
        .arg("-L")
        .arg(binaries::path(binaries::LIBRARY).with_file_name(""));
    let output = command.arg("-lmemcrclient").output().expect("cannot run cc");
    assert!(output.status.success(), "cc says:\n{}", String::from_utf8_lossy(&output.stderr));
    scratch::set_mode(&program, 0o755);
    program
}

/// The option that lets programs find the header.
fn header() -> String {
    format!("-I{}/client/include", root().display())
}

fn command(user: &User, program: &Path) -> Command {
    let mut command = user.command(program);
    command.env("LD_LIBRARY_PATH", binaries::directory());
    command
}

/// Starts the program that was written for the original's library.
fn original(user: &User, scratch: &Scratch) -> Target {
    let program = compile(&root().join("tests/c/original.c"), &[], scratch);
    Target::start_command(command(user, &program))
}

/// Starts the program that uses the newer functions.
fn newer(user: &User, scratch: &Scratch) -> Target {
    let program = compile(&root().join("tests/c/newer.c"), &[&header()], scratch);
    Target::start_command(command(user, &program))
}

fn sample(mib: &str) -> Target {
    Target::start(&cast().target, "sample-memory", &[mib])
}

/// Connects; gives the descriptor.
fn connect(program: &mut Target, daemon: &Daemon) -> String {
    let answer = program.ask(&format!("connect {}", daemon.socket().display()));
    assert!(answer.parse::<i32>().is_ok_and(|cd| cd > 2), "connect gave {answer}");
    answer
}

#[test]
fn a_program_that_knows_four_prototypes_puts_a_process_to_sleep_and_wakes_it() {
    let daemon = Daemon::start();
    let mut target = sample("64");
    let (scratch, pid) = (Scratch::new(), target.pid());
    let mut program = original(&cast().client, &scratch);
    let cd = connect(&mut program, &daemon);
    let descriptor = std::fs::read_link(format!("/proc/{}/fd/{cd}", program.pid())).expect("it is open");
    assert!(descriptor.to_string_lossy().starts_with("socket:"), "{}", descriptor.display());
    for _ in 0..3 {
        assert_eq!(program.ask(&format!("checkpoint {cd} {pid}")), "0");
        assert!(procfs::rss_anon(pid) < 8 << 20, "its memory is still there");
        assert_eq!(daemon.client().state(pid), "asleep");
        assert_eq!(program.ask(&format!("checkpoint {cd} {pid}")), "-2");
        assert_eq!(program.ask(&format!("restore {cd} {pid}")), "0");
        target.assert_intact();
        assert_eq!(program.ask(&format!("restore {cd} {pid}")), "-2");
    }
    program.ask(&format!("disconnect {cd}"));
    assert!(!Path::new(&format!("/proc/{}/fd/{cd}", program.pid())).exists(), "the descriptor is open");
    assert!(daemon.audit_of(pid).iter().any(|record| record["client"]["uid"] == cast().client.uid));
}

#[test]
fn errors_of_the_four_functions_are_negative_numbers() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let (scratch, pid) = (Scratch::new(), target.pid());
    let mut program = original(&cast().client, &scratch);
    let cd = connect(&mut program, &daemon);
    // none, one of root's, two that there can't be, one that would be below zero
    for other in ["0", "1", "2147483647", "2147483648", "4294967295"] {
        assert_eq!(program.ask(&format!("checkpoint {cd} {other}")), "-1", "{other}");
        assert_eq!(program.ask(&format!("restore {cd} {other}")), "-1", "{other}");
    }
    for other in ["-1", "0", "1", "99", "2147483647"] {
        assert_eq!(program.ask(&format!("checkpoint {other} {pid}")), "-1", "{other}");
        assert_eq!(program.ask(&format!("restore {other} {pid}")), "-1", "{other}");
        assert_eq!(program.ask(&format!("disconnect {other}")), "disconnected", "{other}");
    }
    // nothing listens at port 1
    for location in ["/no/such/place", "/etc/passwd", "1", "localhost:1", "[::1]:1", "0", "::1:9000"] {
        assert_eq!(program.ask(&format!("connect {location}")), "-1", "{location}");
    }
    assert_eq!(program.ask("connect-null"), "-1");
    assert_eq!(program.ask(&format!("checkpoint {cd} {pid}")), "0");
    assert_eq!(program.ask(&format!("restore {cd} {pid}")), "0");
    program.ask(&format!("disconnect {cd}"));
    assert_eq!(program.ask(&format!("checkpoint {cd} {pid}")), "-1");
    target.assert_intact();

    let mut program = original(&cast().stranger, &scratch);
    assert_eq!(program.ask(&format!("connect {}", daemon.socket().display())), "-1");
}

#[test]
fn signals_that_the_program_handles_disturb_no_request() {
    let daemon = Daemon::start();
    let mut target = sample("128");
    let (scratch, pid) = (Scratch::new(), target.pid());
    let mut program = original(&cast().client, &scratch);
    let cd = connect(&mut program, &daemon);
    assert_eq!(program.ask("handle signals"), "handling");
    assert_eq!(program.ask(&format!("checkpoint {cd} {pid}")), "0");
    assert_eq!(program.ask(&format!("restore {cd} {pid}")), "0");
    let signals: u32 = program.ask("signals").parse().expect("a number");
    assert!(signals > 10, "only {signals} signals came");
    target.assert_intact();
}

#[test]
fn a_connection_that_had_to_make_room_is_made_again_by_the_next_request() {
    // a user other than root may have a quarter of them as connections
    let daemon = Setup::new().descriptors(200).start();
    let mut target = sample("4");
    let (scratch, pid) = (Scratch::new(), target.pid());
    let mut program = original(&cast().client, &scratch);
    let first = connect(&mut program, &daemon);
    for _ in 0..50 {
        connect(&mut program, &daemon);
    }
    assert_eq!(program.ask(&format!("checkpoint {first} {pid}")), "0");
    assert_eq!(program.ask(&format!("restore {first} {pid}")), "0");
    target.assert_intact();
}

#[test]
fn the_number_of_a_process_is_understood_where_the_program_runs() {
    let daemon = Daemon::start();
    let scratch = Scratch::new();
    let program = compile(&root().join("tests/c/original.c"), &[], &scratch);
    let place = scratch.directory_of(&cast().client, "client");
    let script = format!(
        "set -e; cd {place}; mkfifo line; {bin}/sample-memory 8 < line > said & exec 3> line\n\
         target=$!; while ! grep -q ready said; do :; done; grep -q \"pid=$target\" said; test $target -lt 100\n\
         printf 'connect {socket}\\ncheckpoint 4 %s\\nrestore 4 %s\\n' $target $target | {program}\n\
         echo check >&3; while ! grep -q intact said; do :; done; cat said",
        place = place.display(),
        bin = binaries::directory().display(),
        socket = daemon.socket().display(),
        program = program.display(),
    );
    let mut command = command(&cast().client, Path::new("/usr/bin/unshare"));
    let words = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--net", "--kill-child"];
    let output = command.args(words).args(["timeout", "60", "sh", "-c", &script]).output();
    let output = output.expect("cannot run unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("intact"), "{said}\n{errors}");
    assert!(said.contains("ready\n4\n0\n0\n"), "{said}\n{errors}");
}

#[test]
fn newer_functions_give_figures_and_say_why_they_failed() {
    let daemon = Daemon::start();
    let mut target = sample("64");
    let (scratch, pid) = (Scratch::new(), target.pid());
    let mut program = newer(&cast().client, &scratch);
    let mut ask = |line: String| program.ask(&line);
    let refused = |answer: &str, code: &str, word: &str| {
        assert!(answer.starts_with(code) && answer.to_lowercase().contains(word), "{code}, {word}: {answer}");
    };
    refused(&ask("open /no/such/place".into()), "not-connected", "/no/such/place");
    refused(&ask("open 99999".into()), "invalid-argument", "from 1 to 65535");
    assert_eq!(ask(format!("open {}", daemon.socket().display())), "ok | ");
    refused(&ask("checkpoint 2147483647".into()), "no-such-process", "2147483647");
    refused(&ask("checkpoint -1".into()), "no-such-process", "-1");
    refused(&ask(format!("checkpoint {}", std::process::id())), "denied", "policy");
    refused(&ask(format!("restore {pid}")), "not-asleep", "");
    refused(&ask(format!("checkpoint-in /no/such/place {pid}")), "", "/no/such/place");
    refused(&ask(format!("checkpoint-as 99 {pid}")), "unsupported", "compression");
    assert!(target.is_awake());

    let asleep = ask(format!("checkpoint {pid}"));
    let figure = |answer: &str, name: &str| -> u64 { value(answer, name).parse().expect("a number") };
    assert!(asleep.starts_with("ok") && figure(&asleep, "dumped") >= 64 << 20, "{asleep}");
    assert!(figure(&asleep, "before") >= 64 << 20 && figure(&asleep, "asleep") < 8 << 20, "{asleep}");
    refused(&ask(format!("checkpoint {pid}")), "already-asleep", "");
    let status = ask(format!("status {pid}"));
    assert_eq!(
        (figure(&status, "state"), figure(&status, "dumped")),
        (3, figure(&asleep, "dumped")),
        "{status}"
    );
    assert_eq!(figure(&status, "uid"), u64::from(cast().target.uid));
    let awake = ask(format!("restore {pid}"));
    assert_eq!(figure(&awake, "restored"), figure(&asleep, "dumped"), "{awake}");
    assert_eq!(figure(&ask(format!("status {pid}")), "state"), 0);
    // MEMCR_COMPRESSION_NONE and MEMCR_COMPRESSION_LZ4
    for compression in [1, 2] {
        let asleep = ask(format!("checkpoint-as {compression} {pid}"));
        assert!(asleep.starts_with("ok") && figure(&asleep, "dumped") >= 32 << 20, "{asleep}");
        assert!(ask(format!("restore {pid}")).starts_with("ok"));
    }
    target.assert_intact();
    assert_eq!(ask("close".into()), "ok | there is no connection: NULL was given");
    refused(&ask(format!("checkpoint {pid}")), "invalid-argument", "null");
}

#[test]
fn the_example_of_the_document_works() {
    let text = std::fs::read_to_string(root().join("doc/c-library.md")).expect("it is there");
    let blocks: Vec<_> = text.split("```c\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let [prototypes, example] = blocks[..] else { panic!("{} examples in C", blocks.len()) };
    let scratch = Scratch::new();
    // that program declares the same
    let program = std::fs::read_to_string(root().join("tests/c/original.c")).expect("it is there");
    assert!(program.contains(prototypes), "tests/c/original.c has other prototypes than the document");

    let program = compile(&scratch.file("example.c", example), &[&header()], &scratch);
    let daemon = Daemon::start();
    let mut target = sample("16");
    let run = |pid: i32| {
        let mut command = command(&cast().client, &program);
        command.arg(daemon.socket()).arg(pid.to_string()).output().expect("cannot run the example")
    };
    let output = run(target.pid());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("bytes taken away") && said.contains("bytes given back"), "{said}");
    target.assert_intact();
    let output = run(i32::MAX);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.starts_with("no-such-process: there is no process"), "{said}");
}

#[test]
fn the_library_has_the_functions_of_the_header_and_no_other_symbol() {
    let library = binaries::path(binaries::LIBRARY);
    let run = |program: &str, words: &[&str]| {
        let output = Command::new(required(program, "binutils")).args(words).arg(&library).output();
        let output = output.expect("cannot run a program of binutils");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it writes text")
    };
    let symbols = run("/usr/bin/nm", &["--dynamic", "--defined-only", "--format=just-symbols"]);
    let symbols: BTreeSet<_> = symbols.lines().collect();
    let header = std::fs::read_to_string(root().join("client/include/memcrclient.h")).expect("it is there");
    let code = header.lines().filter(|line| !line.trim_start().starts_with(['*', '/', ' ']));
    let declared: BTreeSet<_> = code
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("memcr_"))
        .collect();
    assert_eq!(symbols, declared);
    let four = ["connect", "disconnect", "checkpoint", "restore"];
    assert!(four.iter().all(|name| symbols.contains(format!("memcr_client_{name}").as_str())));
    let dynamic = run("/usr/bin/readelf", &["--dynamic", "--wide"]);
    assert!(dynamic.contains("Library soname: [libmemcrclient.so]"), "{dynamic}");
    let needed = dynamic.lines().filter_map(|line| line.split_once("Shared library: [")?.1.strip_suffix(']'));
    let expected =
        |name: &str| name.starts_with("libc.so") || name.starts_with("libgcc_s") || name.starts_with("ld-");
    assert!(needed.clone().all(expected), "it needs {:?}", needed.collect::<Vec<_>>());
}
