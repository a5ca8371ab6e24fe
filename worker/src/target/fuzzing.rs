//! Reading texts of /proc in which a target has names, whatever they hold. See `crate::fuzzing`.

use super::mappings;
use super::status::{Stat, Status};
use super::{facts, numbers, orphans, socket_holder};

/// Mappings are ranges with something in them; a text without one is none, and no text makes more mappings than it has
/// lines.
pub(crate) fn smaps(bytes: &[u8]) {
    if let Ok(mappings) = mappings::read_from(bytes) {
        assert!(mappings.len() <= bytes.split(|byte| *byte == b'\n').count());
        for mapping in mappings {
            assert!(mapping.start < mapping.end && mapping.length() > 0);
            // what is the kernel's or a file's is never taken
            assert!(!mapping.is_taken() || !(mapping.is_vdso() || mapping.is_of_file()));
        }
    }
}

/// A status or stat text is read, or it isn't.
pub(crate) fn status(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(status) = Status::parse(&text) {
        assert!(text.contains(status.state));
    }
    if let Some(stat) = Stat::parse(&text) {
        // what stands before the last parenthesis is the program's, and counts for nothing
        let fields = text.rsplit_once(')').map(|(_, fields)| format!("1 (x){fields}"));
        assert_eq!(fields.as_deref().and_then(Stat::parse), Some(stat));
    }
}

/// cgroup, fdinfo, NSpid, Groups.
pub(crate) fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let cgroup = facts::cgroup(&text);
    assert!(cgroup.is_empty() || text.contains(&cgroup));
    assert!(!cgroup.contains('\n'));
    let _ = facts::pid_in(&text);
    let _ = numbers::numbers_in(&text);
    let _ = socket_holder::field(&text, "ino:");
    let _ = socket_holder::groups(&text);
    let _ = orphans::is_userfaultfd(&text);
}
