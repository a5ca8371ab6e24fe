//! Meeting the worker: by a pair of sockets, or under a name that nobody else knows.
//!
//! The worker stops this thread behind listen(2) and has connected when it goes on. So whoever is to be let in
//! is there already, and nobody is waited for: a parasite whose worker is dead goes home at once.

use crate::arch::{O_NOFOLLOW, number, system_call};
use crate::files::close;
use crate::kernel::{
    AF_UNIX, AT_EMPTY_PATH, AT_FDCWD, MSG_DONTWAIT, O_CLOEXEC, O_NONBLOCK, O_PATH, S_IFMT, S_IFSOCK,
    SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, STATX_LENGTH, STATX_MODE, STATX_TYPE,
};
use crate::socket;
use core::mem::MaybeUninit;
use memcr_protocol::parasite::{NO_GROUP, Name, Start, TOKEN_LENGTH};

/// Bytes of an address before its path.
const FAMILY_LENGTH: usize = 2;

/// The socket to the worker; negative if they did not meet. Nothing else is left open then.
///
/// # Safety
/// `start` must be the parasite's own, written by the worker.
pub(crate) unsafe fn meet(start: *mut Start) -> i32 {
    // SAFETY: the worker wrote it there, and nobody writes to it any more
    let name = unsafe { &(*start).name };
    if name.length > 0 {
        return by_name(name);
    }
    // the worker stops this thread behind the call and takes the first of the pair
    // SAFETY: nobody else writes to these
    if unsafe { socket::pair((&raw mut (*start).sockets).cast()) } < 0 {
        return -1;
    }
    // SAFETY: the kernel has written them
    let [mut theirs, own] = unsafe { (&raw const (*start).sockets).read_volatile() };
    close(&mut theirs);
    own
}

/// Listens, and takes the worker's connection from those that are there. The worker looks at each call and its
/// result: what fails first is the reason that it gives.
fn by_name(name: &Name) -> i32 {
    let kind = SOCK_SEQPACKET | O_CLOEXEC | O_NONBLOCK;
    // SAFETY: takes no pointer
    let mut listener = unsafe { system_call(number::SOCKET, [AF_UNIX, kind, 0, 0, 0, 0]) } as i32;
    let mut connection = -1;
    if listener >= 0 && bind(listener, name) {
        if hand_over_file(name) && listen(listener, name) {
            connection = accept(listener, name);
        }
        if name.mode != 0 {
            // SAFETY: the kernel reads the path only, which ends with a zero
            unsafe { system_call(number::UNLINKAT, [AT_FDCWD, path(name), 0, 0, 0, 0]) };
        }
    }
    close(&mut listener);
    connection
}

/// Address of the path.
fn path(name: &Name) -> usize {
    (name.address.as_ptr() as usize).wrapping_add(FAMILY_LENGTH)
}

/// Gives it its name. The file has its mode from the beginning: chmod(2) afterwards could be made to change
/// another file by whoever may write to the directory.
fn bind(listener: i32, name: &Name) -> bool {
    let listener = listener as usize;
    let address = name.address.as_ptr() as usize;
    let mut mask = 0;
    if name.mode != 0 {
        // SAFETY: takes no pointer
        if unsafe { system_call(number::FCHMOD, [listener, name.mode as usize, 0, 0, 0, 0]) } < 0 {
            return false;
        }
        // SAFETY: takes no pointer
        mask = unsafe { system_call(number::UMASK, [0; 6]) } as usize;
    }
    // SAFETY: the kernel reads the address only
    let bound = unsafe { system_call(number::BIND, [listener, address, name.length as usize, 0, 0, 0]) };
    if name.mode != 0 {
        // SAFETY: takes no pointer
        unsafe { system_call(number::UMASK, [mask, 0, 0, 0, 0, 0]) };
    }
    bound >= 0
}

