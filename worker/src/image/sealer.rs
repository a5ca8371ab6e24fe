//! Sealing and opening, under a key of this image alone.
//!
//! Everything sealed is bound to the header by the key, which is derived from it, and to its kind and
//! number by the nonce, so that nothing can be taken from another place or another image.

use super::{Header, ImageError, Key, Part};
use memcr_protocol::image::Cipher;
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// Bytes by which sealing makes anything longer.
pub(crate) const TAG_LENGTH: usize = 16;

const PURPOSE: &[u8] = b"memcr image 2";

/// What is sealed; the number in the file is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A frame as it was in memory.
    StoredFrame(u32),
    /// A frame compressed as the header says.
    CompressedFrame(u32),
    /// The index.
    Index,
    /// The trailer.
    Trailer,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::StoredFrame(_) => 1,
            Self::CompressedFrame(_) => 2,
            Self::Index => 3,
            Self::Trailer => 4,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::StoredFrame(number) | Self::CompressedFrame(number) => u64::from(number),
            Self::Index | Self::Trailer => 0,
        }
    }

    fn part(self) -> Part {
        match self {
            Self::StoredFrame(number) | Self::CompressedFrame(number) => Part::Frame(number),
            Self::Index => Part::Index,
            Self::Trailer => Part::Trailer,
        }
    }

    /// Another one for each kind and number.
    fn nonce(self) -> Nonce {
        Nonce::assume_unique_for_key(self.nonce_bytes())
    }

    fn nonce_bytes(self) -> [u8; NONCE_LEN] {
        joined([&self.number().to_le_bytes()[..], &self.code().to_le_bytes()])
    }
}

/// Seals and opens the parts of one image. Threads share it by reference.
pub(crate) struct Sealer {
    // boxed: the key schedule stays at one address
    key: Box<LessSafeKey>,
    encrypts: bool,
}

impl Sealer {
    /// The sealer for the image with this header.
    ///
    /// Its key is derived from `key` and the whole header: two images never share one, even if the same
    /// `key` should be used for both, and nothing opens under an altered header.
    ///
    /// # Errors
    /// [`ImageError::Seal`] if the algorithm can't be set up; not seen in practice.
    pub(crate) fn new(key: &Key, header: &Header) -> Result<Self, ImageError> {
        let unusable = |_| ImageError::Seal { part: Part::Header };
        let algorithm: &'static Algorithm = match header.cipher() {
            // not to encrypt, but for its tag
            Cipher::None | Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let mut longest = Zeroizing::new([0; 32]);
        let derived = longest.get_mut(..algorithm.key_len()).unwrap_or_default();
        Salt::new(HKDF_SHA256, header.salt())
            .extract(key.bytes())
            .expand(&[PURPOSE, &header.encode()], algorithm)
            .and_then(|output| output.fill(derived))
            .map_err(unusable)?;
        let unbound = UnboundKey::new(algorithm, derived).map_err(unusable)?;
        Ok(Self { key: Box::new(LessSafeKey::new(unbound)), encrypts: header.cipher() != Cipher::None })
    }

    /// Address and length of the expanded key, which stays there as long as the sealer lives: for
    /// mlock.
    #[must_use]
    pub(crate) fn secret_memory(&self) -> (usize, usize) {
        (std::ptr::from_ref(&*self.key).addr(), size_of::<LessSafeKey>())
    }

    /// Encrypts `body` in place, unless the image is in the clear, and returns the tag that belongs after
    /// it. Nothing may be sealed twice, which would give the key away without encryption, too: the writer,
    /// which hands out the numbers, sees to that.
    pub(super) fn seal(&self, kind: Kind, body: &mut [u8]) -> Result<[u8; TAG_LENGTH], ImageError> {
        let tag = if self.encrypts {
            self.key.seal_in_place_separate_tag(kind.nonce(), Aad::empty(), body)
        } else {
            // nothing is encrypted, and what is in the clear is authenticated with it
            self.key.seal_in_place_separate_tag(kind.nonce(), Aad::from(body), &mut [])
        };
        tag.map(|tag| joined([tag.as_ref()])).map_err(|_| ImageError::Seal { part: kind.part() })
    }

