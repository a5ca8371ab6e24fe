//! Taking fields and variable-length numbers out of bytes, and putting numbers in.

/// Longest variable-length number, in bytes: 64 bits, 7 to a byte.
const NUMBER_LIMIT: usize = 10;

/// Takes fields from the front of a byte string.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0 }
    }

    /// The next `N` bytes, or `None` if there are fewer.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.position += N;
        Some(*field)
    }

    /// The next variable-length number, or `None` if it is cut off, longer than 64 bits, or longer
    /// than it need be.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for count in 0..NUMBER_LIMIT {
            let [byte] = self.take()?;
            let low = u64::from(byte & 0x7f);
            let shifted = low.checked_shl(u32::try_from(count * 7).ok()?)?;
            if shifted >> (count * 7) != low {
                return None;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return (byte != 0 || count == 0).then_some(value);
            }
        }
        None
    }

    /// Bytes taken so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

/// Appends a variable-length number: 7 bits a byte, the lowest first, the top bit set on all bytes
/// but the last.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_that_is_cut_off_too_large_or_padded_is_refused() {
        assert_eq!(Fields::new(&[]).number(), None);
        assert_eq!(Fields::new(&[0x80]).number(), None);
        assert_eq!(Fields::new(&[0x81, 0x00]).number(), None);
        assert_eq!(Fields::new(&[0xff; 11]).number(), None);
        let mut largest = [0xff; 10];
        largest[9] = 0x01;
        assert_eq!(Fields::new(&largest).number(), Some(u64::MAX));
        largest[9] = 0x02;
        assert_eq!(Fields::new(&largest).number(), None);
    }

    #[test]
    fn a_field_that_is_cut_off_is_refused_and_takes_nothing() {
        let mut fields = Fields::new(&[1, 2, 3]);
        assert_eq!(fields.take::<4>(), None);
        assert_eq!((fields.take(), fields.position(), fields.left()), (Some([1, 2]), 2, 1));
    }

    proptest! {
        #[test]
        fn numbers_survive_encoding(values in proptest::collection::vec(any::<u64>(), 0..50), shift in 0_u32..64) {
            let mut bytes = Vec::new();
            for value in &values {
                put_number(&mut bytes, value >> shift);
            }
            let mut fields = Fields::new(&bytes);
            for value in &values {
                prop_assert_eq!(fields.number(), Some(value >> shift));
            }
            prop_assert_eq!(fields.left(), 0);
        }

        #[test]
        fn every_number_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut fields = Fields::new(&bytes);
            if let Some(value) = fields.number() {
                let mut again = Vec::new();
                put_number(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..fields.position()]);
            }
        }
    }
}
