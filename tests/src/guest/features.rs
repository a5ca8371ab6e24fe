//! What the kernel has of what memcr uses.

use crate::binaries;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

/// What `memcr --probe` finds, by name.
pub(super) fn features() -> BTreeMap<String, bool> {
    static FEATURES: OnceLock<BTreeMap<String, bool>> = OnceLock::new();
    let probe = || {
        let output = Command::new(binaries::path("memcr")).args(["--probe", "--json"]).output();
        let output = output.expect("cannot run memcr");
        assert!(output.status.success(), "{output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        println!("PROBE page-size {}", found["page_size"]);
        let features = found["features"].as_array().expect("features");
        features.iter().map(said_of).collect::<BTreeMap<_, _>>()
    };
    FEATURES.get_or_init(probe).clone()
}

/// Whether the sandbox can be complete.
pub(super) fn is_complete() -> bool {
    let features = features();
    ["landlock", "seccomp", "open-fdinfo"].iter().all(|name| features[*name])
}

/// Says on the console what is known of a feature, and what is used in its place; gives its name and whether it is there.
fn said_of(feature: &Value) -> (String, bool) {
    let name = feature["feature"].as_str().expect("a name");
    let found = feature["found"].as_bool().expect("yes or no");
    match found {
        true => println!("PROBE {name} yes"),
        false => println!("PROBE {name} no: {}", feature["instead"].as_str().expect("a text")),
    }
    (name.to_owned(), found)
}
