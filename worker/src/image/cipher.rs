//! Sealing and opening: AES-256-GCM under a key of this image alone.
//!
//! Everything sealed is bound to the header, to its kind and to its number, so that nothing can be
//! taken from another place or another image.

use super::header::{Encryption, Header};
use super::{ImageError, Key, Part};
use ring::aead::{AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// Bytes by which sealing makes anything longer.
pub const TAG_LENGTH: usize = 16;

const PURPOSE: &[u8] = b"memcr image 1 aes-256-gcm";

/// What is sealed; the number in the file is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A frame as it was in memory.
    StoredFrame(u32),
    /// A frame compressed by LZ4.
    Lz4Frame(u32),
    /// The index.
    Index,
    /// The trailer.
    Trailer,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::StoredFrame(_) => 1,
            Self::Lz4Frame(_) => 2,
            Self::Index => 3,
            Self::Trailer => 4,
        }
    }

    /// Both kinds of frame share one sequence of nonces: a number is used for one of them only.
    fn sequence(self) -> u32 {
        match self {
            Self::StoredFrame(_) | Self::Lz4Frame(_) => 0,
            Self::Index => 1,
            Self::Trailer => 2,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::StoredFrame(number) | Self::Lz4Frame(number) => u64::from(number),
            Self::Index | Self::Trailer => 0,
        }
    }

    fn part(self) -> Part {
        match self {
            Self::StoredFrame(number) | Self::Lz4Frame(number) => Part::Frame(number),
            Self::Index => Part::Index,
            Self::Trailer => Part::Trailer,
        }
    }

    fn nonce(self) -> [u8; NONCE_LEN] {
        joined([&self.number().to_le_bytes()[..], &self.sequence().to_le_bytes()])
    }
}

/// The cipher of one image. Threads share it by reference.
pub struct Cipher {
    // boxed: the key schedule stays at one address
    key: Box<LessSafeKey>,
    header_hash: [u8; 32],
}

impl Cipher {
    /// The cipher for the image with this header.
    ///
    /// The key that encrypts is derived from `key` and the header's salt: two images never share
    /// one, even if the same `key` should be used for both.
    ///
    /// # Errors
    /// [`ImageError::Seal`] if the algorithm can't be set up; not seen in practice.
    pub fn new(key: &Key, header: &Header) -> Result<Self, ImageError> {
        let unusable = |_| ImageError::Seal { part: Part::Header };
        let algorithm: &'static Algorithm = match header.encryption() {
            Encryption::Aes256Gcm => &AES_256_GCM,
        };
        let mut derived = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, header.salt())
            .extract(key.bytes())
            .expand(&[PURPOSE], algorithm)
            .and_then(|output| output.fill(derived.as_mut()))
            .map_err(unusable)?;
        let unbound = UnboundKey::new(algorithm, derived.as_ref()).map_err(unusable)?;
        let hash = digest(&SHA256, &header.encode());
        Ok(Self { key: Box::new(LessSafeKey::new(unbound)), header_hash: joined([hash.as_ref()]) })
    }

    /// Address and length of the expanded key, which stays there as long as the cipher lives: for
    /// mlock.
    #[must_use]
    pub fn secret_memory(&self) -> (usize, usize) {
        (std::ptr::from_ref(&*self.key).addr(), size_of::<LessSafeKey>())
    }

    /// Encrypts `body` in place and returns the tag that belongs after it. Nothing may be sealed
    /// twice: the writer, which hands out the numbers, sees to that.
    pub(super) fn seal(&self, kind: Kind, body: &mut [u8]) -> Result<[u8; TAG_LENGTH], ImageError> {
        let nonce = Nonce::assume_unique_for_key(kind.nonce());
        let tag = self.key.seal_in_place_separate_tag(nonce, self.bound_to(kind), body);
        tag.map(|tag| joined([tag.as_ref()])).map_err(|_| ImageError::Seal { part: kind.part() })
    }

    /// Checks and decrypts in place what stands at `offset` of the file, tag at its end.
    pub(super) fn open<'a>(
        &self,
        kind: Kind,
        sealed: &'a mut [u8],
        offset: u64,
    ) -> Result<&'a mut [u8], ImageError> {
        let nonce = Nonce::assume_unique_for_key(kind.nonce());
        let opened = self.key.open_in_place(nonce, self.bound_to(kind), sealed);
        opened.map_err(|_| ImageError::Authentication { part: kind.part(), offset })
    }

    fn bound_to(&self, kind: Kind) -> Aad<[u8; 41]> {
        Aad::from(joined([&self.header_hash[..], &[kind.code()], &kind.number().to_le_bytes()]))
    }
}

