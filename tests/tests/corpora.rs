//! What fuzzing ever found is read as it must be, always: the corpora of tests/fuzz, replayed. Those of broker and worker
//! are replayed by unit tests there.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_input_that_was_ever_found_is_read_as_it_must_be() {
    for (name, _) in fuzz::TARGETS {
        let corpus = fuzz_folder().join("corpus").join(name);
        let inputs = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            std::panic::catch_unwind(|| fuzz::run(name, &bytes))
                .unwrap_or_else(|_| panic!("{}", path.display()));
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}

#[test]
fn every_fuzz_target_has_a_corpus_and_is_in_exactly_one_list_that_is_replayed() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz_folder().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let targets = names("fuzz_targets");
    assert_eq!(targets, names("corpus"));
    let lists = ["src/lib.rs", "../../worker/src/fuzzing.rs", "../../broker/src/fuzzing.rs"]
        .map(|file| fs::read_to_string(fuzz_folder().join(file)).unwrap());
    for target in targets {
        let entry = format!("(\"{target}\", ");
        assert_eq!(lists.iter().map(|list| list.matches(&entry).count()).sum::<usize>(), 1, "{target}");
    }
}
