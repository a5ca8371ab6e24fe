//! MD5 of memory, frame by frame, which users know from the original. It finds memory that went wrong in our
//! own hands; that nobody else altered it is what tags are for.

use md5::{Digest as _, Md5};
use memcr_protocol::image::Checksum;

/// MD5 of one frame's memory.
pub(super) type Digest = [u8; 16];

pub(super) fn digest(memory: &[u8]) -> Digest {
    Md5::digest(memory).into()
}

/// The checksum of all memory in frames, from the digests in the order of their numbers.
pub(super) fn checksum(digests: impl IntoIterator<Item = Digest>) -> Checksum {
    let mut all = Md5::new();
    digests.into_iter().for_each(|digest| all.update(digest));
    Checksum(all.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_md5_of_the_md5s_in_their_order() {
        assert_eq!(Checksum(digest(b"abc")).to_string(), "900150983cd24fb0d6963f7d28e17f72");
        let (one, other) = (digest(b"abc"), digest(b""));
        assert_eq!(checksum([one, other]), Checksum(digest(&[one, other].concat())));
        assert_ne!(checksum([one, other]), checksum([other, one]));
        assert_eq!(checksum([]).to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
