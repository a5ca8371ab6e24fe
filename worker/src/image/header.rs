//! The header: which format, which algorithms, whose memory. In the clear, and yet
//! authenticated with everything that follows it: the key is derived from it.

use super::encoding::Fields;
use super::{FRAME_LIMIT, ImageError};
use memcr_protocol::image::{Cipher, Compression, ImageSettings};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of the header.
pub(crate) const HEADER_LENGTH: usize = 80;

const MAGIC: [u8; 8] = *b"memcrimg";
const VERSION: u16 = 2;
const SMALLEST_PAGE: usize = 1024;

/// The kernel's random name of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootId(pub(crate) [u8; 16]);

impl BootId {
    /// From the text of /proc/sys/kernel/random/boot_id; `None` if that is no UUID.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut digits = text.trim_end().chars().filter(|character| *character != '-');
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let high = digits.next()?.to_digit(16)?;
            let low = digits.next()?.to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

/// The process whose memory an image holds; these three name one process for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Process id in our pid namespace.
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot.
    pub(crate) start_time: u64,
    /// The boot in which it runs.
    pub(crate) boot_id: BootId,
}

/// What stands at the beginning of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    settings: ImageSettings,
    compression: Compression,
    page_size: u32,
    target: Target,
    salt: [u8; 32],
}

impl Header {
    /// A header with a fresh salt. `page_size` is in bytes.
    ///
    /// # Errors
    /// [`ImageError::PageSize`] if that is no power of two from 1 KiB to 1 MiB;
    /// [`ImageError::Random`].
    pub(crate) fn new(
        target: Target,
        page_size: u32,
        settings: ImageSettings,
        compression: Compression,
    ) -> Result<Self, ImageError> {
        check_page_size(page_size)?;
        let mut salt = [0; 32];
        SystemRandom::new().fill(&mut salt).map_err(|_| ImageError::Random)?;
        Ok(Self { settings, compression, page_size, target, salt })
    }

    /// How the image is encrypted.
    #[must_use]
    pub(crate) fn cipher(&self) -> Cipher {
        self.settings.cipher
    }

    /// Whether the index holds the MD5 of each frame's memory.
    #[must_use]
    pub(crate) fn has_checksums(&self) -> bool {
        self.settings.checksum
    }

    /// How its frames are compressed.
    #[must_use]
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Size of the target's pages in bytes.
    #[must_use]
    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Whose memory it holds.
    #[must_use]
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The random number that sets this image apart from any other under the same key.
    #[must_use]
    pub(crate) fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// The bytes of the header; each header has exactly one encoding.
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; HEADER_LENGTH] {
        let length = u16::try_from(HEADER_LENGTH).unwrap_or(u16::MAX);
        let fields: [&[u8]; 12] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &length.to_le_bytes(),
            &[cipher_code(self.settings.cipher)],
            &[compression_code(self.compression)],
            &[u8::from(self.settings.checksum)],
            &[0],
            &self.page_size.to_le_bytes(),
            &self.target.pid.to_le_bytes(),
            &self.target.start_time.to_le_bytes(),
            &self.target.boot_id.0,
            &self.salt,
        ];
        let mut bytes = [0; HEADER_LENGTH];
        for (byte, value) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *byte = *value;
        }
        bytes
    }

    /// The header that these bytes encode. That they are genuine is known only when something
    /// sealed under this header was opened.
    ///
    /// # Errors
    /// [`ImageError::Magic`], [`ImageError::Version`], [`ImageError::HeaderLength`],
    /// [`ImageError::Cipher`], [`ImageError::Compression`], [`ImageError::ChecksumFlag`],
    /// [`ImageError::Reserved`], [`ImageError::PageSize`].
    pub(crate) fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, ImageError> {
        let mut fields = Fields::new(bytes);
        if take::<8>(&mut fields)? != MAGIC {
            return Err(ImageError::Magic);
        }
        let version = u16::from_le_bytes(take(&mut fields)?);
        if version != VERSION {
            return Err(ImageError::Version { found: version });
        }
        let length = u16::from_le_bytes(take(&mut fields)?);
        if usize::from(length) != HEADER_LENGTH {
            return Err(ImageError::HeaderLength { found: length });
        }
        let [cipher, compression, checksum, reserved] = take(&mut fields)?;
        let settings = ImageSettings { cipher: cipher_of(cipher)?, checksum: flag_of(checksum)? };
        let compression = compression_of(compression)?;
        if reserved != 0 {
            return Err(ImageError::Reserved);
        }
        let page_size = u32::from_le_bytes(take(&mut fields)?);
        check_page_size(page_size)?;
        let target = Target {
            pid: i32::from_le_bytes(take(&mut fields)?),
            start_time: u64::from_le_bytes(take(&mut fields)?),
            boot_id: BootId(take(&mut fields)?),
        };
        Ok(Self { settings, compression, page_size, target, salt: take(&mut fields)? })
    }
}

