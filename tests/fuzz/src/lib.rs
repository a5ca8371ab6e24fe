//! What the targets for messages have in common.

use memcr_protocol::frame::{self, Assembler, Message};

/// Whatever the bytes are: no panic, and what decodes is what encodes to the same bytes. Cut into pieces they
/// say the same as whole.
pub fn frame<M: Message>(bytes: &[u8]) {
    let whole = frame::decode::<M>(bytes);
    let mut assembler = Assembler::new();
    let mut pieces = None;
    for piece in bytes.chunks(3) {
        assembler.push(piece);
        match assembler.next_message::<M>() {
            Ok(None) => {}
            outcome => {
                pieces = Some(outcome.is_ok());
                break;
            }
        }
    }
    if let Ok(message) = whole {
        let again = frame::encode(&message).expect("what was read can be written");
        assert!(frame::decode::<M>(&again).is_ok());
        assert_eq!(pieces, Some(true));
    }
}
