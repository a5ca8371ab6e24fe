//! System calls that no safe crate offers, for the sample targets.

#![allow(clippy::cast_lossless, clippy::unnecessary_cast, reason = "types differ between architectures")]

mod calls;
mod hostile;
mod lone_waits;
mod memory;
mod process;
mod rings;
mod sequences;
mod signals;
mod starved;
mod waits;

pub use calls::entered_call;
pub use hostile::{
    copy_descriptor, hop_for_ever, inode_of, meddle_with_sockets, name_memory, replace_descriptor,
    wait_for_a_notification_that_is_never_answered,
};
pub use lone_waits::{LONE_WAITS, LoneWait};
pub use memory::Region;
pub use process::{
    Answer, Numbered, be_strict, count_traps, end_main_thread, exit_at_once, forbid_dumping, ignore_children,
    install_filter, install_harmless_filter, pidfd_of_a_thread, refuse_executable_gain,
    share_memory_with_a_child, start_vfork_that_lasts, take_call_away, traps_after,
};
pub use rings::{set_up_asynchronous_io, set_up_ring};
pub use sequences::Sequences;
pub use signals::{
    begin_with_default_signals, block_signal, count_signal, counted, end_calls_by_signal, ignore_signal,
    is_pending, queue_to_self, send_any, start_interval_timer, take_queued, unblock_signal,
    use_alternate_stack,
};
pub use starved::Starved;
pub use waits::{WAITS, Wait};
