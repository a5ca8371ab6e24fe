//! What compilers expect of every program: filling and copying of memory. Some call it for a few bytes.
//!
//! Byte by byte through volatile accesses, of which no compiler makes a call of the same function.

use core::ffi::c_int;

/// memset(3).
///
/// # Safety
/// `to` must point to `count` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: c_int, count: usize) -> *mut u8 {
    let mut index = 0;
    while index < count {
        // SAFETY: below `count`
        unsafe { to.add(index).write_volatile(value as u8) };
        index = index.wrapping_add(1);
    }
    to
}

/// memcpy(3).
///
/// # Safety
/// `to` must point to `count` writable bytes, `from` to as many others that can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    let mut index = 0;
    while index < count {
        // SAFETY: below `count`
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        index = index.wrapping_add(1);
    }
    to
}
