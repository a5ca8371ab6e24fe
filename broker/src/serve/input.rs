//! What a client has sent: which of the two protocols it speaks, and the requests in its bytes.

use super::connection::Violation;
use crate::audit::record::Wire;
use memcr_protocol::client::ClientFrame;
use memcr_protocol::frame::Assembler;
use memcr_protocol::legacy::{self, Request, Version};

/// Commands of the original's protocol that are served on one connection: its own client sends two at most.
const LEGACY_COMMANDS: u8 = 2;

/// One thing that a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A frame.
    Frame(ClientFrame),
    /// A request as the original has it.
    Legacy(Request, Wire),
}

/// The bytes that have come and are not taken yet.
#[derive(Debug)]
pub(crate) enum Input {
    /// Too few to tell.
    First(Vec<u8>),
    /// Frames.
    Framed(Assembler),
    /// Requests as the original has them.
    Legacy(LegacyInput),
}

/// Of a client of the original.
#[derive(Debug, Default)]
pub(crate) struct LegacyInput {
    bytes: Vec<u8>,
    taken: u8,
    /// Taken, and kept until it is known who asks.
    kept: Option<(Request, Wire)>,
}

impl Input {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::First(Vec::new())
    }

    /// Takes bytes as they come. The first four tell the protocol.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::First(first) => {
                first.extend_from_slice(bytes);
                if let Some(word) = first.first_chunk() {
                    let is_legacy = legacy::is_legacy(*word);
                    let all = std::mem::take(first);
                    *self = if is_legacy { Self::legacy(all) } else { Self::framed(&all) };
                }
            }
            Self::Framed(assembler) => assembler.push(bytes),
            Self::Legacy(legacy) => legacy.bytes.extend_from_slice(bytes),
        }
    }

    fn legacy(bytes: Vec<u8>) -> Self {
        Self::Legacy(LegacyInput { bytes, ..LegacyInput::default() })
    }

    fn framed(bytes: &[u8]) -> Self {
        let mut assembler = Assembler::new();
        assembler.push(bytes);
        Self::Framed(assembler)
    }

    /// The next whole thing that the client says.
    ///
    /// # Errors
    /// A [`Violation`] by its bytes, as soon as they show it.
    pub(crate) fn next(&mut self) -> Result<Option<Said>, Violation> {
        match self {
            Self::First(_) => Ok(None),
            Self::Framed(assembler) => Ok(assembler.next_message()?.map(Said::Frame)),
            Self::Legacy(legacy) => legacy.next(),
        }
    }

    /// What is wrong when nothing more comes.
    pub(crate) fn end(&mut self) -> Option<Violation> {
        if let Self::First(first) = self {
            if legacy::may_begin(first) {
                *self = Self::legacy(std::mem::take(first));
            }
        }
        let cut = matches!(self, Self::Legacy(legacy) if !legacy.bytes.is_empty());
        cut.then_some(Violation::CutOff)
    }

    /// What it speaks, as far as that is known.
    pub(crate) fn wire(&self) -> Option<Wire> {
        match self {
            Self::First(_) => None,
            Self::Framed(_) => Some(Wire::Framed),
            Self::Legacy(legacy) => legacy.wire(),
        }
    }

    /// The part for clients of the original, if it is of one.
    pub(crate) fn as_legacy(&mut self) -> Option<&mut LegacyInput> {
        match self {
            Self::Legacy(legacy) => Some(legacy),
            Self::First(_) | Self::Framed(_) => None,
        }
    }

    /// Whether it is of a client of the original.
    pub(crate) fn is_legacy(&self) -> bool {
        matches!(self, Self::Legacy(_))
    }
}

impl LegacyInput {
    fn next(&mut self) -> Result<Option<Said>, Violation> {
        let wire = self.wire();
        if self.is_last() {
            return Ok(None);
        }
        let (Some((request, length)), Some(wire)) = (legacy::take(&self.bytes)?, wire) else {
            return Ok(None);
        };
        self.bytes.drain(..length);
        self.taken += 1;
        Ok(Some(Said::Legacy(request, wire)))
    }

