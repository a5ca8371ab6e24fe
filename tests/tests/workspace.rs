//! What depends on what: the boundaries between the crates are those between the privileges.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn metadata() -> Value {
    run_metadata(&["--no-deps"])
}

fn run_metadata(words: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1"]).args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cannot run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// The target that this machine builds for.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("cannot run rustc");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
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
        ("memcr-filter", BTreeSet::new()),
        ("memcr-parasite", BTreeSet::from(["memcr-protocol"])),
        // the parasite is in the worker as bytes, which its build script makes
        // the attacker's code, in test builds only (escape.rs)
        ("memcr-drill", BTreeSet::new()),
        ("memcr-worker", BTreeSet::from(["memcr-drill", "memcr-filter", "memcr-policy", "memcr-protocol"])),
        ("memcr-broker", BTreeSet::from(["memcr-drill", "memcr-filter", "memcr-policy", "memcr-protocol"])),
        ("memcr-client", BTreeSet::from(["memcr-protocol"])),
        ("memcr-tests", BTreeSet::from(["memcr-client", "memcr-drill", "memcr-policy", "memcr-protocol"])),
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
    let rows = listed.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: BTreeMap<_, _> = rows.map(|(name, what)| (name, what.trim_end_matches('|').trim())).collect();
    let missing: Vec<_> =
        names.iter().filter(|name| rows.get(*name).is_none_or(|what| what.is_empty())).collect();
    assert!(missing.is_empty(), "not in doc/dependencies.md: {missing:?}");
    let gone: Vec<_> = rows.keys().filter(|name| !names.contains(*name)).collect();
    assert!(gone.is_empty(), "in doc/dependencies.md only: {gone:?}");
}

/// A line of a source file outside of the `arch` modules, without comments and without tests.
struct Line {
    file: String,
    number: usize,
    text: String,
}

impl Line {
    /// Its words: letters, digits and underscores in a row.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
    }
}

/// What runs on every architecture: the sources of the programs outside of `arch`.
fn portable_lines() -> Vec<Line> {
    lines_of(&["broker", "worker", "parasite", "protocol/filter"], 80)
}

/// The lines of these packages, which have more source files than `least`.
fn lines_of(packages: &[&str], least: usize) -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    for package in packages {
        sources(&root.join(package), &mut files);
    }
    assert!(files.len() > least, "only {} source files were found", files.len());
    let mut lines = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a source file");
        // tests come last
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let file = path.strip_prefix(root).expect("within").to_string_lossy().into_owned();
        lines.extend(code.lines().enumerate().map(|(index, line)| {
            let text = line.split("//").next().unwrap_or_default().to_owned();
            Line { file: file.clone(), number: index + 1, text }
        }));
    }
    lines
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "arch" {
            sources(&path, into);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

/// Expects that nothing was found but what is allowed.
#[track_caller]
fn assert_only(found: &[(&Line, &str)], allowed: &[(&str, &str)]) {
    let is_allowed = |line: &Line, word: &str| allowed.contains(&(line.file.as_str(), word));
    let wrong: Vec<_> = found.iter().filter(|(line, word)| !is_allowed(line, word)).collect();
    let wrong: Vec<_> =
        wrong.into_iter().map(|(line, word)| format!("{}:{}: {word}", line.file, line.number)).collect();
    assert!(wrong.is_empty(), "belongs into an arch module:\n{}", wrong.join("\n"));
}

#[test]
fn registers_instructions_and_names_of_architectures_are_in_arch_modules_only() {
    const NAMES: [&str; 37] = [
        "rax",
        "rbx",
        "rcx",
        "rdx",
        "rsi",
        "rdi",
        "rbp",
        "rsp",
        "rip",
        "eax",
        "ebx",
        "ecx",
        "edx",
        "eip",
        "esp",
        "orig_rax",
        "eflags",
        "rflags",
        "fs_base",
        "gs_base",
        "xmm0",
        "ymm0",
        "mxcsr",
        "pstate",
        "cpsr",
        "uregs",
        "user_regs_struct",
        "user_regs",
        "asm",
        "global_asm",
        "naked_asm",
        "target_arch",
        "x86_64",
        "aarch64",
        "arm",
        "armv7",
        "riscv64",
    ];
    let lines = portable_lines();
    let found: Vec<_> = lines
        .iter()
        .flat_map(|line| line.words().map(move |word| (line, word)))
        .filter(|(_, word)| NAMES.contains(word))
        .collect();
    assert_only(&found, &[]);
}

#[test]
fn no_package_is_compiled_otherwise_for_an_architecture_outside_of_arch_modules() {
    let lines = lines_of(&["broker", "worker", "parasite", "protocol", "policy", "client", "tests"], 200);
    let found: Vec<_> = lines
        .iter()
        .flat_map(|line| line.words().map(move |word| (line, word)))
        .filter(|(_, word)| *word == "target_arch")
        .collect();
    // the words that these tests look for
    assert_only(&found, &[("tests/tests/workspace.rs", "target_arch")]);
}

#[test]
fn system_calls_named_outside_of_arch_modules_are_on_every_architecture() {
    let lines = portable_lines();
    let used = lines.iter().flat_map(|line| line.words().map(move |word| (line, word)));
    let used: Vec<_> = used.filter(|(_, word)| word.starts_with("SYS_") && word.len() > 4).collect();
    assert!(!used.is_empty(), "no system call was found");
    let known = system_calls_of_every_architecture();
    let found: Vec<_> = used.into_iter().filter(|(_, word)| !known.contains(*word)).collect();
    assert_only(&found, &[]);
}

/// Names that the libc of this workspace has for x86-64, aarch64, armv7 and riscv64 alike.
fn system_calls_of_every_architecture() -> BTreeSet<String> {
    // what other systems need was perhaps never fetched
    let ours = format!("--filter-platform={}", host());
    let metadata = run_metadata(&["--locked", "--offline", &ours]);
    let mut packages = metadata["packages"].as_array().expect("packages").iter();
    let libc = packages.find(|package| package["name"] == "libc").expect("libc is used");
    let manifest = Path::new(libc["manifest_path"].as_str().expect("a path"));
    let gnu = manifest.parent().expect("a directory").join("src/unix/linux_like/linux/gnu");
    let sets =
        ["b64/x86_64/not_x32.rs", "b64/aarch64/mod.rs", "b32/arm/mod.rs", "b64/riscv64/mod.rs"].map(|file| {
            let text =
                std::fs::read_to_string(gnu.join(file)).expect("libc lists the calls of each architecture");
            let names =
                text.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(':'));
            names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name.starts_with("SYS_"))
                .collect::<BTreeSet<_>>()
        });
    assert!(sets.iter().all(|set| set.len() > 250), "libc lists its calls in another way");
    sets.into_iter().reduce(|all, set| &all & &set).expect("four sets")
}

