//! The orders: open, close, free.

use crate::arch::{number, system_call};
use crate::files::{close, farewell, open_at};
use crate::kernel::{
    MADV_DONTNEED, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, PR_SET_DUMPABLE, UFFD_USER_MODE_ONLY,
    USERFAULTFD_IOC_NEW,
};
use crate::{meeting, socket};
use memcr_protocol::parasite::{
    Answer, BUFFER_LENGTH, CLOSE, FREE, MAX_RANGES, OPEN, Order, PROTECTED, Range, Start, UNKNOWN_ORDER,
};

/// What the parasite has opened; -1 where there is nothing.
struct Opened {
    directory: i32,
    device: i32,
    memory: i32,
    pagemap: i32,
    guard: i32,
}

/// Meets the worker and serves it until its end closes; the address of the frame that leads home.
///
/// # Safety
/// `start` and all it points to must be mapped and the parasite's own; only the entry code calls it.
pub unsafe extern "C" fn serve(start: *mut Start) -> u64 {
    // SAFETY: the worker wrote all of it before it started this thread
    let (home, buffer) = unsafe { ((*start).home, (*start).buffer) };
    // SAFETY: as above
    let mut socket = unsafe { meeting::meet(start) };
    if socket >= 0 {
        // SAFETY: the worker made the buffer that long, for this loop only
        unsafe { take_orders(socket, buffer as *mut u8) };
    }
    // after all else: as long as it is open, memory may be being freed
    close(&mut socket);
    farewell();
    home
}

/// Does what the worker wants until its end closes, and closes what was opened for that.
///
/// # Safety
/// `buffer` must point to `BUFFER_LENGTH` writable bytes that nobody else uses, on a page boundary.
unsafe fn take_orders(socket: i32, buffer: *mut u8) {
    let mut opened = Opened { directory: -1, device: -1, memory: -1, pagemap: -1, guard: -1 };
    let mut freeing = false;
    loop {
        // SAFETY: the buffer is that long
        let (received, descriptors) = unsafe { socket::receive(socket, buffer, BUFFER_LENGTH) };
        if received < size_of::<Order>() as isize {
            break;
        }
        // SAFETY: the packet is as long as an order, in a buffer on a page boundary
        let order = unsafe { *buffer.cast::<Order>() };
        let answer = match order.command {
            OPEN => {
                open(&mut opened, socket, descriptors, order.count == PROTECTED);
                continue;
            }
            CLOSE => close_all_but_guard(&mut opened),
            FREE => {
                freeing = true;
                // SAFETY: ranges follow the order in the same buffer
                unsafe { free(buffer.add(size_of::<Order>()).cast(), order.count, received) }
            }
            _ => Answer { status: UNKNOWN_ORDER, done: 0, numbers: [-1; 4] },
        };
        socket::send(socket, &answer);
    }
    // the worker is gone: leave nothing behind but a guard that may be in use
    close_all_but_guard(&mut opened);
    if !freeing {
        close(&mut opened.guard);
    }
}

/// Opens memory and page map below the target's /proc directory, then a userfaultfd, and hands them over.
///
/// One that is protected is so again before anything else is done, whatever becomes of the worker meanwhile.
fn open(opened: &mut Opened, socket: i32, [directory, device]: [i32; 2], is_protected: bool) {
    opened.directory = directory;
    opened.device = device;
    if is_protected {
        set_dumpable(1);
    }
    opened.memory = open_at(directory, c"mem", O_RDWR);
    opened.pagemap = open_at(directory, c"pagemap", O_RDONLY);
    if is_protected {
        set_dumpable(0);
    }
    let (guard, full) = open_guard(device);
    opened.guard = guard;
    // the target and its relatives are to have it no longer than that
    close(&mut opened.device);
    let all = [opened.memory, opened.pagemap, guard];
    let mut answer =
        Answer { status: 0, done: 0, numbers: [opened.memory, opened.pagemap, guard, i32::from(full)] };
    let failed = [(1, directory), (2, opened.memory), (3, opened.pagemap), (4, guard)];
    for (step, result) in failed {
        if result < 0 && answer.status == 0 {
            answer.status = i64::from(result);
            answer.done = step;
        }
    }
    if answer.status == 0 {
        let sent = socket::send_with(socket, &answer, all);
        if sent >= 0 {
            return;
        }
        answer.status = sent as i64;
        answer.done = 5;
    }
    socket::send(socket, &answer);
}

/// Lets others of the target's user read its memory, or not.
fn set_dumpable(value: usize) {
    // SAFETY: takes no pointer; if it fails, what is opened next fails too
    unsafe { system_call(number::PRCTL, [PR_SET_DUMPABLE, value, 0, 0, 0, 0]) };
}

/// A userfaultfd and whether it is full: from the device, else as the target is allowed to.
fn open_guard(device: i32) -> (i32, bool) {
    let flags = O_CLOEXEC | O_NONBLOCK;
    if device >= 0 {
        // SAFETY: takes no pointer
        let guard =
            unsafe { system_call(number::IOCTL, [device as usize, USERFAULTFD_IOC_NEW, flags, 0, 0, 0]) }
                as i32;
        if guard >= 0 {
            return (guard, true);
        }
    }
    // SAFETY: takes no pointer
    let guard = unsafe { system_call(number::USERFAULTFD, [flags, 0, 0, 0, 0, 0]) } as i32;
    if guard >= 0 {
        return (guard, true);
    }
    // SAFETY: takes no pointer
    let guard =
        unsafe { system_call(number::USERFAULTFD, [flags | UFFD_USER_MODE_ONLY, 0, 0, 0, 0, 0]) } as i32;
    (guard, false)
}

fn close_all_but_guard(opened: &mut Opened) -> Answer {
    close(&mut opened.directory);
    close(&mut opened.device);
    close(&mut opened.memory);
    close(&mut opened.pagemap);
    Answer { status: 0, done: 0, numbers: [-1; 4] }
}

/// Frees the ranges; stops at the first that fails.
///
/// # Safety
/// `ranges` must point into the packet buffer, `received` be the length of its packet.
unsafe fn free(ranges: *const Range, count: u32, received: isize) -> Answer {
    let mut answer = Answer { status: 0, done: 0, numbers: [-1; 4] };
    let there = (received as usize).wrapping_sub(size_of::<Order>()) / size_of::<Range>();
    let count = count as usize;
    if count > MAX_RANGES || count > there {
        answer.status = UNKNOWN_ORDER;
        return answer;
    }
    let mut index = 0;
    while index < count {
        // SAFETY: below the number of ranges that the packet holds
        let range = unsafe { *ranges.add(index) };
        // SAFETY: the worker has written these pages to the image and guards them
        let result = unsafe {
            system_call(
                number::MADVISE,
                [range.address as usize, range.length as usize, MADV_DONTNEED, 0, 0, 0],
            )
        };
        if result < 0 {
            answer.status = result as i64;
            break;
        }
        index = index.wrapping_add(1);
        answer.done = index as u64;
    }
    answer
}