    /// Checks and decrypts in place what stands at `offset` of the file, tag at its end.
    pub(super) fn open<'a>(
        &self,
        kind: Kind,
        sealed: &'a mut [u8],
        offset: u64,
    ) -> Result<&'a mut [u8], ImageError> {
        let forged = ImageError::Authentication { part: kind.part(), offset };
        if self.encrypts {
            return self.key.open_in_place(kind.nonce(), Aad::empty(), sealed).map_err(|_| forged);
        }
        let Some((body, tag)) = sealed.split_last_chunk_mut::<TAG_LENGTH>() else { return Err(forged) };
        match self.key.open_in_place(kind.nonce(), Aad::from(&*body), tag) {
            Ok(_) => Ok(body),
            Err(_) => Err(forged),
        }
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
    use super::super::sample::{self, CIPHERS};
    use super::*;
    use memcr_protocol::image::Compression;
    use std::collections::HashSet;

    const KINDS: [Kind; 6] = [
        Kind::StoredFrame(0),
        Kind::StoredFrame(1),
        Kind::CompressedFrame(0),
        Kind::CompressedFrame(1),
        Kind::Index,
        Kind::Trailer,
    ];

    const BODY: &[u8] = b"the memory of a process";

    fn header(cipher: Cipher) -> Header {
        sample::header_of(cipher, Compression::Lz4, false)
    }

    fn sealer(cipher: Cipher) -> Sealer {
        Sealer::new(&Key::random().unwrap(), &header(cipher)).unwrap()
    }

    fn sealed(sealer: &Sealer, kind: Kind) -> Vec<u8> {
        let mut body = BODY.to_vec();
        let tag = sealer.seal(kind, &mut body).unwrap();
        body.extend_from_slice(&tag);
        body
    }

    #[test]
    fn what_was_sealed_opens_again_and_is_in_the_clear_only_without_a_cipher() {
        for cipher in CIPHERS {
            let sealer = sealer(cipher);
            for kind in KINDS {
                let mut bytes = sealed(&sealer, kind);
                assert_eq!(bytes.starts_with(BODY), cipher == Cipher::None);
                assert_eq!(sealer.open(kind, &mut bytes, 0).unwrap(), BODY);
            }
        }
    }

    #[test]
    fn nothing_opens_as_another_kind_or_number() {
        for cipher in CIPHERS {
            let sealer = sealer(cipher);
            for made in KINDS {
                for taken in KINDS {
                    let mut bytes = sealed(&sealer, made);
                    assert_eq!(sealer.open(taken, &mut bytes, 0).is_ok(), made == taken);
                }
            }
        }
    }

    #[test]
    fn nothing_opens_once_a_bit_of_it_is_altered_or_it_is_cut() {
        for cipher in CIPHERS {
            let sealer = sealer(cipher);
            let good = sealed(&sealer, Kind::StoredFrame(7));
            for position in 0..good.len() {
                for bit in 0..8 {
                    let mut bytes = good.clone();
                    bytes[position] ^= 1 << bit;
                    assert!(sealer.open(Kind::StoredFrame(7), &mut bytes, 0).is_err());
                }
                assert!(sealer.open(Kind::StoredFrame(7), &mut good[..position].to_vec(), 0).is_err());
                assert!(sealer.open(Kind::StoredFrame(7), &mut good[position + 1..].to_vec(), 0).is_err());
            }
        }
    }

    #[test]
    fn nothing_opens_under_another_key_or_header() {
        for cipher in CIPHERS {
            let (key, header) = (Key::random().unwrap(), header(cipher));
            let mut bytes = sealed(&Sealer::new(&key, &header).unwrap(), Kind::Index);
            // another cipher, compression, flag, page size, target and salt
            for position in [12, 13, 14, 17, 20, 24, 32, 48, 79] {
                let mut altered = header.encode();
                altered[position] =
                    if position == 12 { (altered[12] + 1) % 4 } else { altered[position] ^ 1 };
                if position == 17 {
                    altered[17] = 8;
                }
                let altered = Header::decode(&altered).unwrap();
                let sealer = Sealer::new(&key, &altered).unwrap();
                assert!(sealer.open(Kind::Index, &mut bytes.clone(), 0).is_err(), "byte {position}");
            }
            let other = Sealer::new(&Key::random().unwrap(), &header).unwrap();
            assert!(other.open(Kind::Index, &mut bytes.clone(), 0).is_err());
            assert!(Sealer::new(&key, &header).unwrap().open(Kind::Index, &mut bytes, 0).is_ok());
        }
    }

    #[test]
    fn a_tag_without_encryption_opens_under_no_cipher_though_all_else_is_the_same() {
        let key = Key::random().unwrap();
        let clear = header(Cipher::None);
        let bytes = sealed(&Sealer::new(&key, &clear).unwrap(), Kind::Index);
        for code in 1..4 {
            let mut altered = clear.encode();
            altered[12] = code;
            let sealer = Sealer::new(&key, &Header::decode(&altered).unwrap()).unwrap();
            assert!(sealer.open(Kind::Index, &mut bytes.clone(), 0).is_err());
        }
    }

    #[test]
    fn another_salt_gives_another_key_stream() {
        let key = Key::random().unwrap();
        for cipher in CIPHERS {
            let [one, other] =
                [(); 2].map(|()| sealed(&Sealer::new(&key, &header(cipher)).unwrap(), Kind::StoredFrame(0)));
            assert_ne!(one[BODY.len()..], other[BODY.len()..]);
            assert_eq!(one[..BODY.len()] == other[..BODY.len()], cipher == Cipher::None);
        }
    }

    #[test]
    fn no_nonce_serves_two_things() {
        let numbers = || (0..1000).chain(u32::MAX - 1000..=u32::MAX);
        let frames = numbers().map(Kind::StoredFrame).chain(numbers().map(Kind::CompressedFrame));
        let kinds: Vec<Kind> = frames.chain([Kind::Index, Kind::Trailer]).collect();
        let nonces: HashSet<_> = kinds.iter().map(|kind| kind.nonce_bytes()).collect();
        assert_eq!(nonces.len(), kinds.len());
    }

    #[test]
    fn too_few_bytes_for_a_tag_are_refused() {
        for cipher in CIPHERS {
            let sealer = sealer(cipher);
            for length in 0..TAG_LENGTH {
                assert!(sealer.open(Kind::Index, &mut vec![0; length], 0).is_err());
            }
        }
    }
}