fn take<const N: usize>(fields: &mut Fields<'_>) -> Result<[u8; N], ImageError> {
    let have = fields.left();
    fields.take().ok_or(ImageError::HeaderCutOff { have })
}

fn cipher_code(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::None => 0,
        Cipher::Aes128Gcm => 1,
        Cipher::Aes256Gcm => 2,
        Cipher::ChaCha20Poly1305 => 3,
    }
}

fn cipher_of(code: u8) -> Result<Cipher, ImageError> {
    match code {
        0 => Ok(Cipher::None),
        1 => Ok(Cipher::Aes128Gcm),
        2 => Ok(Cipher::Aes256Gcm),
        3 => Ok(Cipher::ChaCha20Poly1305),
        found => Err(ImageError::Cipher { found }),
    }
}

fn compression_code(compression: Compression) -> u8 {
    match compression {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    }
}

fn compression_of(code: u8) -> Result<Compression, ImageError> {
    match code {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Lz4),
        2 => Ok(Compression::Zstd),
        found => Err(ImageError::Compression { found }),
    }
}

fn flag_of(code: u8) -> Result<bool, ImageError> {
    match code {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(ImageError::ChecksumFlag { found }),
    }
}

fn check_page_size(page_size: u32) -> Result<(), ImageError> {
    let bytes = usize::try_from(page_size).unwrap_or(usize::MAX);
    let good = bytes.is_power_of_two() && (SMALLEST_PAGE..=FRAME_LIMIT).contains(&bytes);
    if good { Ok(()) } else { Err(ImageError::PageSize { found: page_size }) }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use proptest::prelude::*;

    fn header(cipher: Cipher, compression: Compression, checksum: bool) -> Header {
        let target = Target { pid: 4711, start_time: 0x0102_0304_0506_0708, boot_id: BootId([9; 16]) };
        Header::new(target, 4096, ImageSettings { cipher, checksum }, compression).unwrap()
    }

    fn any_header() -> Header {
        header(Cipher::ChaCha20Poly1305, Compression::Zstd, true)
    }

    #[test]
    fn a_header_survives_encoding() {
        for cipher in sample::CIPHERS {
            for compression in sample::COMPRESSIONS {
                for checksum in [false, true] {
                    let header = header(cipher, compression, checksum);
                    assert_eq!(Header::decode(&header.encode()).unwrap(), header);
                }
            }
        }
    }

    #[test]
    fn the_fields_stand_where_the_specification_says() {
        let header = any_header();
        let bytes = header.encode();
        assert_eq!(&bytes[0..8], b"memcrimg");
        assert_eq!(&bytes[8..16], &[2, 0, 80, 0, 3, 2, 1, 0]);
        assert_eq!(&bytes[16..24], &[0x00, 0x10, 0, 0, 0x67, 0x12, 0, 0]);
        assert_eq!(&bytes[24..32], &[8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(&bytes[32..48], &[9; 16]);
        assert_eq!(&bytes[48..80], header.salt());
    }

    #[test]
    fn each_field_that_is_wrong_has_its_own_error() {
        let alter = |position: usize, value: u8| {
            let mut bytes = any_header().encode();
            bytes[position] = value;
            Header::decode(&bytes).unwrap_err()
        };
        assert!(matches!(alter(0, 0), ImageError::Magic));
        assert!(matches!(alter(8, 1), ImageError::Version { found: 1 }));
        assert!(matches!(alter(10, 81), ImageError::HeaderLength { found: 81 }));
        assert!(matches!(alter(12, 4), ImageError::Cipher { found: 4 }));
        assert!(matches!(alter(13, 3), ImageError::Compression { found: 3 }));
        assert!(matches!(alter(14, 2), ImageError::ChecksumFlag { found: 2 }));
        assert!(matches!(alter(15, 1), ImageError::Reserved));
        assert!(matches!(alter(16, 1), ImageError::PageSize { found: 4097 }));
        assert!(matches!(alter(17, 0), ImageError::PageSize { found: 0 }));
    }

    #[test]
    fn page_sizes_are_powers_of_two_that_fit_a_frame() {
        for good in [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 20] {
            assert!(check_page_size(good).is_ok());
        }
        for bad in [0, 1, 512, 4095, 12288, 1 << 21, u32::MAX] {
            assert!(check_page_size(bad).is_err());
        }
    }

    #[test]
    fn a_boot_id_is_read_as_the_kernel_writes_it() {
        let parsed = BootId::parse("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(parsed.0[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(parsed.0[15], 0xff);
        for bad in ["", "0011", "g0112233-4455-6677-8899-aabbccddeeff", "00112233445566778899aabbccddeeff0"] {
            assert_eq!(BootId::parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            start in 0_usize..HEADER_LENGTH,
            noise in proptest::collection::vec(any::<u8>(), HEADER_LENGTH),
        ) {
            let mut bytes = any_header().encode();
            bytes[start..].copy_from_slice(&noise[start..]);
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
