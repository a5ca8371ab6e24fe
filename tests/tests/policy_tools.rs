//! `memcr policy check` and `memcr policy test`.

use memcr_tests::binaries;
use memcr_tests::scratch::{Scratch, set_mode};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const POLICY: &str = "version = 1

[[rule]]
name = \"nothing of root's\"
target = { uid = 0 }
actions = ['checkpoint', 'restore']
effect = 'deny'

[[rule]]
name = 'apps'
client = { uid = '1000-1999' }
target = { executable = '/apps/**' }
actions = ['checkpoint', 'restore']
effect = 'allow'
limits = { asleep = 5, size = '1M' }
";

/// Exit status and output of `memcr policy` with these words.
fn policy(words: &[&str], file: &Path) -> (i32, String) {
    let mut command = Command::new(binaries::path("memcr"));
    let output =
        command.arg("policy").arg(words[0]).arg(file).args(&words[1..]).output().expect("cannot run memcr");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().expect("it exits"), text.concat())
}

#[test]
fn check_tells_a_good_file_from_a_bad_one_and_one_that_others_may_write_to() {
    let scratch = Scratch::new();
    let file = scratch.file("good", POLICY);
    let (status, said) = policy(&["check"], &file);
    assert!(status == 0 && said.contains("good, 2 rules"), "{said}");
    let broken = scratch.file("broken", &POLICY.replace("'1000-1999'", "'1999-1000'"));
    let (status, said) = policy(&["check"], &broken);
    assert!(status == 1 && said.contains("line 11, column 18: `1999-1000` is no range"), "{said}");
    set_mode(&file, 0o662);
    let (status, said) = policy(&["check"], &file);
    assert!(status == 1 && said.contains("writable by its owner only"), "{said}");
    let (status, said) = policy(&["check"], Path::new("/nowhere"));
    assert!(status == 1 && said.contains("/nowhere: No such file"), "{said}");
}

#[test]
fn test_tells_which_rule_decides_and_why_the_others_do_not() {
    let scratch = Scratch::new();
    let file = scratch.file("policy", POLICY);
    let ask = |client: &str, target: &str| policy(&["test", "--client", client, "--target", target], &file);
    let (status, said) = ask("uid=1500", "uid=7,executable=/apps/one/bin");
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains(
            "rule \"nothing of root's\" is passed over: its `target.uid` does not match: [7, 7, 7]"
        ),
        "{said}"
    );
    assert!(
        said.contains("checkpoint is allowed by \"apps\", for 5 processes at once, up to 1048576 bytes"),
        "{said}"
    );
    let (status, said) = ask("uid=2000", "uid=7,executable=/apps/one/bin");
    assert!(status == 2 && said.contains("its `client.uid` does not match: 2000"), "{said}");
    assert!(said.contains("checkpoint is denied by \"default: deny\""), "{said}");
    let (status, said) = ask("anonymous", "uid=7");
    assert!(status == 2 && said.contains("`client.anonymous` does not match"), "{said}");
    let (status, said) = ask("colour=red", "uid=7");
    assert!(status == 2 || status == 1, "{said}");
    assert!(said.contains("is no fact"), "{said}");
}

#[test]
fn test_takes_running_processes_and_answers_programs_in_json() {
    let scratch = Scratch::new();
    let file = scratch.file("policy", POLICY);
    let target = Target::start(&cast().target, "sample-memory", &["1"]);
    let words = [
        "test",
        "--json",
        "--action",
        "list",
        "--client",
        &format!("pid:{}", std::process::id()),
        "--target",
        &format!("pid:{}", target.pid()),
    ];
    let (status, said) = policy(&words, &file);
    assert_eq!(status, 2, "{said}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said["allowed"], &said["rule"], &said["action"]),
        (&false.into(), &"default: deny".into(), &"list".into())
    );
    assert_eq!(said["passed_over"][0]["key"], "actions");
}
