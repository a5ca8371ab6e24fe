//! Opening and closing.

use crate::arch::{number, system_call};
use crate::kernel::O_CLOEXEC;
use core::ffi::CStr;

/// Opens a name in a directory; negative if that fails.
pub(crate) fn open_at(directory: i32, name: &CStr, flags: usize) -> i32 {
    let path = name.as_ptr() as usize;
    // SAFETY: the kernel reads the name only
    unsafe { system_call(number::OPENAT, [directory as usize, path, flags | O_CLOEXEC, 0, 0, 0]) as i32 }
}

/// Closes what is open, once.
pub(crate) fn close(descriptor: &mut i32) {
    if *descriptor >= 0 {
        // SAFETY: a descriptor that this parasite opened
        unsafe { system_call(number::CLOSE, [*descriptor as usize, 0, 0, 0, 0, 0]) };
        *descriptor = -1;
    }
}

/// The last system call of all, by which the worker knows that there is nothing left to do.
pub(crate) fn farewell() {
    // SAFETY: no descriptor has this number
    unsafe { system_call(number::CLOSE, [usize::MAX, 0, 0, 0, 0, 0]) };
}