#[test]
fn no_page_size_is_written_down_outside_of_arch_modules() {
    let lines = portable_lines();
    let is_size = |word: &str| {
        let number = word.replace('_', "");
        let number = number.trim_end_matches("usize").trim_end_matches("u64");
        matches!(number, "4096" | "0x1000" | "4095" | "0xfff")
    };
    let found: Vec<_> = lines
        .iter()
        .flat_map(|line| line.words().map(move |word| (line, word)))
        .filter(|(_, word)| is_size(word))
        .collect();
    let allowed = [
        ("broker/src/one_shot.rs", "4096"),          // a buffer
        ("protocol/filter/src/assemble.rs", "4096"), // longest program of a filter
        ("broker/src/standard_error.rs", "4096"),    // PIPE_BUF
        ("worker/src/trace/place.rs", "4096"),       // room beside a signal frame
        ("worker/src/sys/memory.rs", "4096"),        // where the kernel doesn't tell its own
    ];
    assert_only(&found, &allowed);
}

#[test]
fn unsafe_code_is_in_the_c_interface_only_of_the_crates_that_need_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for file in [
        "protocol/src/lib.rs",
        "policy/src/lib.rs",
        "protocol/filter/src/lib.rs",
        "client/src/main.rs",
        "client/build.rs",
    ] {
        let text = std::fs::read_to_string(root.join(file)).expect("a crate");
        assert!(text.contains("\n#![forbid(unsafe_code)]\n"), "{file} doesn't forbid it");
    }
    // the library can't forbid what the files of its C interface allow
    let text = std::fs::read_to_string(root.join("client/src/lib.rs")).expect("a crate");
    assert!(text.contains("\n#![deny(unsafe_code)]\n"), "client/src/lib.rs doesn't deny it");
    let lines = lines_of(&["client/src"], 15);
    let files = |found: fn(&Line) -> bool| -> BTreeSet<_> {
        lines.iter().filter(|line| found(line)).map(|line| line.file.as_str()).collect()
    };
    let c_interface =
        ["original.rs", "ours.rs", "pointers.rs"].map(|file| format!("client/src/c_interface/{file}"));
    let c_interface = c_interface.iter().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(files(|line| line.words().any(|word| word == "unsafe")), c_interface);
    assert_eq!(files(|line| line.text.contains("allow(unsafe_code")), c_interface);
}

#[test]
fn every_test_that_the_specification_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let texts = ["specification.md", "past-cves.md", "threat-model.md"]
        .map(|name| std::fs::read_to_string(root.join("doc").join(name)).expect("it is there"));
    let text = texts.concat();
    // between backticks, every second piece is a name
    let lines = text.lines().map(|line| line.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    let lines: Vec<_> = lines.collect();
    let pairs = lines.iter().flat_map(|names| names.windows(2)).filter(|pair| pair[0].ends_with(".rs"));
    let mut count = 0;
    let mut missing = Vec::new();
    for pair in pairs {
        let (file, function) = (pair[0], pair[1]);
        let path = if file.contains('/') { file.to_owned() } else { format!("tests/tests/{file}") };
        let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        count += 1;
        if !source.contains(&format!("fn {function}(")) {
            missing.push(format!("{file} {function}"));
        }
    }
    assert!(count > 200, "only {count} tests are named, or they are named in another way");
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn the_recipe_for_yocto_fetches_the_crates_of_the_lock_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let yocto = root.join("doc/deploy/yocto");
    let checked = Command::new(yocto.join("update-crates")).arg("--check").output().expect("cannot run it");
    assert!(checked.status.success(), "{checked:?}");
    let recipe = std::fs::read_to_string(yocto.join("memcr.bb")).expect("the recipe");
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let output = Command::new("md5sum").arg(root.join(licence)).output().expect("cannot run md5sum");
        let sum = String::from_utf8_lossy(&output.stdout).split(' ').next().expect("a sum").to_owned();
        assert!(recipe.contains(&format!("file://{licence};md5={sum}")), "{licence} has the sum {sum}");
    }
}

#[test]
fn the_document_of_platforms_has_the_table_of_the_guests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let output = Command::new(root.join("tests/guests/table")).output().expect("cannot run it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = std::fs::read_to_string(root.join("doc/platforms.md")).expect("the document");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        document.contains(table.as_ref()),
        "doc/platforms.md does not have what tests/guests/table prints:\n{table}"
    );
}
