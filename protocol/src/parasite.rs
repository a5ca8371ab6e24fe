//! Between a worker and the parasite: a SOCK_SEQPACKET socket. Either the parasite makes a pair, of which the
//! worker takes the first end out of the target, or it listens under a [`Name`] and the worker connects.
//!
//! Plain C layouts, since the parasite has no allocator and no deserializer. One [`Order`] a
//! packet, followed by `count` [`Range`]s; one [`Answer`] back. When the worker's end closes, the
//! parasite closes what it opened and goes home by itself.
//!
//! The last system call of a parasite, wherever it comes from, is to close descriptor -1, which does nothing:
//! there the worker stops it, before it would leave by itself.

/// Bytes of the parasite's packet buffer: an [`Order`] and at most [`MAX_RANGES`] ranges.
pub const BUFFER_LENGTH: usize = size_of::<Order>() + MAX_RANGES * size_of::<Range>();

/// Ranges in one order.
pub const MAX_RANGES: usize = 2048;

/// Open the target's memory, page map and a userfaultfd. With the target's own /proc directory,
/// then /dev/userfaultfd if there is one. Answers their numbers, with the three descriptors. Its `count` is no number of
/// ranges: with [`PROTECTED`] the target is dumpable while memory and page map are opened, and not dumpable afterwards.
pub const OPEN: u32 = 1;
/// See [`OPEN`].
pub const PROTECTED: u32 = 1;
/// Close the descriptors of [`OPEN`] that are not the guard.
pub const CLOSE: u32 = 2;
/// Free the ranges that follow. From here on the guard is left open when the worker's end closes.
pub const FREE: u32 = 3;

/// Status of an answer to an order that the parasite doesn't know.
pub const UNKNOWN_ORDER: i64 = i64::MIN;

/// What the parasite finds when it starts, in memory that the worker wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Start {
    /// Address of a buffer of [`BUFFER_LENGTH`] bytes.
    pub buffer: u64,
    /// Address of the signal frame that leads back into the program.
    pub home: u64,
    /// The socketpair, if there is no name, written by the parasite's first system call: the worker's end,
    /// its own.
    pub sockets: [i32; 2],
    /// Where it listens.
    pub name: Name,
}

/// Bytes that a worker sends first, so that the parasite knows it.
pub const TOKEN_LENGTH: usize = 32;

/// Longest path of a socket, in bytes: what `struct sockaddr_un` has room for, less the zero at the end.
pub const MAX_PATH: usize = 107;

/// Bytes of an address: `struct sockaddr_un`, and zeros to the next word.
pub const ADDRESS_LENGTH: usize = 112;

/// No group is set.
pub const NO_GROUP: u32 = u32::MAX;

/// A socket at which the parasite waits for its worker, and by what it knows it. Whatever is connected when
/// the parasite runs on is looked at, one after the other; it waits for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Name {
    /// Bytes of the address that count; 0: there is none, a socketpair is made.
    pub length: u32,
    /// Permission bits of its file; 0: it has no file, the name is an abstract one.
    pub mode: u32,
    /// Group of its file, or [`NO_GROUP`].
    pub group: u32,
    /// Connections that may wait.
    pub backlog: u32,
    /// Process id of the worker, as the target sees it; 0 if it doesn't.
    pub peer_pid: i32,
    /// User id of the worker, as the target sees it.
    pub peer_uid: u32,
    /// What the worker sends.
    pub token: [u8; TOKEN_LENGTH],
    /// The address, which ends with a zero where it is a path.
    pub address: [u8; ADDRESS_LENGTH],
}

impl Name {
    /// No name: a socketpair is made.
    pub const NONE: Self = Self {
        length: 0,
        mode: 0,
        group: NO_GROUP,
        backlog: 0,
        peer_pid: 0,
        peer_uid: 0,
        token: [0; TOKEN_LENGTH],
        address: [0; ADDRESS_LENGTH],
    };
}

// all of its bytes count: there is no padding
const _: () = assert!(size_of::<Name>() == 24 + TOKEN_LENGTH + ADDRESS_LENGTH);
const _: () = assert!(size_of::<Start>() == 24 + size_of::<Name>());

/// What the worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Order {
    /// [`OPEN`], [`CLOSE`] or [`FREE`].
    pub command: u32,
    /// Ranges that follow.
    pub count: u32,
}

/// A range of the target's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Range {
    /// First byte; on a page boundary.
    pub address: u64,
    /// Length in bytes; whole pages.
    pub length: u64,
}

/// What the parasite sends back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// 0, or the negative error number of the first call that failed.
    pub status: i64,
    /// Ranges freed, or the number of the step that failed (1 receive, 2 memory, 3 page map, 4
    /// userfaultfd, 5 hand them over).
    pub done: u64,
    /// For [`OPEN`]: memory, page map, userfaultfd, and 1 if that one is full (0: user mode only).
    pub numbers: [i32; 4],
}
