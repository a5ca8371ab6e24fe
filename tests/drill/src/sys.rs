//! System calls as an attacker makes them: by number, with whatever arguments.

use crate::Refused;
use std::ffi::CString;

/// Makes a call. Addresses among the arguments are those of memory of the caller's that lives as long, and is as
/// large as the call wants it.
pub(crate) fn make_call(name: &'static str, number: libc::c_long, arguments: &[u64]) -> Result<u64, Refused> {
    let [a, b, c, d, e, f] = std::array::from_fn(|index| arguments.get(index).copied().unwrap_or(0));
    // SAFETY: nobody but tests builds this; what the kernel reads and writes is the caller's, as said above
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    u64::try_from(result).map_err(|_| Refused { call: name, number: last_error() })
}

/// Makes a call; its name is that of its number.
macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        $crate::sys::make_call(stringify!($number).trim_start_matches("SYS_"), libc::$number, &[$($argument as u64),*])
    };
}
pub(crate) use call;

/// Maps memory of our own; not every architecture has the call under the same name.
pub(crate) fn map(length: usize, protection: libc::c_int) -> Result<u64, Refused> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, at no address that anybody has
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        Err(Refused { call: "mmap", number: last_error() })
    } else {
        Ok(address as u64)
    }
}

fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Writes bytes to a descriptor.
pub(crate) fn write(descriptor: i32, bytes: &[u8]) {
    let _ = call!(SYS_write, descriptor, address(bytes), bytes.len());
}

/// Where bytes are.
pub(crate) fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

/// Where bytes are that the kernel may write.
pub(crate) fn room(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as u64
}

/// A text for the kernel.
pub(crate) struct Text(CString);

impl Text {
    /// Ends at the first byte 0.
    pub(crate) fn new(text: &str) -> Self {
        Self(CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default())
    }

    /// Where it is.
    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

/// Forks; the child does `act` and ends.
pub(crate) fn fork_and(flags: libc::c_int, act: impl FnOnce()) -> Result<u64, Refused> {
    let child = make_call("clone", libc::SYS_clone, &[flags as u64, 0, 0, 0, 0])?;
    if child == 0 {
        act();
        let _ = make_call("exit_group", libc::SYS_exit_group, &[0]);
    }
    Ok(child)
}
