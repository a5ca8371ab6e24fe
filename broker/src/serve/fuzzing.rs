//! Reading what a client says, and /proc texts, whatever they hold. See `crate::fuzzing`.

use super::input::{Input, Said};
use super::process;

/// Requests in one stream of bytes at most.
const ENOUGH: usize = 64;

/// What a client says means the same however its bytes are cut; of the original's clients two commands are taken.
pub(crate) fn client_stream(bytes: &[u8]) {
    let whole = said(bytes, bytes.len().max(1));
    for step in [1, 3, 7] {
        assert_eq!(said(bytes, step), whole);
    }
    let commands = whole.0.iter().filter(|said| matches!(said, Said::Legacy(..))).count();
    assert!(commands <= 2 && (commands == 0 || commands == whole.0.len()));
}

/// All that is said, and whether it ends in a violation.
fn said(bytes: &[u8], step: usize) -> (Vec<Said>, bool) {
    let mut input = Input::new();
    let mut all = Vec::new();
    for piece in bytes.chunks(step) {
        input.push(piece);
        while all.len() < ENOUGH {
            match input.next() {
                Ok(Some(said)) => all.push(said),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    // what is left is looked at when the client has hung up
    let is_cut = all.len() < ENOUGH && input.end().is_some();
    (all, is_cut)
}

/// Texts of /proc are read, or they aren't.
pub(crate) fn public_facts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    process::read_everything(&text);
}
