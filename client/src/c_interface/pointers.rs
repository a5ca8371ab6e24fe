//! What C hands over: texts that end with a zero byte, structures that say their own size.

#![allow(unsafe_code, reason = "pointers from C")]

use std::ffi::{CStr, OsStr, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::{ptr, slice};

/// Largest structure that is taken for one: a size beyond is a variable that was never set.
const LARGEST: usize = 4096;

/// Bytes of the member `size`.
const SIZE: usize = size_of::<u32>();

/// A structure whose first member is `uint32_t size`, and which may get more members at its end.
///
/// # Safety
/// It is `repr(C)`, begins with a `u32`, has no padding, and any bytes are a value of it.
pub(super) unsafe trait Versioned: Copy {
    /// Size of its first version, in bytes.
    const SMALLEST: usize;
}

/// Why a structure is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its size can't be one.
    Size,
    /// A member that this version doesn't know is not zero.
    Unknown,
}

/// A text; `None` for a null pointer.
///
/// # Safety
/// `text` is null, or ends with a zero byte, and isn't changed or freed as long as the result is used.
pub(super) unsafe fn text<'a>(text: *const c_char) -> Option<&'a OsStr> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    Some(OsStr::from_bytes(text.to_bytes()))
}

/// The size that a structure says it has.
///
/// # Safety
/// `from` points to a `u32`, at whatever alignment.
unsafe fn size_of_structure<T: Versioned>(from: *const T) -> Result<usize, Refusal> {
    // SAFETY: as promised by the caller.
    let size = unsafe { from.cast::<u32>().read_unaligned() };
    let size = usize::try_from(size).ok().filter(|size| (T::SMALLEST..=LARGEST).contains(size));
    size.ok_or(Refusal::Size)
}

/// A copy of a structure: members that the caller doesn't know are zero. `None` for a null pointer.
///
/// # Safety
/// `from` is null, or points to as many readable bytes as its first member says.
pub(super) unsafe fn read<T: Versioned>(from: *const T) -> Result<Option<T>, Refusal> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: not null; the rest is the caller's promise.
    let size = unsafe { size_of_structure(from) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: `known` to `size` is within the structure.
    let unknown = unsafe { slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Refusal::Unknown);
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both have at least `known` bytes, and `copy` is ours alone.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: any bytes are a value of it.
    Ok(Some(unsafe { copy.assume_init() }))
}

/// Room for a result, which the caller gave.
#[derive(Debug)]
pub(super) struct Room<T> {
    to: *mut T,
    size: usize,
}

impl<T: Versioned> Room<T> {
    /// The room behind a pointer; none if it is null.
    ///
    /// # Safety
    /// `to` is null, or points to as many writable bytes as its first member says, which nobody else
    /// uses and which stay there as long as the result is used.
    pub(super) unsafe fn new(to: *mut T) -> Result<Option<Self>, Refusal> {
        if to.is_null() {
            return Ok(None);
        }
        // SAFETY: not null; the rest is the caller's promise.
        let size = unsafe { size_of_structure(to) }?;
        Ok(Some(Self { to, size }))
    }

    /// Writes what the caller has room for; the rest of its room becomes zero, and its `size` stays.
    pub(super) fn fill(self, value: &T) {
        let known = self.size.min(size_of::<T>());
        let (from, to) = (ptr::from_ref(value).cast::<u8>(), self.to.cast::<u8>());
        // SAFETY: `to` has `size` bytes (the promise of `new`), of which `known` are no more than those of
        // `from`; both are at least SIZE, since a structure begins with its size.
        unsafe {
            ptr::copy_nonoverlapping(from.add(SIZE), to.add(SIZE), known - SIZE);
            ptr::write_bytes(to.add(known), 0, self.size - known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct First {
        size: u32,
        one: u32,
    }
    // SAFETY: two numbers, no padding.
    unsafe impl Versioned for First {
        const SMALLEST: usize = 8;
    }

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Second {
        size: u32,
        one: u32,
        two: u32,
    }
    // SAFETY: three numbers, no padding.
    unsafe impl Versioned for Second {
        const SMALLEST: usize = 8;
    }

    #[test]
    fn an_older_structure_has_zero_where_it_has_no_member() {
        let older = First { size: 8, one: 1 };
        // SAFETY: it has 8 bytes.
        let read = unsafe { read(ptr::from_ref(&older).cast::<Second>()) };
        assert_eq!(read, Ok(Some(Second { size: 8, one: 1, two: 0 })));
    }

    #[test]
    fn a_newer_structure_is_taken_unless_it_asks_for_what_is_not_known() {
        let newer = |two| Second { size: 12, one: 1, two };
        // SAFETY: it has 12 bytes.
        let read = |newer: Second| unsafe { read(ptr::from_ref(&newer).cast::<First>()) };
        assert_eq!(read(newer(0)), Ok(Some(First { size: 12, one: 1 })));
        assert_eq!(read(newer(2)), Err(Refusal::Unknown));
    }

    #[test]
    fn a_size_that_can_be_none_is_refused() {
        for size in [0, 7, 4097, u32::MAX] {
            let mut structure = First { size, one: 1 };
            // SAFETY: the size is looked at first.
            unsafe {
                assert_eq!(read(&structure), Err(Refusal::Size), "{size}");
                assert!(matches!(Room::new(&raw mut structure), Err(Refusal::Size)), "{size}");
            }
        }
    }

    #[test]
    fn a_result_fills_the_room_there_is_and_no_more() {
        let mut place = [Second { size: 8, one: 7, two: 7 }; 2];
        // SAFETY: it says that it has 8 bytes, and has more.
        let room = unsafe { Room::new(&raw mut place[0]) }.unwrap().unwrap();
        room.fill(&Second { size: 99, one: 1, two: 2 });
        assert_eq!(place[0], Second { size: 8, one: 1, two: 7 });

        place[0].size = 16;
        // SAFETY: it says that it has 16 bytes, and has 24.
        let room = unsafe { Room::new(place.as_mut_ptr()) }.unwrap().unwrap();
        room.fill(&Second { size: 99, one: 3, two: 4 });
        assert_eq!(place, [Second { size: 16, one: 3, two: 4 }, Second { size: 0, one: 7, two: 7 }]);
    }

    #[test]
    fn null_pointers_are_nothing() {
        // SAFETY: null is allowed.
        unsafe {
            assert_eq!(text(ptr::null()), None);
            assert_eq!(read(ptr::null::<First>()), Ok(None));
            assert!(matches!(Room::new(ptr::null_mut::<First>()), Ok(None)));
        }
    }
}
