//! Requests on a userfaultfd (Documentation/admin-guide/mm/userfaultfd.rst).

use nix::errno::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const UFFD_API: u64 = 0xAA;
const MODE_MISSING: u64 = 1;

/// Request numbers, also for the seccomp filter.
pub(crate) const UFFDIO_API: libc::Ioctl =
    nix::request_code_readwrite!(0xAA, 0x3F, size_of::<Api>()) as libc::Ioctl;
/// Register a range.
pub(crate) const UFFDIO_REGISTER: libc::Ioctl =
    nix::request_code_readwrite!(0xAA, 0x00, size_of::<Register>()) as libc::Ioctl;
/// Unregister a range.
pub(crate) const UFFDIO_UNREGISTER: libc::Ioctl =
    nix::request_code_read!(0xAA, 0x01, size_of::<Range>()) as libc::Ioctl;
/// Copy bytes into missing pages.
pub(crate) const UFFDIO_COPY: libc::Ioctl =
    nix::request_code_readwrite!(0xAA, 0x03, size_of::<Copy>()) as libc::Ioctl;
/// Map zero pages where pages are missing.
pub(crate) const UFFDIO_ZEROPAGE: libc::Ioctl =
    nix::request_code_readwrite!(0xAA, 0x04, size_of::<ZeroPage>()) as libc::Ioctl;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    length: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Copy {
    destination: u64,
    source: u64,
    length: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct ZeroPage {
    range: Range,
    mode: u64,
    zeroed: i64,
}

fn request<T>(guard: BorrowedFd<'_>, number: libc::Ioctl, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each request below has the structure that its number says
    Errno::result(unsafe { libc::ioctl(guard.as_raw_fd(), number, std::ptr::from_mut(argument)) }).map(drop)
}

/// Agrees on the interface; must come first.
pub(crate) fn enable(guard: BorrowedFd<'_>) -> Result<(), Errno> {
    request(guard, UFFDIO_API, &mut Api { api: UFFD_API, features: 0, ioctls: 0 })
}

/// Guards a range: whoever touches a missing page of it waits.
pub(crate) fn register(guard: BorrowedFd<'_>, start: u64, length: u64) -> Result<(), Errno> {
    let mut argument = Register { range: Range { start, length }, mode: MODE_MISSING, ioctls: 0 };
    request(guard, UFFDIO_REGISTER, &mut argument)
}

/// Ends the guard of a range; whoever waits goes on.
pub(crate) fn unregister(guard: BorrowedFd<'_>, start: u64, length: u64) -> Result<(), Errno> {
    request(guard, UFFDIO_UNREGISTER, &mut Range { start, length })
}

/// Puts bytes into missing pages; goes on where the kernel stopped half-way.
///
/// Pages that are there already (EEXIST: a worker before us put them back) and pages that are not
/// guarded any more (ENOENT: unmapped by a program that ran on when its worker died) are passed over.
pub(crate) fn copy(guard: BorrowedFd<'_>, address: u64, bytes: &[u8], page_size: u64) -> Result<(), Errno> {
    let page_size = usize::try_from(page_size).map_err(|_| Errno::EINVAL)?;
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let mut argument = Copy {
            destination: address + done as u64,
            source: rest.as_ptr() as u64,
            length: rest.len() as u64,
            mode: 0,
            copied: 0,
        };
        let result = request(guard, UFFDIO_COPY, &mut argument);
        done += advance(result, argument.copied, page_size)?;
    }
    Ok(())
}

/// Puts zero pages where pages are missing; passes over the same ones.
pub(crate) fn zero(guard: BorrowedFd<'_>, address: u64, length: u64, page_size: u64) -> Result<(), Errno> {
    let step = usize::try_from(page_size).map_err(|_| Errno::EINVAL)?;
    let mut done = 0;
    while done < length {
        let range = Range { start: address + done, length: length - done };
        let mut argument = ZeroPage { range, mode: 0, zeroed: 0 };
        let result = request(guard, UFFDIO_ZEROPAGE, &mut argument);
        done += advance(result, argument.zeroed, step)? as u64;
    }
    Ok(())
}

/// Bytes done by one request. EAGAIN means: the target's memory map was busy, go on from there.
fn advance(result: Result<(), Errno>, done: i64, page_size: usize) -> Result<usize, Errno> {
    match result {
        Ok(()) | Err(Errno::EAGAIN) => Ok(usize::try_from(done).unwrap_or(0)),
        Err(Errno::EEXIST | Errno::ENOENT) => Ok(page_size),
        Err(error) => Err(error),
    }
}
