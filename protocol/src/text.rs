//! Names of others as text: of programs, files, cgroups. The kernel has them as bytes, which need not be UTF-8.

use alloc::{format, string::String};

/// These bytes as text: what is no UTF-8 becomes `\x` and two hexadecimal digits for each byte.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::of_bytes;

    #[test]
    fn what_is_no_utf_8_is_shown_byte_by_byte() {
        assert_eq!(of_bytes("/ü\n".as_bytes()), "/ü\n");
        assert_eq!(of_bytes(b"/a\xff\xfeb\xe2\x80"), "/a\\xff\\xfeb\\xe2\\x80");
    }
}
