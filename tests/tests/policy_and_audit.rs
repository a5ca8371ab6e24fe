//! Invariants 5 and 8: who may do what is decided from the client's own socket, and every request
//! leaves a record.

use memcr_tests::cgroup::{self, NamedCgroup};
use memcr_tests::daemon::{Daemon, Setup, Way};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{procfs, wait};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["4"])
}

/// The last record about this process with this action.
fn last_record(daemon: &Daemon, target: i32, action: &str) -> Value {
    let mut records = daemon.audit_of(target);
    records.retain(|record| record["action"] == action);
    records.pop().unwrap_or_else(|| panic!("no record of a {action} of {target}"))
}

#[test]
fn a_denied_client_gets_nothing_and_is_on_record() {
    let daemon = Setup::new().without_group().start();
    let mut target = sample();
    let before = procfs::Snapshot::of(target.pid());
    // the number of nobody is also what the kernel shows for those that it can't name here
    for (user, rule) in [(&cast().nobody, "client unknown here"), (&cast().stranger, "default: deny")] {
        let client = daemon.client_of(user);
        client.checkpoint(target.pid()).expect_status(2);
        let record = last_record(&daemon, target.pid(), "checkpoint");
        assert_eq!((&record["outcome"], &record["code"]), (&"denied".into(), &"denied".into()));
        assert_eq!(record["client"]["uid"], user.uid);
        assert_eq!(record["rule"], rule);
        client.restore(target.pid()).expect_status(2);
        client.run(&["--status", "-p", &target.pid().to_string()]).expect_status(2);
    }
    let stranger = daemon.client_of(&cast().stranger);
    assert!(stranger.listed().is_empty());
    let nobody = daemon.client_of(&cast().nobody);
    nobody.run(&["--list"]).expect_status(2).expect_words(&["list processes", "client unknown here"]);
    let list = daemon.audit().into_iter().rfind(|record| record["action"] == "list").expect("a record");
    assert_eq!((&list["outcome"], &list["code"]), (&"denied".into(), &"denied".into()));
    // it has a process, which the launcher can look up
    assert!(list["client"]["groups"].is_array() && list["client"]["executable"].is_string(), "{list}");
    before.assert_same(&procfs::Snapshot::of(target.pid()), "after denials");
    target.assert_intact();
}

#[test]
fn a_rule_for_a_program_holds_for_one_that_runs_as_for_one_that_sleeps() {
    let target = sample();
    let program = procfs::executable(target.pid());
    let policy = format!(
        "version = 1\n[[rule]]\nname = \"its program\"\neffect = \"allow\"\nactions = [\"checkpoint\", \"restore\", \
         \"list\", \"status\"]\ntarget = {{ executable = \"{program}\" }}\n"
    );
    let daemon = Setup::new().policy(&policy).start();
    let client = daemon.client();
    assert_eq!(client.state(target.pid()), "running");
    client.restore(target.pid()).expect_status(3).expect_words(&["not asleep"]);
    let record = last_record(&daemon, target.pid(), "restore");
    assert_eq!((&record["rule"], &record["target"]["executable"]), (&"its program".into(), &program.into()));
    daemon.put_to_sleep(&target);
    assert_eq!(client.state(target.pid()), "asleep");
    client.restore(target.pid()).expect_status(0);
    // another program is none of this client's business, running or not
    let other = std::process::id().to_string();
    client.run(&["--status", "-p", &other]).expect_status(2).expect_words(&["default: deny"]);
}

