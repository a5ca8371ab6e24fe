//! Real programs sleep and wake with live state: the daemon as its own user, the target as
//! another, the client as a third one in the daemon's group.

use memcr_tests::daemon::Daemon;
use memcr_tests::programs::{self, Nginx, PAGE, Postgres, Redis};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{procfs, wait};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn redis_with_500_mb_of_keys_keeps_them_and_answers_an_open_connection() {
    let daemon = Daemon::start();
    let redis = Redis::start(daemon.scratch());
    let pid = redis.program.pid();
    let mut connection = redis.connect();
    assert_eq!(connection.ask("DEBUG POPULATE 500000 key 1000"), "+OK");
    assert_eq!(connection.ask("SET greeting hello"), "+OK");
    let digest = connection.ask("DEBUG DIGEST");
    let before = procfs::rss_anon(pid);
    assert!(before > 500_000_000, "redis has only {before} bytes");

    let report = daemon.client().checkpoint(pid).expect_status(0);
    let asleep = procfs::rss_anon(pid);
    assert!(asleep <= before / 20, "{asleep} of {before} bytes are still resident");
    assert!(report.figure("rss_asleep") <= before / 20 && report.figure("dumped") > 500_000_000);
    assert_eq!(daemon.client().state(pid), "asleep");
    daemon.client().restore(pid).expect_status(0);

    assert_eq!(connection.ask("GET greeting"), "hello");
    assert_eq!(connection.ask("DEBUG DIGEST"), digest);
    assert_eq!(redis.connect().ask("DBSIZE"), ":500001");
    assert_eq!(connection.ask("DEBUG DIGEST"), digest);
}

#[test]
fn postgres_goes_on_with_an_open_transaction() {
    let daemon = Daemon::start();
    let postgres = Postgres::start(daemon.scratch());
    let mut session = postgres.connect();
    session
        .ask("CREATE TABLE notes (text text); BEGIN; INSERT INTO notes VALUES ('written before the sleep');");
    session.ask("DECLARE series CURSOR FOR SELECT n FROM generate_series(1, 300000) AS n ORDER BY -n DESC;");
    assert_eq!(session.ask("FETCH 3 FROM series;"), ["1", "2", "3"]);
    let backend: i32 = session.ask("SELECT pg_backend_pid();")[0].parse().expect("a pid");
    let postmaster = postgres.program.pid();

    for pid in [postmaster, backend] {
        daemon.client().checkpoint(pid).expect_status(0);
    }
    for pid in [backend, postmaster] {
        daemon.client().restore(pid).expect_status(0);
    }

    assert_eq!(
        session.ask("FETCH 2 FROM series; SELECT text FROM notes;"),
        ["4", "5", "written before the sleep"]
    );
    let mut other = postgres.connect();
    assert_eq!(other.ask("SELECT count(*) FROM notes;"), ["0"], "the transaction is still open");
    session.ask("COMMIT;");
    assert_eq!(other.ask("SELECT text FROM notes;"), ["written before the sleep"]);
}

#[test]
fn node_keeps_its_timers_and_an_open_tcp_connection() {
    let daemon = Daemon::start();
    let mut node = programs::start_node();
    let port: u16 = node.fact("port").parse().expect("a port");
    let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", port)).expect("node listens"));
    connection.get_ref().set_read_timeout(Some(wait::BOUND)).expect("a timeout can be set");
    let mut ask = |text: &str| {
        writeln!(connection.get_mut(), "{text}").expect("node listens");
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            connection.read_line(line).expect("node answers");
        }
        lines.concat()
    };
    assert!(ask("one").starts_with("echo one"));

    daemon.put_to_sleep(&node);
    assert!(procfs::rss_anon(node.pid()) < 16 << 20);
    daemon.client().restore(node.pid()).expect_status(0);

    assert!(ask("two").starts_with("echo two"));
    node.assert_intact();
}

#[test]
fn python_keeps_its_numpy_arrays() {
    let daemon = Daemon::start();
    let mut python = programs::start_python();
    for _ in 0..3 {
        daemon.put_to_sleep(&python);
        daemon.client().restore(python.pid()).expect_status(0);
        python.assert_intact();
    }
}

#[test]
fn sixty_four_computing_threads_keep_their_avx_registers() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-threads", &["64"]);
    for _ in 0..10 {
        let report = daemon.client().checkpoint(target.pid()).expect_status(0);
        assert_eq!(report.figure("threads"), 65);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
}

#[test]
fn nginx_serves_afterwards_also_what_was_asked_while_it_slept() {
    let daemon = Daemon::start();
    let nginx = Nginx::start(daemon.scratch());
    let worker = nginx.worker();
    let mut open = nginx.connect();
    programs::send_request(&mut open);
    assert_eq!(programs::read_answer(&mut open), PAGE);

    daemon.client().checkpoint(worker).expect_status(0);
    let mut late = nginx.connect();
    programs::send_request(&mut late);
    wait::holds_for("the worker of nginx sleeps", Duration::from_millis(100), || {
        procfs::tracer(worker).is_some()
    });
    daemon.client().restore(worker).expect_status(0);

    assert_eq!(programs::read_answer(&mut late), PAGE);
    programs::send_request(&mut open);
    assert_eq!(programs::read_answer(&mut open), PAGE);
}
