//! What depends on what: the boundaries between the crates are those between the privileges.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cannot run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

#[test]
fn crates_depend_on_each_other_only_as_the_architecture_allows() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let mut found = BTreeMap::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let ours = dependencies.filter(|dependency| dependency["path"].is_string());
        let names: BTreeSet<_> =
            ours.map(|dependency| dependency["name"].as_str().expect("a name")).collect();
        found.insert(package["name"].as_str().expect("a name"), names);
    }
    let allowed = BTreeMap::from([
        ("memcr-protocol", BTreeSet::new()),
        ("memcr-policy", BTreeSet::from(["memcr-protocol"])),
        ("memcr-parasite", BTreeSet::from(["memcr-protocol"])),
        // the parasite is in the worker as bytes, which its build script makes
        ("memcr-worker", BTreeSet::from(["memcr-policy", "memcr-protocol"])),
        ("memcr-broker", BTreeSet::from(["memcr-policy", "memcr-protocol"])),
        ("memcr-client", BTreeSet::from(["memcr-protocol"])),
        ("memcr-tests", BTreeSet::from(["memcr-client", "memcr-protocol"])),
    ]);
    assert_eq!(found, allowed);
}

#[test]
fn every_outside_dependency_is_listed_with_what_it_is_for() {
    let listed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../doc/dependencies.md"));
    let listed = listed.expect("doc/dependencies.md is there");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let all = packages.flat_map(|package| package["dependencies"].as_array().expect("dependencies"));
    let outside = all.filter(|dependency| !dependency["path"].is_string());
    let names: BTreeSet<_> = outside.map(|dependency| dependency["name"].as_str().expect("a name")).collect();
    let missing: Vec<_> = names.into_iter().filter(|name| !listed.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in doc/dependencies.md: {missing:?}");
}
