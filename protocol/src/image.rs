//! How an image is written: what users choose by `-z`, `-e` and `-c`.

use core::fmt;
use serde::{Deserialize, Serialize};

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
    /// Not at all; authenticated by AES-256-GCM's tag alone.
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

/// MD5 over the MD5s of an image's frames, in their order: what `-c` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum(pub [u8; 16]);

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;
    use alloc::string::ToString;

    #[test]
    fn a_checksum_is_shown_as_md5sum_shows_it() {
        let bytes = [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e];
        assert_eq!(Checksum(bytes).to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