    fn wire(&self) -> Option<Wire> {
        legacy::version(*self.bytes.first_chunk()?).map(|version| match version {
            Version::One => Wire::V1,
            Version::Two => Wire::V2,
        })
    }

    /// Whether no further command is served.
    pub(crate) fn is_last(&self) -> bool {
        self.taken >= LEGACY_COMMANDS
    }

    /// Whether something was said that was not served yet.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.kept.is_some() || !self.bytes.is_empty()
    }

    /// Keeps a request until it is known who asks.
    pub(crate) fn keep(&mut self, request: Request, wire: Wire) {
        self.kept = Some((request, wire));
    }

    /// Gives it back.
    pub(crate) fn take_kept(&mut self) -> Option<(Request, Wire)> {
        self.kept.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcr_protocol::client::VERSION;
    use memcr_protocol::frame;
    use memcr_protocol::legacy::{Command, LegacyError};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn fed(bytes: &[u8]) -> Input {
        let mut input = Input::new();
        bytes.iter().for_each(|byte| input.push(&[*byte]));
        input
    }

    #[test]
    fn the_first_four_bytes_tell_the_protocol_however_they_come() {
        let hello = frame::encode(&ClientFrame::Hello { version: VERSION }).unwrap();
        for (bytes, wire) in
            [(hello, Wire::Framed), (words(&[100, 7]), Wire::V1), (words(&[102, 8, 101, 7]), Wire::V2)]
        {
            assert_eq!(fed(&bytes[..3]).wire(), None);
            let mut input = fed(&bytes);
            assert_eq!((input.wire(), input.is_legacy()), (Some(wire), wire != Wire::Framed));
            match input.next().unwrap() {
                Some(Said::Frame(frame)) => assert_eq!(frame, ClientFrame::Hello { version: VERSION }),
                Some(Said::Legacy(request, of)) => assert_eq!((request.pid, of), (7, wire)),
                None => panic!("it was whole"),
            }
            assert!(input.next().unwrap().is_none());
        }
    }

    #[test]
    fn two_commands_are_taken_and_no_third() {
        let mut input = fed(&words(&[100, 7, 102, 8, 101, 8, 100, 9]));
        let mut next = || input.next().unwrap();
        assert!(matches!(next(), Some(Said::Legacy(Request { command: Command::Checkpoint, .. }, Wire::V1))));
        assert!(matches!(next(), Some(Said::Legacy(Request { command: Command::Restore, .. }, Wire::V2))));
        assert!(next().is_none());
        assert!(input.as_legacy().unwrap().is_last());
    }

    #[test]
    fn what_is_cut_off_at_the_end_is_a_violation_unless_it_is_no_request_at_all() {
        for bytes in
            [words(&[100])[..1].to_vec(), words(&[102])[..3].to_vec(), words(&[100, 7])[..7].to_vec()]
        {
            let mut input = fed(&bytes);
            assert!(matches!(input.end(), Some(Violation::CutOff)), "{bytes:?}");
            assert!(input.as_legacy().unwrap().is_waited_for());
        }
        let mut whole = fed(&words(&[100, 7]));
        assert!(whole.next().unwrap().is_some() && whole.end().is_none());
        // as it was with frames: nobody is owed an answer
        for bytes in [&[][..], &[3], &[3, 0, 0, 0, 0]] {
            assert!(fed(bytes).end().is_none());
        }
    }

    #[test]
    fn the_second_must_be_a_request_too() {
        let mut input = fed(&words(&[100, 7, 3]));
        assert!(input.next().unwrap().is_some());
        assert!(matches!(input.next(), Err(Violation::Legacy(LegacyError::Command(3)))));
    }
}