#[test]
fn a_denied_client_never_stops_the_target_whether_broker_or_worker_denies_it() {
    let daemon = Setup::new().without_group().start();
    let target = sample();
    let pid = target.pid();
    let has_come_to_rest = || procfs::Status::of(pid).is_some_and(|status| status.state() == 'S');
    wait::until("it waits to be asked", has_come_to_rest);
    let before = procfs::context_switches(pid);
    // the kernel shows nobody as it shows whom it can't name: the broker denies it without a worker
    for (user, is_for_worker) in [(&cast().nobody, false), (&cast().stranger, true)] {
        for _ in 0..20 {
            daemon.client_of(user).checkpoint(pid).expect_status(2);
        }
        assert_eq!(procfs::context_switches(pid), before, "it was stopped for {}", user.name);
        let record = last_record(&daemon, pid, "checkpoint");
        assert_eq!(record["target"]["start_time"].is_u64(), is_for_worker, "{record}");
        assert_eq!(record["sandbox"], Value::Null, "{record}");
    }
    // it would have shown
    daemon.client_of(&cast().root).checkpoint(pid).expect_status(0);
    daemon.client_of(&cast().root).restore(pid).expect_status(0);
    wait::until("it waits again", has_come_to_rest);
    assert!(procfs::context_switches(pid) > before, "a stop can't be seen this way");
}

#[test]
fn a_denied_client_neither_sees_nor_wakes_a_sleeper_of_another() {
    let daemon = Setup::new().without_group().start();
    let mut target = sample();
    let owner = daemon.client_of(&cast().target);
    owner.checkpoint(target.pid()).expect_status(0);
    let stranger = daemon.client_of(&cast().stranger);
    assert!(stranger.listed().is_empty());
    stranger.restore(target.pid()).expect_status(2);
    stranger.run(&["--status", "-p", &target.pid().to_string()]).expect_status(2);
    assert!(procfs::tracer(target.pid()).is_some(), "a stranger woke it");
    assert_eq!(last_record(&daemon, target.pid(), "restore")["outcome"], "denied");
    assert_eq!(owner.listed(), [i64::from(target.pid())]);
    owner.restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn the_socket_of_a_group_is_closed_to_others() {
    let daemon = Daemon::start();
    let socket = std::fs::metadata(daemon.socket()).expect("a socket");
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, cast().socket_group));
    let target = sample();
    daemon
        .client_of(&cast().stranger)
        .checkpoint(target.pid())
        .expect_status(4)
        .expect_words(&["cannot connect"]);
}

