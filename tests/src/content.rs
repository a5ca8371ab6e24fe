//! Known memory: what a sample target fills its memory with, and finds there again.

/// Bytes of one kind in a row. A multiple of every page size.
pub const CHUNK: usize = 64 * 1024;

/// What memory is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of eight chunks one is zero, three are text, four are random.
    Mixed,
    /// In each 4 KiB one number again and again: it compresses to nearly nothing, at once.
    Plain,
}

/// Fills `memory` from `seed`, with [`Kind::Mixed`].
pub fn fill(memory: &mut [u8], seed: u64) {
    fill_with(Kind::Mixed, memory, seed);
}

/// Fills `memory` from `seed`.
pub fn fill_with(kind: Kind, memory: &mut [u8], seed: u64) {
    for (index, chunk) in memory.chunks_mut(CHUNK).enumerate() {
        fill_chunk(kind, chunk, seed, index);
    }
}

/// Where `memory` first differs from what [`fill`] put there, and in how many bytes.
///
/// # Errors
/// The offset of the first byte that differs, and how many do.
pub fn check(memory: &[u8], seed: u64) -> Result<(), (usize, usize)> {
    check_with(Kind::Mixed, memory, seed)
}

/// Where `memory` first differs from what [`fill_with`] put there, and in how many bytes.
///
/// # Errors
/// The offset of the first byte that differs, and how many do.
pub fn check_with(kind: Kind, memory: &[u8], seed: u64) -> Result<(), (usize, usize)> {
    let mut expected = vec![0; CHUNK];
    let mut first = None;
    let mut count = 0;
    for (index, chunk) in memory.chunks(CHUNK).enumerate() {
        let expected = &mut expected[..chunk.len()];
        fill_chunk(kind, expected, seed, index);
        if chunk != expected {
            let differing = chunk.iter().zip(expected.iter()).enumerate().filter(|(_, (a, b))| a != b);
            for (offset, _) in differing {
                first = first.or(Some(index * CHUNK + offset));
                count += 1;
            }
        }
    }
    first.map_or(Ok(()), |first| Err((first, count)))
}

/// A hash of bytes: not for secrets, only to tell whether something changed.
pub fn hash(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let tail = words.remainder().iter().fold(0, |tail: u64, byte| tail << 8 | u64::from(*byte));
    let mix = |hash: u64, word: u64| (hash ^ word).rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = words.fold(bytes.len() as u64, |hash, word| {
        mix(hash, u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")))
    });
    mix(hash, tail)
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number() % bound
    }
}

fn fill_chunk(kind: Kind, chunk: &mut [u8], seed: u64, index: usize) {
    let mut numbers = Sequence::new(seed ^ (index as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
    match (kind, index % 8) {
        (Kind::Plain, _) => fill_with_one_number_each(chunk, &mut numbers),
        (Kind::Mixed, 0) => chunk.fill(0),
        (Kind::Mixed, 1..=3) => fill_with_text(chunk, &mut numbers),
        (Kind::Mixed, _) => fill_with_numbers(chunk, &mut numbers),
    }
}

fn fill_with_one_number_each(chunk: &mut [u8], numbers: &mut Sequence) {
    for piece in chunk.chunks_mut(4096) {
        let bytes = numbers.next_number().to_le_bytes();
        for word in piece.chunks_mut(8) {
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

fn fill_with_numbers(chunk: &mut [u8], numbers: &mut Sequence) {
    for word in chunk.chunks_mut(8) {
        let bytes = numbers.next_number().to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

fn fill_with_text(chunk: &mut [u8], numbers: &mut Sequence) {
    const WORDS: [&[u8]; 16] = [
        b"sleep ",
        b"memory ",
        b"page ",
        b"frame ",
        b"thread ",
        b"image ",
        b"guard ",
        b"wake ",
        b"freeze ",
        b"kernel ",
        b"socket ",
        b"signal ",
        b"daemon ",
        b"worker ",
        b"client ",
        b"policy\n",
    ];
    let mut left = chunk;
    while !left.is_empty() {
        let word = WORDS[numbers.below(16) as usize];
        let length = word.len().min(left.len());
        let (here, rest) = left.split_at_mut(length);
        here.copy_from_slice(&word[..length]);
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_is_found_and_changes_the_hash() {
        for kind in [Kind::Mixed, Kind::Plain] {
            let mut memory = vec![0; 9 * CHUNK + 100];
            fill_with(kind, &mut memory, 7);
            assert_eq!(check_with(kind, &memory, 7), Ok(()));
            assert!(check_with(kind, &memory, 8).is_err());
            let before = hash(&memory);
            memory[5 * CHUNK + 3] ^= 1;
            assert_eq!(check_with(kind, &memory, 7), Err((5 * CHUNK + 3, 1)));
            assert_ne!(hash(&memory), before);
        }
    }
}
