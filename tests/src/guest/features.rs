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
        let feature =
            |feature: &Value| Some((feature["feature"].as_str()?.to_owned(), feature["found"].as_bool()?));
        let features: BTreeMap<_, _> =
            found["features"].as_array().expect("features").iter().filter_map(feature).collect();
        println!("PROBE page-size {}", found["page_size"]);
        for (name, found) in &features {
            println!("PROBE {name} {}", if *found { "yes" } else { "no" });
        }
        features
    };
    FEATURES.get_or_init(probe).clone()
}

/// Whether the sandbox can be complete.
pub(super) fn is_complete() -> bool {
    let features = features();
    ["landlock", "seccomp", "open-fdinfo"].iter().all(|name| features[*name])
}
