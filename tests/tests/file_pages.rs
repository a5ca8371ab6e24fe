//! `-f`: clean pages of mapped files are dropped as well, and come back from the files.

use memcr_tests::content;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::Status;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 32 * MIB;

fn sample(scratch: &Scratch) -> Target {
    let mut bytes = vec![0; usize::try_from(SIZE).expect("it fits")];
    content::fill(&mut bytes, 8);
    let path = scratch.path().join("mapped");
    std::fs::write(&path, bytes).expect("cannot write a file");
    memcr_tests::scratch::set_mode(&path, 0o644);
    Target::start(&cast().target, "sample-files", &[&path.to_string_lossy()])
}

fn rss_file(target: &Target) -> u64 {
    let status = Status::of(target.pid()).expect("it is there");
    let kib: u64 =
        status.field("RssFile").split(' ').next().and_then(|kib| kib.parse().ok()).expect("a size");
    kib * 1024
}

#[test]
fn they_are_dropped_with_it_and_changed_pages_are_not() {
    let scratch = Scratch::new();
    let mut target = sample(&scratch);
    let daemon = Setup::new().arguments(&["-f"]).start();
    let before = rss_file(&target);
    assert!(before > SIZE, "{before}");
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(0);
    let asleep = rss_file(&target);
    assert!(asleep < 2 * MIB, "{asleep}");
    assert_eq!(outcome.figure("file_dropped"), before - asleep);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn they_stay_without_it() {
    let scratch = Scratch::new();
    let mut target = sample(&scratch);
    let daemon = Daemon::start();
    let before = rss_file(&target);
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(0);
    assert!(rss_file(&target) > before - MIB);
    assert_eq!(outcome.figure("file_dropped"), 0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}
