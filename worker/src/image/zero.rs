//! Finding pages that hold only zeros, which take no bytes in the image.

/// Whether all of `bytes` are zero.
///
/// The slice is compared with itself, moved by one byte: the C library's memcmp does that with the
/// widest registers there are, and stops early at the first difference.
#[must_use]
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    match (bytes.split_first(), bytes.split_last()) {
        (Some((first, tail)), Some((_, head))) => *first == 0 && head == tail,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_zero_only_while_no_byte_of_it_is_set() {
        let mut page = vec![0; 4096];
        assert!(is_zero(&page));
        for position in 0..page.len() {
            page[position] = 1;
            assert!(!is_zero(&page), "byte {position}");
            page[position] = 0;
        }
    }

    #[test]
    fn a_page_of_equal_bytes_is_zero_only_if_they_are() {
        assert!(!is_zero(&[7; 4096]));
        assert!(is_zero(&[]));
        assert!(is_zero(&[0]));
        assert!(!is_zero(&[1]));
    }
}
