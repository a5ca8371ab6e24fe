//! From a worker to the launcher: what a successor needs, should the worker die.
//!
//! A SOCK_SEQPACKET socketpair, one frame a packet. It carries the image key and never leaves the
//! privileged side.

use crate::frame::Message;
use crate::launcher::PolicyText;
use crate::subject::Peer;
use alloc::string::String;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Key of one image: 256 bits. No `Debug`, no `Clone`; wiped when dropped.
#[derive(PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes(pub [u8; 32]);

/// What a worker leaves with the launcher, in this order.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub enum Deposit {
    /// The image file is about to be created in the job's image directory, under the name of this target's image; the
    /// launcher, which knows that name, removes it when the worker has ended, if it is there and its own user's.
    Image {
        /// Part of the name, if the usual one is taken by somebody else.
        random: Option<u64>,
    },
    /// The target holds something of ours, or is about to; a successor must remove it.
    Debris(Debris),
    /// The whole image is written and the target's pages are about to be guarded and freed. With
    /// the image file, the guard and the target's memory file.
    Sleep {
        /// Key of the image.
        key: KeyBytes,
    },
    /// There is no full guard: from here on the target dies with the worker.
    ExitKill,
    /// All memory is put back; only what of ours is in the target is left to be removed.
    Restored,
    /// A question: who is the client of the socket that comes along? Answered by [`Word::Peer`].
    WhoIs,
    /// A question: may one more process be asleep by this rule? Answered by [`Word::Claimed`].
    Claim {
        /// Name of the rule.
        rule: String,
        /// How many may be.
        limit: u32,
    },
    /// A question: is there a newer policy than this one? Answered by [`Word::Policy`].
    IsPolicyNewer {
        /// How often it had been changed when this one came.
        generation: u32,
    },
    /// Everything is put back, or the target is lost for good: no successor is needed.
    Settled,
}

impl Message for Deposit {
    const LIMIT: usize = 1024;
}

/// What the launcher says to a worker.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Answer to [`Deposit::WhoIs`]; `None` if the kernel doesn't name it.
    Peer(Option<Peer>),
    /// Answer to [`Deposit::Claim`].
    Claimed {
        /// Whether it may.
        granted: bool,
    },
    /// Answer to [`Deposit::IsPolicyNewer`].
    Policy {
        /// How often it has been changed.
        generation: u32,
        /// The policy, if it is another.
        newer: Option<PolicyText>,
    },
}

impl Message for Word {
    // a policy; a peer may have 65,536 supplementary groups
    const LIMIT: usize = 512 * 1024;
}

/// What of ours is in the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debris {
    /// The parasite's place, as address and length in bytes; length 0 if it has none.
    pub place: (u64, u64),
    /// The parasite's end of its socketpair, as number and inode. It closes that last: as long as it is open
    /// the parasite may be freeing memory.
    pub socket: Option<(i32, u64)>,
    /// What was laid below its stack for threads that make calls for us, likewise.
    pub frame: (u64, u64),
    /// Number of the guard's file descriptor in the target.
    pub guard: Option<i32>,
}