/// One array of all these bytes; what may lack is zero.
fn joined<const N: usize, const P: usize>(parts: [&[u8]; P]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::{BootId, Compression, Target};
    use super::*;
    use std::collections::HashSet;

    fn header() -> Header {
        let target = Target { pid: 1234, start_time: 99, boot_id: BootId([3; 16]) };
        Header::new(target, 4096, Compression::Lz4).unwrap()
    }

    fn sealed(cipher: &Cipher, kind: Kind) -> Vec<u8> {
        let mut body = b"the memory of a process".to_vec();
        let tag = cipher.seal(kind, &mut body).unwrap();
        body.extend_from_slice(&tag);
        body
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let cipher = Cipher::new(&Key::random().unwrap(), &header()).unwrap();
        for kind in [Kind::StoredFrame(0), Kind::Lz4Frame(5), Kind::Index, Kind::Trailer] {
            let mut bytes = sealed(&cipher, kind);
            assert_eq!(cipher.open(kind, &mut bytes, 0).unwrap(), b"the memory of a process");
        }
    }

    #[test]
    fn nothing_opens_as_another_kind_or_number() {
        let cipher = Cipher::new(&Key::random().unwrap(), &header()).unwrap();
        let kinds = [
            Kind::StoredFrame(0),
            Kind::StoredFrame(1),
            Kind::Lz4Frame(0),
            Kind::Lz4Frame(1),
            Kind::Index,
            Kind::Trailer,
        ];
        for made in kinds {
            for taken in kinds {
                let mut bytes = sealed(&cipher, made);
                assert_eq!(cipher.open(taken, &mut bytes, 0).is_ok(), made == taken);
            }
        }
    }

    #[test]
    fn nothing_opens_under_another_key_or_header() {
        let (key, header) = (Key::random().unwrap(), header());
        let mut other_target = header.encode();
        other_target[20] ^= 1;
        let mut bytes = sealed(&Cipher::new(&key, &header).unwrap(), Kind::Index);
        for (key, header) in [
            (&key, &self::header()),
            (&key, &Header::decode(&other_target).unwrap()),
            (&Key::random().unwrap(), &header),
        ] {
            let cipher = Cipher::new(key, header).unwrap();
            assert!(cipher.open(Kind::Index, &mut bytes.clone(), 0).is_err());
        }
        assert!(Cipher::new(&key, &header).unwrap().open(Kind::Index, &mut bytes, 0).is_ok());
    }

    #[test]
    fn another_salt_gives_another_key_stream() {
        let key = Key::random().unwrap();
        let one = sealed(&Cipher::new(&key, &header()).unwrap(), Kind::StoredFrame(0));
        let other = sealed(&Cipher::new(&key, &header()).unwrap(), Kind::StoredFrame(0));
        assert_ne!(one[..23], other[..23]);
    }

    #[test]
    fn no_nonce_serves_two_things() {
        let frames = (0..1000).chain(u32::MAX - 1000..=u32::MAX).map(Kind::StoredFrame);
        let kinds: Vec<Kind> = frames.chain([Kind::Index, Kind::Trailer]).collect();
        let nonces: HashSet<_> = kinds.iter().map(|kind| kind.nonce()).collect();
        assert_eq!(nonces.len(), kinds.len());
    }

    #[test]
    fn too_few_bytes_for_a_tag_are_refused() {
        let cipher = Cipher::new(&Key::random().unwrap(), &header()).unwrap();
        for length in 0..TAG_LENGTH {
            assert!(cipher.open(Kind::Index, &mut vec![0; length], 0).is_err());
        }
    }
}
