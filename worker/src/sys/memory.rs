//! Memory of our own, and of the target before we are confined.

use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// Has the C library keep memory of all threads in one place. For each further one it would look at files when
/// that shrinks, which a confined worker may not.
#[cfg(target_env = "gnu")]
pub(crate) fn use_one_arena() {
    // SAFETY: changes nothing that is visible to the language; there is one thread
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Other C libraries have none of these.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn use_one_arena() {}

/// Keeps bytes from being swapped out. They must stay where they are until they are freed.
pub(crate) fn lock(bytes: &[u8]) -> Result<(), Errno> {
    lock_at((bytes.as_ptr().addr(), bytes.len()))
}

/// The same for an address and a length in bytes.
pub(crate) fn lock_at((address, length): (usize, usize)) -> Result<(), Errno> {
    // SAFETY: locking memory changes nothing that is visible to the language
    Errno::result(unsafe { libc::mlock(address as *const libc::c_void, length) }).map(drop)
}

/// How long a page of the target may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the target's memory; the number of bytes read, which may be less than asked for.
///
/// # Errors
/// ETIMEDOUT when a page does not come: a file system of the target's own, or a userfaultfd, may keep it back for
/// ever. The thread that waits for it ends with this process.
pub(crate) fn read_remote(tid: Pid, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let length = buffer.len();
    let bytes = patiently(move || {
        let mut bytes = vec![0_u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length };
        // SAFETY: the kernel writes to the buffer only; the other address is another process's
        let read =
            unsafe { libc::process_vm_readv(tid.as_raw(), &raw const local, 1, &raw const remote, 1, 0) };
        bytes.truncate(Errno::result(read)?.unsigned_abs());
        Ok(bytes)
    })?;
    for (to, from) in buffer.iter_mut().zip(&bytes) {
        *to = *from;
    }
    Ok(bytes.len())
}

/// Writes all bytes to writable memory of the target.
///
/// # Errors
/// As above.
pub(crate) fn write_remote(tid: Pid, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let bytes = Zeroizing::new(bytes.to_vec());
    patiently(move || {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
        // SAFETY: the kernel only reads the bytes; the other address is another process's
        let written =
            unsafe { libc::process_vm_writev(tid.as_raw(), &raw const local, 1, &raw const remote, 1, 0) };
        if Errno::result(written)?.unsigned_abs() == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    })
}

/// Does something that may never end, by a thread that is gone by the time it has ended.
fn patiently<T: Send + 'static>(act: impl FnOnce() -> Result<T, Errno> + Send + 'static) -> Result<T, Errno> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().spawn(move || {
        // nobody listens any more after a while
        let _ = sender.send(act());
    });
    let thread = thread.map_err(|error| error_number(&error))?;
    let outcome = receiver.recv_timeout(PATIENCE).map_err(|_| Errno::ETIMEDOUT)?;
    // what confines this process later confines its own threads only
    thread.join().map_err(|_| Errno::EIO)?;
    outcome
}

/// A way to the target's memory.
pub(crate) enum TargetMemory<'a> {
    /// By one of its threads, until we are confined: the first one may have ended, and has no memory then.
    Thread(Pid),
    /// Through its open memory file. Never where pages may be missing (kernel fact 35).
    File(&'a File),
}

impl TargetMemory<'_> {
    /// Reads the whole buffer.
    pub(crate) fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::Thread(tid) => match read_remote(*tid, address, buffer)? {
                length if length == buffer.len() => Ok(()),
                _ => Err(Errno::EFAULT),
            },
            Self::File(file) => file.read_exact_at(buffer, address).map_err(|error| error_number(&error)),
        }
    }

    /// Writes all bytes.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Thread(tid) => write_remote(*tid, address, bytes),
            Self::File(file) => file.write_all_at(bytes, address).map_err(|error| error_number(&error)),
        }
    }
}

fn error_number(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A plain C structure without padding, of the parasite's interface.
pub(crate) trait Plain: Copy {}
impl Plain for memcr_protocol::parasite::Start {}
impl Plain for memcr_protocol::parasite::Order {}
impl Plain for memcr_protocol::parasite::Range {}
impl Plain for memcr_protocol::parasite::Answer {}

/// Its bytes.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` structures are made of integers and have no padding
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A structure from exactly its bytes.
pub(crate) fn value_of<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: `Plain` structures are made of integers: any bytes are one
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The size of a page in bytes.
pub(crate) fn page_size() -> u64 {
    /// A multiple of every page size, should the library not know it.
    const LARGEST: u64 = 64 * 1024;
    // SAFETY: always sound
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(LARGEST)
}