#[test]
fn members_of_the_group_may_not_touch_what_is_roots() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().root, "sample-memory", &["4"]);
    daemon.client().checkpoint(target.pid()).expect_status(2);
    daemon.client_of(&cast().root).checkpoint(target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(2);
    daemon.client_of(&cast().root).restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_policy_file_replaces_the_built_in_rules() {
    let client = cast().client.name;
    let policy = format!(
        "version = 1\n\n[[rule]]\nname = \"only the sample\"\nclient = {{ user = \"{client}\" }}\n\
         target = {{ executable = \"/**/sample-memory\" }}\nactions = [\"checkpoint\", \"restore\", \"list\", \"status\"]\n\
         effect = \"allow\"\n"
    );
    let daemon = Setup::new().policy(&policy).start();
    let mut target = sample();
    daemon.put_to_sleep(&target);
    assert_eq!(last_record(&daemon, target.pid(), "checkpoint")["rule"], "only the sample");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    let other = Target::start(&cast().target, "sample-state", &["plain"]);
    daemon.client().checkpoint(other.pid()).expect_status(2);
    daemon.client_of(&cast().root).checkpoint(target.pid()).expect_status(2);
}

#[test]
fn a_rule_for_a_cgroup_is_for_the_processes_in_it_only() {
    let [inside, outside] = ["policy-in", "policy-out"].map(NamedCgroup::new);
    let mut targets = [sample(), sample()];
    inside.add(targets[0].pid());
    outside.add(targets[1].pid());
    let paths = targets.each_ref().map(|target| cgroup::path_of(target.pid()));
    let policy = "version = 1\n\n[[rule]]\nname = \"in the cgroup\"\n\
         target = { cgroup = '/**/memcr-tests-*-policy-in' }\nactions = [\"checkpoint\", \"restore\"]\n\
         effect = \"allow\"\n";
    let daemon = Setup::new().policy(policy).start();
    daemon.put_to_sleep(&targets[0]);
    daemon.client().restore(targets[0].pid()).expect_status(0);
    for user in [&cast().client, &cast().root] {
        daemon.client_of(user).checkpoint(targets[1].pid()).expect_status(2);
    }
    for (target, path, rule) in
        [(&targets[0], &paths[0], "in the cgroup"), (&targets[1], &paths[1], "default: deny")]
    {
        let record = last_record(&daemon, target.pid(), "checkpoint");
        assert_eq!((&record["rule"], &record["target"]["cgroup"]), (&rule.into(), &path.clone().into()));
    }
    inside.remove(targets[0].pid());
    daemon.client().checkpoint(targets[0].pid()).expect_status(2);
    targets.iter_mut().for_each(Target::assert_intact);
}

#[test]
fn a_wrong_policy_file_keeps_the_daemon_from_starting_and_says_where_it_is_wrong() {
    let rule = "version = 1\n[[rule]]\nname = \"a\"\nactions = [\"checkpoint\"]\neffect = \"allow\"\n";
    for (text, line, word) in [
        (format!("{rule}colour = \"red\"\n"), 6, "colour"),
        (rule.replace("\"allow\"", "\"perhaps\""), 5, "perhaps"),
        (format!("{rule}client = {{ user = \"memcr-no-such-user\" }}\n"), 6, "memcr-no-such-user"),
        (rule.replace("\"checkpoint\"", "\"check\""), 4, "check"),
        ("version = 1\n[[rule\n".to_owned(), 2, ""),
    ] {
        let (status, said) = Setup::new().policy(&text).start_and_fail();
        assert_eq!(status, 1, "{said}");
        assert!(
            said.contains("policy.toml") && said.contains(&format!("line {line}")) && said.contains(word),
            "{said}"
        );
    }
}

#[test]
fn the_record_of_a_request_is_complete() {
    let daemon = Daemon::start();
    // the cgroup outlives the target, or it couldn't be removed
    let cgroup = NamedCgroup::new("record");
    let target = sample();
    cgroup.add(target.pid());
    let report = daemon.client().checkpoint(target.pid()).expect_status(0);
    let record = last_record(&daemon, target.pid(), "checkpoint");
    let (client, client_groups) = (&record["client"], vec![cast().socket_group]);
    assert_eq!(record["schema"], 1);
    assert!(record["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{record}");
    assert!(record["request"].as_u64().is_some_and(|number| number > 0), "{record}");
    assert_eq!((&client["uid"], &client["gid"]), (&cast().client.uid.into(), &cast().client.gid.into()));
    let groups = client["groups"].as_array().expect("groups").iter().filter_map(Value::as_u64);
    assert!(groups.map(|group| group as u32).any(|group| client_groups.contains(&group)), "{record}");
    assert!(client["pid"].as_i64().is_some_and(|pid| pid > 1), "{record}");
    assert!(client["executable"].as_str().is_some_and(|path| path.ends_with("/memcr-client")), "{record}");
    let about = &record["target"];
    assert_eq!(about["pid"], target.pid());
    assert_eq!(about["start_time"].as_u64(), procfs::start_time(target.pid()));
    assert_eq!(about["uid"], cast().target.uid);
    assert!(about["executable"].as_str().is_some_and(|path| path.ends_with("/sample-memory")), "{record}");
    assert_eq!(about["cgroup"], cgroup::path_of(target.pid()));
    assert_eq!((&record["outcome"], &record["rule"]), (&"ok".into(), &"built-in: listen group".into()));
    assert_eq!(record["bytes"].as_u64(), Some(report.figure("dumped")));
    assert_eq!(record["pages"].as_u64(), Some(report.figure("pages")));
    assert_eq!(record["image_bytes"].as_u64(), Some(report.figure("image")));
    for member in ["seccomp", "capabilities_empty", "landlock_full"] {
        assert_eq!(record["sandbox"][member], true, "{member}: {record}");
    }
    assert!(record["sandbox"]["landlock_abi"].as_u64().is_some_and(|abi| abi >= 1), "{record}");
    assert_eq!(record["guard"], "full");
    for time in ["total_micros", "attach_micros", "dump_micros", "free_micros"] {
        assert!(record["times"][time].as_u64().is_some(), "no {time}: {record}");
    }
    daemon.client().restore(target.pid()).expect_status(0);
    let record = last_record(&daemon, target.pid(), "restore");
    assert!(record["outcome"] == "ok" && record["times"]["restore_micros"].as_u64().is_some(), "{record}");
}

#[test]
fn start_stop_list_status_and_failures_are_on_record_too() {
    let mut daemon = Daemon::start();
    let target = sample();
    daemon.client().listed();
    daemon.client().state(target.pid());
    daemon.client().restore(target.pid()).expect_status(3);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for_end();
    let records = daemon.audit();
    assert_eq!(records.first().map(|record| &record["event"]), Some(&"start".into()));
    assert_eq!(records.last().map(|record| &record["event"]), Some(&"stop".into()));
    for (action, outcome) in [("list", "ok"), ("status", "ok"), ("restore", "failed")] {
        let is_it = |record: &Value| record["action"] == action && record["outcome"] == outcome;
        assert!(records.iter().any(is_it), "no {action} that is {outcome}");
    }
}

#[test]
fn what_the_program_itself_protects_stays_resident() {
    let daemon = Daemon::start();
    let target = Target::start(&cast().target, "sample-zoo", &[]);
    let addresses = ["locked", "secret"]
        .map(|name| u64::from_str_radix(target.fact(name).trim_start_matches("0x"), 16).expect("an address"));
    daemon.put_to_sleep(&target);
    for address in addresses {
        assert!(procfs::resident_at(target.pid(), address) >= 256 * 1024, "{address:#x} was taken away");
    }
    daemon.client().restore(target.pid()).expect_status(0);
}

#[test]
fn a_client_that_breaks_the_protocol_before_it_is_named_has_no_groups_on_record() {
    use std::io::{Read, Write};
    let daemon = Daemon::start();
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).expect("root may connect");
    stream.write_all(&u32::MAX.to_le_bytes()).expect("the daemon listens");
    stream.read_to_end(&mut Vec::new()).expect("the daemon closes the connection");
    let records = daemon.audit();
    let record = records.iter().rfind(|record| record["event"] == "protocol-violation").expect("a record");
    assert_eq!(record["client"]["uid"], 0);
    assert!(record["client"]["groups"].is_null(), "{record}");
}

#[test]
fn a_memcr_with_file_capabilities_takes_no_policy_from_whoever_starts_it() {
    let setup = Setup::new().way(Way::FileCapability);
    let own = setup.scratch().directory_of(&cast().daemon, "own").join("policy.toml");
    std::fs::write(&own, "version = 1\n").expect("cannot write a file");
    memcr_tests::scratch::set_mode(&own, 0o644);
    std::os::unix::fs::chown(&own, Some(cast().daemon.uid), None).expect("cannot chown");
    let (status, said) = setup.arguments(&["--policy", &own.to_string_lossy()]).start_and_fail();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("--policy") && said.contains("must belong to root or to user 0"), "{said}");
    // without the capabilities it is the caller's own affair
    Setup::new().way(Way::FileCapability).policy("version = 1\n").start();
    let setup = Setup::new().way(Way::Ambient).arguments(&["--policy", "/dev/null"]);
    let (_, said) = setup.start_and_fail();
    assert!(said.contains("policy file /dev/null (--policy)"), "{said}");
}

#[test]
fn the_kernel_names_root_on_no_socket_of_the_daemon() {
    let daemon = Daemon::start();
    let client = std::os::unix::net::UnixStream::connect(daemon.socket()).expect("root may connect");
    assert_eq!(procfs::peer_uid(&client), cast().daemon.uid);
    // both ends of the job channel: the launcher's descriptor 3, and whatever the broker has
    let jobs = procfs::descriptor_of(daemon.launcher(), 3);
    assert_eq!(procfs::peer_uid(&jobs), cast().daemon.uid);
    for number in procfs::descriptors(daemon.pid()) {
        let descriptor = procfs::descriptor_of(daemon.pid(), number);
        if let Some(uid) = procfs::peer_uid_of_socket(&descriptor) {
            // the connection that this test made, which the daemon has accepted, is root's
            let ours = procfs::peer_pid(&descriptor) == std::process::id();
            assert!(ours || uid != 0, "descriptor {number} names root");
        }
    }
}
