//! The key of one image: random, in one place in memory, wiped when dropped.

use super::ImageError;
use memcr_protocol::deposit::KeyBytes;
use ring::rand::{SecureRandom, SystemRandom};

/// A 256-bit image key. No `Debug`, no `Clone`; wiped when dropped.
///
/// Its bytes stay at one address while the key itself is moved about, so that they can be locked
/// into memory (see [`Key::bytes`]).
pub(crate) struct Key(Box<KeyBytes>);

impl Key {
    /// A fresh key from the kernel's random numbers.
    ///
    /// # Errors
    /// [`ImageError::Random`] when the kernel gives none.
    pub(crate) fn random() -> Result<Self, ImageError> {
        let mut key = Self::blank();
        SystemRandom::new().fill(&mut key.0.0).map_err(|_| ImageError::Random)?;
        Ok(key)
    }

    /// The key that was left in a deposit.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the caller's copy is to be wiped")]
    pub(crate) fn from_bytes(bytes: KeyBytes) -> Self {
        let mut key = Self::blank();
        key.0.0.copy_from_slice(&bytes.0);
        key
    }

    /// A copy for the deposit; it wipes itself too.
    #[must_use]
    pub(crate) fn to_deposit(&self) -> KeyBytes {
        KeyBytes(self.0.0)
    }

    /// The bytes, at the address where they stay as long as the key lives: for mlock.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0.0
    }

    fn blank() -> Self {
        Self(Box::new(KeyBytes([0; 32])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_differ() {
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert_ne!(one.bytes(), other.bytes());
        assert_ne!(one.bytes(), &[0; 32]);
    }

    #[test]
    fn a_key_survives_its_deposit() {
        let key = Key::random().unwrap();
        assert_eq!(Key::from_bytes(key.to_deposit()).bytes(), key.bytes());
    }

    #[test]
    fn the_bytes_stay_in_place_when_the_key_moves() {
        let key = Key::random().unwrap();
        let before = key.bytes().as_ptr();
        let moved = Box::new(key);
        assert_eq!(before, moved.bytes().as_ptr());
    }
}
