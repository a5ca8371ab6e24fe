//! Requests on a userfaultfd (Documentation/admin-guide/mm/userfaultfd.rst).

use nix::errno::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

const UFFD_API: u64 = 0xAA;
const MODE_MISSING: u64 = 1;
/// Features.
const EVENT_FORK: u64 = 1 << 1;
const EVENT_REMAP: u64 = 1 << 2;
/// Kinds of message (`struct uffd_msg`: the kind in the first byte, three words from the eighth byte on).
const EVENT_FORKED: u8 = 0x13;
const EVENT_REMAPPED: u8 = 0x14;
const MESSAGE_WORDS: usize = 4;

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
///
/// Fork and mremap of the target wait until [`next_event`] has taken their event: no mapping loses its
/// guard unnoticed. Who may not ask for the events of forks (that takes CAP_SYS_PTRACE in the first user
/// namespace) gets those of mremap. Never those of discarded memory (kernel fact 17).
pub(crate) fn enable(guard: BorrowedFd<'_>) -> Result<(), Errno> {
    let ask = |features| request(guard, UFFDIO_API, &mut Api { api: UFFD_API, features, ioctls: 0 });
    match ask(EVENT_FORK | EVENT_REMAP) {
        Err(Errno::EPERM) => ask(EVENT_REMAP),
        result => result,
    }
}

/// What has happened to guarded mappings.
pub(crate) enum Event {
    /// The process has had a child, whose guard this is.
    Forked(OwnedFd),
    /// Memory has moved.
    Moved {
        /// Its old address.
        from: u64,
        /// Its new one.
        to: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Something that needs no answer, such as a thread that waits for a page.
    Other,
}

/// The next event, if there is one. The descriptor must be non-blocking.
pub(crate) fn next_event(guard: BorrowedFd<'_>) -> Result<Option<Event>, Errno> {
    let mut message = [0_u64; MESSAGE_WORDS];
    // SAFETY: the kernel writes at most one message
    let read = unsafe { libc::read(guard.as_raw_fd(), message.as_mut_ptr().cast(), size_of_val(&message)) };
    match Errno::result(read) {
        Ok(_) => {}
        Err(Errno::EAGAIN) => return Ok(None),
        Err(cause) => return Err(cause),
    }
    let [kind, first, second, third] = message;
    Ok(Some(match kind.to_ne_bytes()[0] {
        EVENT_FORKED => {
            let number = RawFd::from_ne_bytes(first_four(first));
            // SAFETY: the kernel has just made it for us
            Event::Forked(unsafe { OwnedFd::from_raw_fd(number) })
        }
        EVENT_REMAPPED => Event::Moved { from: first, to: second, length: third },
        _ => Event::Other,
    }))
}

fn first_four(word: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    [a, b, c, d]
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
/// `when_busy` is called when the kernel does nothing since the mappings are changing: there may be an
/// event to be taken.
pub(crate) fn copy(
    guard: BorrowedFd<'_>,
    address: u64,
    bytes: &[u8],
    page_size: u64,
    when_busy: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
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
        done += advance(result, argument.copied, page_size, when_busy)?;
    }
    Ok(())
}

/// Puts zero pages where pages are missing; passes over the same ones.
pub(crate) fn zero(
    guard: BorrowedFd<'_>,
    address: u64,
    length: u64,
    page_size: u64,
    when_busy: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let step = usize::try_from(page_size).map_err(|_| Errno::EINVAL)?;
    let mut done = 0;
    while done < length {
        let range = Range { start: address + done, length: length - done };
        let mut argument = ZeroPage { range, mode: 0, zeroed: 0 };
        let result = request(guard, UFFDIO_ZEROPAGE, &mut argument);
        done += advance(result, argument.zeroed, step, when_busy)? as u64;
    }
    Ok(())
}

/// Bytes done by one request. EAGAIN means: the target's memory map was busy, go on from there.
fn advance(
    result: Result<(), Errno>,
    done: i64,
    page_size: usize,
    when_busy: &dyn Fn() -> Result<(), Errno>,
) -> Result<usize, Errno> {
    match result {
        Ok(()) | Err(Errno::EAGAIN) if done > 0 => usize::try_from(done).map_err(|_| Errno::EINVAL),
        Err(Errno::EAGAIN) => when_busy().map(|()| 0),
        Ok(()) => Err(Errno::EIO),
        Err(Errno::EEXIST | Errno::ENOENT) => Ok(page_size),
        Err(error) => Err(error),
    }
}