/// Gives the file to its group, if it is the socket: no file that somebody has put in its place.
fn hand_over_file(name: &Name) -> bool {
    if name.group == NO_GROUP {
        return true;
    }
    let flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    // SAFETY: the kernel reads the path only, which ends with a zero
    let mut file = unsafe { system_call(number::OPENAT, [AT_FDCWD, path(name), flags, 0, 0, 0]) } as i32;
    let empty = c"".as_ptr() as usize;
    let same_user = usize::MAX;
    let is_given = file >= 0 && is_socket(file) && {
        let arguments = [file as usize, empty, same_user, name.group as usize, AT_EMPTY_PATH, 0];
        // SAFETY: the kernel reads the empty path only
        unsafe { system_call(number::FCHOWNAT, arguments) >= 0 }
    };
    close(&mut file);
    is_given
}

fn is_socket(file: i32) -> bool {
    let mut status = MaybeUninit::<[u64; STATX_LENGTH / 8]>::uninit();
    let (empty, status) = (c"".as_ptr() as usize, status.as_mut_ptr());
    let arguments = [file as usize, empty, AT_EMPTY_PATH, STATX_TYPE, status as usize, 0];
    // SAFETY: the kernel reads the empty path, and writes a `struct statx`
    let told = unsafe { system_call(number::STATX, arguments) };
    // SAFETY: within what the kernel has written, on a boundary of two bytes
    told >= 0 && unsafe { status.cast::<u8>().add(STATX_MODE).cast::<u16>().read() } & S_IFMT == S_IFSOCK
}

fn listen(listener: i32, name: &Name) -> bool {
    // SAFETY: takes no pointer
    unsafe { system_call(number::LISTEN, [listener as usize, name.backlog as usize, 0, 0, 0, 0]) >= 0 }
}

/// The worker's connection among those that are there; negative if it is not. One more than the backlog can wait,
/// and the worker's is one of these.
fn accept(listener: i32, name: &Name) -> i32 {
    let mut looked_at = 0;
    while looked_at <= name.backlog {
        // SAFETY: takes no pointer but two that are none
        let accepted =
            unsafe { system_call(number::ACCEPT4, [listener as usize, 0, 0, O_CLOEXEC, 0, 0]) } as i32;
        if accepted < 0 || (is_peer(accepted, name) && has_token(accepted, name)) {
            return accepted;
        }
        let mut stranger = accepted;
        close(&mut stranger);
        looked_at = looked_at.wrapping_add(1);
    }
    -1
}

/// `struct ucred`.
#[repr(C)]
struct Credentials {
    pid: i32,
    uid: u32,
    gid: u32,
}

/// Whether the kernel names the worker at the other end.
fn is_peer(connection: i32, name: &Name) -> bool {
    let mut peer = Credentials { pid: -1, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<Credentials>() as u32;
    let level = SOL_SOCKET as usize;
    let (to, size) = (&raw mut peer as usize, &raw mut length as usize);
    // SAFETY: the kernel writes at most as many bytes as it is told, and that number
    let told =
        unsafe { system_call(number::GETSOCKOPT, [connection as usize, level, SO_PEERCRED, to, size, 0]) };
    told >= 0 && peer.pid == name.peer_pid && peer.uid == name.peer_uid
}

/// Whether it has sent what only the worker knows, and nothing more.
fn has_token(connection: i32, name: &Name) -> bool {
    // one byte more than is expected, so that a longer packet shows
    let mut bytes = [0; TOKEN_LENGTH + 1];
    let to = bytes.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most that many bytes
    let received = unsafe {
        system_call(number::RECVFROM, [connection as usize, to, TOKEN_LENGTH + 1, MSG_DONTWAIT, 0, 0])
    };
    // not by ==, which calls a library
    let differences = bytes.iter().zip(&name.token).fold(0, |all, (one, other)| all | (one ^ other));
    received == TOKEN_LENGTH as isize && differences == 0
}
