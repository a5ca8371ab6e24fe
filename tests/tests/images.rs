//! What happens to a sleeper when the disk is full, or its image is changed behind our back.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::scratch::SmallDisk;
use memcr_tests::tampering::{assert_altered_memory_never_arrives, flip, open_image};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;

#[test]
fn a_full_disk_fails_the_checkpoint_and_leaves_the_target_unharmed() {
    let setup = Setup::new();
    let disk = SmallDisk::at(setup.scratch().directory_of(&cast().daemon, "small"), &cast().daemon, "8m");
    let daemon = setup.images(disk.path()).start();
    let mut target = Target::start(&cast().target, "sample-memory", &["64", "4", "2"]);
    for _ in 0..3 {
        daemon.client().checkpoint(target.pid()).expect_status(4).expect_words(&["no space left"]);
        assert!(target.is_awake());
        target.assert_intact();
        daemon.wait_until_no_image();
    }
    let records = daemon.audit_of(target.pid());
    assert!(
        records.iter().any(|record| record["outcome"] == "failed" && record["code"] == "storage"),
        "{records:?}"
    );
    // what fits is put to sleep all the same
    let mut small = Target::start(&cast().target, "sample-memory", &["4"]);
    daemon.put_to_sleep(&small);
    daemon.client().restore(small.pid()).expect_status(0);
    small.assert_intact();
}

/// Puts a target to sleep, lets `change` have its image, and expects the target to be lost.
fn assert_lost_after(change: impl FnOnce(&std::fs::File, u64)) {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["32", "8", "2"]);
    daemon.put_to_sleep(&target);
    let file = open_image(&daemon, &target);
    change(&file, file.metadata().expect("its size").len());
    daemon.client().restore(target.pid()).expect_status(5).expect_words(&["image"]);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGKILL));
    let records = daemon.audit_of(target.pid());
    let is_lost =
        |record: &serde_json::Value| record["action"] == "restore" && record["code"] == "target-lost";
    assert!(records.iter().any(is_lost), "{records:?}");
    daemon.wait_until_no_image();
    assert!(daemon.client().listed().is_empty());
}

#[test]
fn a_flipped_byte_in_a_frame_kills_the_target_rather_than_reach_it() {
    assert_altered_memory_never_arrives(&Daemon::start());
}

#[test]
fn a_flipped_byte_in_the_header_kills_the_target() {
    assert_lost_after(|file, _| flip(file, 9));
}

#[test]
fn a_flipped_byte_at_the_end_kills_the_target() {
    assert_lost_after(|file, length| flip(file, length - 3));
}

#[test]
fn an_image_cut_short_kills_the_target() {
    assert_lost_after(|file, length| file.set_len(length / 2).expect("root may cut the image"));
}

#[test]
fn an_image_that_belongs_to_another_sleep_is_not_taken() {
    let daemon = Daemon::start();
    let mut targets = [1, 2].map(|seed| {
        let target = Target::start(&cast().target, "sample-memory", &["16", &format!("{seed}")]);
        daemon.put_to_sleep(&target);
        target
    });
    let [one, other] =
        targets.each_ref().map(|target| daemon.images().join(format!("pages-{}.img", target.pid())));
    let foreign = std::fs::read(other).expect("root may read it");
    let file = std::fs::File::options().write(true).truncate(true).open(one).expect("root may open it");
    file.write_all_at(&foreign, 0).expect("root may write it");
    daemon.client().restore(targets[0].pid()).expect_status(5);
    assert_eq!(targets[0].wait_for_end().signal(), Some(libc::SIGKILL));
    daemon.client().restore(targets[1].pid()).expect_status(0);
    targets[1].assert_intact();
}

#[test]
fn a_file_of_that_name_that_a_stranger_made_is_neither_used_nor_followed() {
    let setup = Setup::new();
    let images = setup.scratch().path().join("shared");
    std::fs::create_dir(&images).expect("cannot make a directory");
    memcr_tests::scratch::set_mode(&images, 0o777);
    let victim = setup.scratch().directory_of(&cast().daemon, "victim").join("file");
    std::fs::write(&victim, "precious").expect("cannot write");
    std::os::unix::fs::chown(&victim, Some(cast().daemon.uid), None).expect("cannot chown");
    let daemon = setup.images(&images).start();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let pid = target.pid();
    let link = images.join(format!("pages-{pid}.img"));
    let mut command = cast().stranger.command("ln");
    let status = command.arg("--symbolic").arg(&victim).arg(&link).status();
    assert!(status.is_ok_and(|status| status.success()), "the stranger can't make a link");
    for _ in 0..2 {
        daemon.put_to_sleep(&target);
        let names = daemon.image_names();
        let another = names.iter().find(|name| name.starts_with(&format!("pages-{pid}-")));
        assert!(names.len() == 2 && another.is_some(), "{names:?}");
        assert_eq!(std::fs::read_to_string(&victim).expect("root may read it"), "precious");
        daemon.client().restore(pid).expect_status(0);
        wait::until("its image disappears, and nothing else", || daemon.image_names().len() == 1);
        // the next time it is a file that the stranger can read
        std::fs::remove_file(&link).expect("root may remove it");
        let status = cast().stranger.command("touch").arg(&link).status();
        assert!(status.is_ok_and(|status| status.success()), "the stranger can't make a file");
    }
    assert_eq!(std::fs::metadata(&link).expect("it is left alone").len(), 0);
    target.assert_intact();
}
