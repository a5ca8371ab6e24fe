//! Between a worker and the parasite: a SOCK_SEQPACKET socketpair that the parasite makes and whose first
//! end the worker takes out of the target.
//!
//! Plain C layouts, since the parasite has no allocator and no deserializer. One [`Order`] a
//! packet, followed by `count` [`Range`]s; one [`Answer`] back. When the worker's end closes, the
//! parasite closes what it opened and goes home by itself.

/// Bytes of the parasite's packet buffer: an [`Order`] and at most [`MAX_RANGES`] ranges.
pub const BUFFER_LENGTH: usize = size_of::<Order>() + MAX_RANGES * size_of::<Range>();

/// Ranges in one order.
pub const MAX_RANGES: usize = 2048;

/// Open the target's memory, page map and a userfaultfd. With the target's own /proc directory,
/// then /dev/userfaultfd if there is one. Answers their numbers.
pub const OPEN: u32 = 1;
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
    /// The socketpair, written by the parasite's first system call: the worker's end, its own.
    pub sockets: [i32; 2],
}

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
    /// userfaultfd).
    pub done: u64,
    /// For [`OPEN`]: memory, page map, userfaultfd, and 1 if that one is full (0: user mode only).
    pub numbers: [i32; 4],
}
