//! How an image is written: what users choose by `-z`, `-e` and `-c`.

use alloc::string::String;
use core::fmt;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How the memory in an image is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 blocks: fast.
    Lz4,
    /// Zstandard: smaller.
    Zstd,
}

impl Compression {
    /// The name used on command lines, in logs and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// How an image is encrypted. Whatever is chosen, it is authenticated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cipher {
    /// Not at all; authenticated by the tag of AES-256-GCM alone.
    None,
    /// AES-128 in Galois/counter mode.
    #[serde(rename = "aes-128-gcm")]
    Aes128Gcm,
    /// AES-256 in Galois/counter mode.
    #[default]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// ChaCha20 with Poly1305: fast without AES instructions.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Cipher {
    /// The name used on command lines, in logs and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }
}

/// What holds for all images of a daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSettings {
    /// How they are encrypted.
    pub cipher: Cipher,
    /// Whether the MD5 of the memory is kept in them, and compared before it goes back.
    pub checksum: bool,
}

/// MD5 over the MD5s of an image's frames, in their order: what `-c` shows. In JSON it is the text that
/// people see, in our own messages its 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(pub [u8; 16]);

impl Checksum {
    /// From the 32 digits by which it is shown.
    fn parse(text: &str) -> Option<Self> {
        let mut digits = text.chars();
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let high = digits.next()?.to_digit(16)?;
            let low = digits.next()?.to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).ok_or_else(|| D::Error::custom("a checksum has 32 hexadecimal digits"))
        } else {
            Deserialize::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;
    use alloc::string::{String, ToString};
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    const EMPTY: [u8; 16] =
        [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e];

    #[test]
    fn a_checksum_is_shown_as_md5sum_shows_it() {
        assert_eq!(Checksum(EMPTY).to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn a_checksum_is_sixteen_bytes_in_our_own_messages() {
        let bytes = postcard::to_allocvec(&Checksum(EMPTY)).unwrap();
        assert_eq!(bytes, EMPTY);
        assert_eq!(postcard::from_bytes(&bytes), Ok(Checksum(EMPTY)));
    }

    #[test]
    fn a_checksum_is_read_from_text_as_it_is_shown_and_from_no_other() {
        let read = |text: &str| {
            let text: StrDeserializer<'_, Error> = text.into_deserializer();
            Checksum::deserialize(text).ok()
        };
        let shown = Checksum(EMPTY).to_string();
        assert_eq!(read(&shown), Some(Checksum(EMPTY)));
        let others: [String; 4] =
            ["".into(), shown.replace('d', "g"), shown.clone() + "0", shown[1..].into()];
        assert!(others.iter().all(|text| read(text).is_none()));
    }
}
