//! Names of others as text: of programs, files, cgroups. The kernel has them as bytes, which need not be UTF-8.
//!
//! A byte that is no part of UTF-8 becomes `\x` and two hexadecimal digits in lower case. So that it can be told which bytes a text
//! stands for, a backslash that would be read as the beginning of such an escape becomes `\x5c`. All else stays as it
//! is, also what systemd escapes in names of cgroups (`\x2d`).

use alloc::{format, string::String};

/// The backslash, in hexadecimal digits.
const BACKSLASH: [u8; 2] = *b"5c";

/// These bytes as text.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_valid(&mut text, chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_valid(text: &mut String, mut valid: &str) {
    while let Some(at) = valid.find('\\') {
        let (before, rest) = valid.split_at(at);
        text.push_str(before);
        text.push_str(if reads_as_escape(rest.as_bytes()) { "\\x5c" } else { "\\" });
        valid = rest.get(1..).unwrap_or_default();
    }
    text.push_str(valid);
}

/// Whether these bytes begin as an escape of ours does.
fn reads_as_escape(bytes: &[u8]) -> bool {
    let Some([b'\\', b'x', digits @ ..]) = bytes.first_chunk::<4>() else { return false };
    let [high, low] = *digits;
    let is_high = matches!(high, b'8' | b'9' | b'a'..=b'f');
    let is_digit = matches!(low, b'0'..=b'9' | b'a'..=b'f');
    *digits == BACKSLASH || is_high && is_digit
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// As doc/audit.md says that a text is read.
    fn bytes_of(text: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, after @ ..] = rest {
            if reads_as_escape(rest) {
                let digits = core::str::from_utf8(&rest[2..4]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[4..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        bytes
    }

    #[test]
    fn what_is_no_utf_8_is_shown_byte_by_byte() {
        assert_eq!(of_bytes("/ü\n".as_bytes()), "/ü\n");
        assert_eq!(of_bytes(b"/a\xff\xfeb\xe2\x80"), "/a\\xff\\xfeb\\xe2\\x80");
    }

    #[test]
    fn a_name_that_looks_like_an_escaped_one_is_told_from_it_and_others_stay() {
        for same in ["/system-a\\x2db.slice", "\\", "\\x", "\\x8", "\\xFF", "\\xfg", "\\\\", "C:\\y"] {
            assert_eq!(of_bytes(same.as_bytes()), same);
        }
        assert_eq!(of_bytes(b"/a\\xff"), "/a\\x5cxff");
        assert_eq!(of_bytes(b"\\x5c"), "\\x5cx5c");
        assert_eq!(of_bytes(b"\\\xff"), "\\\\xff");
    }

    proptest! {
        #[test]
        fn every_name_can_be_read_back(bytes in prop::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'5'), Just(b'c'), Just(b'8'), Just(b'f'), any::<u8>()], 0..24)
        ) {
            prop_assert_eq!(bytes_of(&of_bytes(&bytes)), bytes);
        }
    }
}
