//! What a client of the original sends to the broker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcr_protocol::legacy;

// Whatever the bytes are: no panic, and what is taken is what encodes to a request that is taken the same way.
// No beginning of it is taken for a request of its own, or for none.
fuzz_target!(|bytes: &[u8]| {
    let taken = legacy::take(bytes);
    if let Ok(Some((request, length))) = &taken {
        let again = request.encode().expect("what was read can be written");
        assert_eq!(legacy::take(&again), Ok(Some((request.clone(), again.len()))));
        for cut in 0..*length {
            assert_eq!(legacy::take(&bytes[..cut]), Ok(None));
        }
    }
    if let Some(first) = bytes.first_chunk() {
        assert_eq!(legacy::is_legacy(*first), legacy::version(*first).is_some());
        assert!(!legacy::is_legacy(*first) || legacy::may_begin(&bytes[..1]));
        if let Err(legacy::LegacyError::Command(_)) = taken {
            // the first word is no command, or the one within a request of version 2
            assert!(!legacy::is_legacy(*first) || legacy::version(*first) == Some(legacy::Version::Two));
        }
    }
});
