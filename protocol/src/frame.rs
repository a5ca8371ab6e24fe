//! Frames: a little-endian `u32` body length, then the postcard body.
//!
//! The length is compared with the limit of the message type before anything is reserved for the
//! body, and a body with bytes left over is an error.

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Bytes of the length that precedes each body.
pub const PREFIX_LENGTH: usize = 4;

/// A message that may travel in a frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Longest body that is accepted or sent, in bytes.
    const LIMIT: usize;
}

/// Why a frame could not be written or read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The body is longer than its message type allows.
    #[error("frame body of {length} bytes exceeds the limit of {limit} bytes")]
    TooLong {
        /// Length of the body in bytes.
        length: usize,
        /// Limit of the message type in bytes.
        limit: usize,
    },
    /// The body is shorter than the length before it, or the length itself is cut off.
    #[error("frame ends after {have} of {need} bytes")]
    CutOff {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The body holds more than its message.
    #[error("{left} bytes left over after the message")]
    LeftOver {
        /// Bytes after the message.
        left: usize,
    },
    /// The body is no message of this type.
    #[error("malformed message: {0}")]
    Malformed(postcard::Error),
}

/// One whole frame, length and body.
///
/// # Errors
/// [`FrameError::TooLong`] when the body exceeds the limit of its type.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut prefixed = Vec::with_capacity(128);
    prefixed.extend_from_slice(&[0; PREFIX_LENGTH]);
    let mut frame = postcard::to_extend(message, prefixed).map_err(FrameError::Malformed)?;
    let length = frame.len().saturating_sub(PREFIX_LENGTH);
    let prefix = u32::try_from(length).ok().filter(|_| length <= M::LIMIT);
    let prefix = prefix.ok_or(FrameError::TooLong { length, limit: M::LIMIT })?;
    for (byte, value) in frame.iter_mut().zip(prefix.to_le_bytes()) {
        *byte = value;
    }
    Ok(frame)
}

/// The message of a packet that holds exactly one frame, as on the sockets that keep packets apart.
///
/// # Errors
/// Any [`FrameError`].
pub fn decode<M: Message>(packet: &[u8]) -> Result<M, FrameError> {
    let (length, rest) =
        split_prefix::<M>(packet)?.ok_or(FrameError::CutOff { have: packet.len(), need: PREFIX_LENGTH })?;
    match rest.len() {
        have if have < length => Err(FrameError::CutOff { have, need: length }),
        have if have > length => Err(FrameError::LeftOver { left: have - length }),
        _ => decode_body(rest),
    }
}

/// The length announced by the first bytes (once they are there), and what follows them.
fn split_prefix<M: Message>(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > M::LIMIT {
        return Err(FrameError::TooLong { length, limit: M::LIMIT });
    }
    Ok(Some((length, rest)))
}

fn decode_body<M: Message>(body: &[u8]) -> Result<M, FrameError> {
    let (message, left) = postcard::take_from_bytes(body).map_err(FrameError::Malformed)?;
    if left.is_empty() { Ok(message) } else { Err(FrameError::LeftOver { left: left.len() }) }
}

/// Puts frames together from a byte stream that may cut them anywhere.
///
/// It never holds more than one frame of the largest size plus what one [`Assembler::push`] added.
#[derive(Debug, Default)]
pub struct Assembler {
    pending: Vec<u8>,
}

impl Assembler {
    /// An assembler without any bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes come.
    ///
    /// # Errors
    /// Any [`FrameError`] but `CutOff`; the stream can't be used further then.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((length, rest)) = split_prefix::<M>(&self.pending)? else {
            return Ok(None);
        };
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode_body(body)?;
        self.pending.drain(..PREFIX_LENGTH + length);
        Ok(Some(message))
    }

    /// Bytes that belong to a frame not yet complete.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::String, vec};
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note(String);
    impl Message for Note {
        const LIMIT: usize = 64;
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_the_body_arrives() {
        let mut assembler = Assembler::new();
        assembler.push(&65_u32.to_le_bytes());
        let refusal = assembler.next_message::<Note>();
        assert_eq!(refusal, Err(FrameError::TooLong { length: 65, limit: 64 }));
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let note = Note("x".repeat(64));
        assert_eq!(encode(&note), Err(FrameError::TooLong { length: 65, limit: 64 }));
    }

    #[test]
    fn bytes_after_the_message_are_an_error() {
        let mut frame = encode(&Note("hello".into())).unwrap();
        frame.push(0);
        assert_eq!(decode::<Note>(&frame), Err(FrameError::LeftOver { left: 1 }));
        let inside = vec![3, 0, 0, 0, 1, b'a', b'b'];
        assert_eq!(decode::<Note>(&inside), Err(FrameError::LeftOver { left: 1 }));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(texts in prop::collection::vec("[a-z]{0,60}", 1..8), step in 1_usize..9) {
            let notes: Vec<Note> = texts.into_iter().map(Note).collect();
            let stream: Vec<u8> = notes.iter().flat_map(|note| encode(note).unwrap()).collect();
            let mut assembler = Assembler::new();
            let mut received = Vec::new();
            for piece in stream.chunks(step) {
                assembler.push(piece);
                while let Some(note) = assembler.next_message::<Note>().unwrap() {
                    received.push(note);
                }
            }
            prop_assert_eq!(received, notes);
            prop_assert_eq!(assembler.pending(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Note>(&bytes);
            let _ = decode::<crate::client::ClientFrame>(&bytes);
            let _ = decode::<crate::launcher::Job>(&bytes);
            let _ = decode::<crate::worker::WorkerEvent>(&bytes);
            let mut assembler = Assembler::new();
            assembler.push(&bytes);
            while let Ok(Some(_)) = assembler.next_message::<crate::client::ServerFrame>() {}
        }
    }
}
