//! The programs under test, the C library and the sample targets: built once, and copied to where every user may
//! execute them (the checkout may lie in root's home directory).

use crate::scratch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Packages whose programs are used.
const PACKAGES: [&str; 4] = ["memcr-broker", "memcr-worker", "memcr-client", "memcr-tests"];

/// The C library's file.
pub const LIBRARY: &str = "libmemcrclient.so";

/// Name of a variable: the directory of programs that are there already, where nothing can be built.
pub const PROGRAMS: &str = "MEMCR_TESTS_PROGRAMS";

/// The path of a program of ours, or of [`LIBRARY`], built if need be.
pub fn path(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(path.exists(), "the workspace builds no program {name}");
    path
}

/// The directory that holds all of them; `memcr-worker` lies beside `memcr`.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        if let Some(directory) = std::env::var_os(PROGRAMS) {
            return directory.into();
        }
        let executables = build(&["--bins"]);
        let directory = scratch::root().join(format!("bin-{:016x}", fingerprint(&executables)));
        std::fs::create_dir_all(&directory).expect("cannot make a directory for the programs");
        for executable in &executables {
            install(executable, &directory);
        }
        directory
    })
}

/// The directory of the test builds of `memcr` and `memcr-worker`, under these names, which an attacker is part of.
pub fn drills() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let features = DRILLS.map(|(_, package)| format!("{package}/drill")).join(",");
        let bins = DRILLS.iter().flat_map(|(name, _)| ["--bin", name]);
        let words: Vec<_> = ["--features", &features].into_iter().chain(bins).collect();
        let executables = build(&words);
        let directory = scratch::root().join(format!("drill-{:016x}", fingerprint(&executables)));
        std::fs::create_dir_all(&directory).expect("cannot make a directory for the programs");
        for executable in &executables {
            let built = executable.file_name().expect("a program has a name").to_string_lossy();
            let name = if built == "memcr-drill" { "memcr" } else { "memcr-worker" };
            install_as(executable, &directory, name);
        }
        directory
    })
}

/// Name of a variable: if it is there, every daemon is a test build that has these orders too.
pub const ORDERS: &str = "MEMCR_TESTS_ORDERS";

/// `memcr` of the test builds, below this directory, with an attacker in it who has these orders
/// (tests/drill/src/orders.rs).
pub fn drill_in(directory: &Path, orders: &str) -> PathBuf {
    let directory = directory.join("programs");
    if !directory.exists() {
        std::fs::create_dir(&directory).expect("cannot make a directory");
        for name in ["memcr", "memcr-worker"] {
            std::fs::hard_link(drills().join(name), directory.join(name)).expect("cannot link");
        }
    }
    let always = std::env::var(ORDERS).unwrap_or_default();
    std::fs::write(directory.join("drill"), format!("{always}\n{orders}")).expect("cannot write orders");
    directory.join("memcr")
}

/// The programs of this package's tests, by name.
pub fn tests() -> BTreeMap<String, PathBuf> {
    // of all the workspace, as it was built for whoever runs these tests: by another choice cargo builds much of it anew
    let output = cargo(&["test", "--no-run", "--tests", "--workspace"]);
    let messages = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_slice::<Value>(line).expect("cargo wrote no JSON"));
    let test = |message: Value| {
        let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
        let is_ours = message["target"]["src_path"].as_str()?.starts_with(env!("CARGO_MANIFEST_DIR"));
        let name = message["target"]["name"].as_str().filter(|_| is_test && is_ours)?;
        Some((name.to_owned(), PathBuf::from(message["executable"].as_str()?)))
    };
    messages.filter_map(test).collect()
}

/// Programs of test builds, and their packages.
const DRILLS: [(&str, &str); 2] = [("memcr-drill", "memcr-broker"), ("memcr-worker-drill", "memcr-worker")];

/// Builds programs as these tests were built, optimised or not, which ones is said by `words`; gives their paths.
fn build(words: &[&str]) -> Vec<PathBuf> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let output =
        cargo(&["build"].into_iter().chain(words.iter().copied()).chain(packages).collect::<Vec<_>>());
    let messages = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_slice::<Value>(line).expect("cargo wrote no JSON"));
    messages.flat_map(|message| products(&message)).collect()
}

/// What cargo says, as JSON, of a command that builds something as these tests were built.
fn cargo(words: &[&str]) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).args(["--message-format=json-render-diagnostics", "--quiet"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.stderr(Stdio::inherit()).output().expect("cannot run cargo");
    assert!(output.status.success(), "cargo cannot build the programs under test");
    output.stdout
}

/// What a message of cargo says was built, as far as it is used: a program, or the C library.
fn products(message: &Value) -> Vec<PathBuf> {
    let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let libraries = files.filter(|file| file.ends_with(&format!("/{LIBRARY}")));
    message["executable"].as_str().into_iter().chain(libraries).map(PathBuf::from).collect()
}

/// Another directory for each place that programs are built in.
fn fingerprint(executables: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let program = executables.iter().find(|path| !path.ends_with(LIBRARY));
    program.and_then(|path| path.parent()).hash(&mut hasher);
    hasher.finish()
}

/// Copies a program unless this very version of it is there; a running older one isn't disturbed.
fn install(executable: &Path, directory: &Path) {
    let name = executable.file_name().expect("a program has a name");
    install_as(executable, directory, &name.to_string_lossy());
}

fn install_as(executable: &Path, directory: &Path, name: &str) {
    let installed = directory.join(name);
    let version = |path: &Path| -> Option<(SystemTime, u64)> {
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let wanted = version(executable);
    if version(&installed) == wanted {
        return;
    }
    let fresh = directory.join(format!(".{name}.{}", std::process::id()));
    std::fs::copy(executable, &fresh).expect("cannot copy a program");
    scratch::set_mode(&fresh, 0o755);
    let file = std::fs::File::options().write(true).open(&fresh).expect("cannot open a program");
    file.set_modified(wanted.expect("a built program is there").0).expect("cannot date a program");
    drop(file);
    std::fs::rename(&fresh, &installed).expect("cannot install a program");
}
