//! Who the daemon becomes when root starts it and says nothing of it.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::Status;
use memcr_tests::target::Target;
use memcr_tests::users::cast;

/// The accounts of this machine without `memcr`.
fn accounts() -> String {
    let all = std::fs::read_to_string("/etc/passwd").expect("there are accounts");
    let others = all.lines().filter(|line| !line.starts_with("memcr:"));
    others.map(|line| format!("{line}\n")).collect()
}

/// Expects broker, launcher and worker to have this user and group and no other, and a target to sleep and wake.
fn assert_runs_as(daemon: &Daemon, uid: u32, gid: u32) {
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let worker = daemon.put_to_sleep(&target);
    for pid in [daemon.pid(), daemon.launcher(), worker] {
        let status = Status::of(pid).expect("a status");
        let ids = |name| status.field(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ids("Uid"), vec![uid.to_string(); 4]);
        assert_eq!(ids("Gid"), vec![gid.to_string(); 4]);
        assert_eq!(status.field("Groups"), "");
    }
    let start = &daemon.start_record();
    assert_eq!((&start["uid"], &start["gid"]), (&uid.into(), &gid.into()));
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn without_a_user_it_becomes_the_account_memcr() {
    // group and user differ, so that the one can't be taken for the other
    let accounts = format!("{}memcr:x:61111:61112::/nonexistent:/usr/sbin/nologin\n", accounts());
    let daemon = Setup::new().without_user().accounts(&accounts).start();
    assert_runs_as(&daemon, 61_111, 61_112);
    assert!(!daemon.log().contains("unused"), "{}", daemon.log());
}

#[test]
fn without_that_account_it_becomes_an_unused_number_and_warns() {
    // the first of these numbers are taken
    let accounts = format!("{}one:x:61184:100::/:/bin/false\ntwo:x:61185:100::/:/bin/false\n", accounts());
    let one = Setup::new().without_user().accounts(&accounts).start();
    let two = Setup::new().without_user().accounts(&accounts).start();
    let [first, second] = [&one, &two].map(|daemon| {
        let uid = u32::try_from(Status::of(daemon.pid()).expect("a status").number("Uid")).expect("a uid");
        assert!((61_186..=65_519).contains(&uid), "it became {uid}");
        assert_runs_as(daemon, uid, uid);
        let log = daemon.log();
        let warning = log.lines().find(|line| line.contains("WARN") && line.contains("no user `memcr`"));
        assert!(warning.is_some_and(|line| line.contains(&uid.to_string())), "no warning: {log}");
        uid
    });
    assert_ne!(first, second, "a number that a process has was taken for an unused one");
}
