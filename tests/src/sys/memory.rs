//! Mappings with the properties that matter: locked, excluded from core dumps, shared, forbidden.

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, mmap_anonymous, mprotect};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// A mapping, kept until the process ends.
#[derive(Debug)]
pub struct Region {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; access to its bytes needs `&mut`.
unsafe impl Send for Region {}

impl Region {
    /// Private anonymous memory.
    pub fn private(length: usize) -> Self {
        Self::anonymous(length, MapFlags::MAP_PRIVATE)
    }

    /// Shared anonymous memory.
    pub fn shared(length: usize) -> Self {
        Self::anonymous(length, MapFlags::MAP_SHARED)
    }

    /// The start of a file, privately: what is written stays in this process.
    pub fn of_file(file: impl AsFd, length: usize) -> Self {
        let size = NonZeroUsize::new(length).expect("a length");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_PRIVATE, file, 0) };
        Self { start: start.expect("mmap of a file"), length }
    }

    /// The start of a file, as everybody has it, for reading.
    pub fn of_file_shared(file: impl AsFd, length: usize) -> Self {
        let size = NonZeroUsize::new(length).expect("a length");
        // SAFETY: as above.
        let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) };
        Self { start: start.expect("mmap of a file"), length }
    }

    /// The start of a file, as code. Nothing of it is read.
    pub fn of_file_as_code(file: impl AsFd, length: usize) -> Self {
        let size = NonZeroUsize::new(length).expect("a length");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        // SAFETY: as above.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_PRIVATE, file, 0) };
        Self { start: start.expect("mmap of a file"), length }
    }

    /// Its bytes, if nobody writes to them.
    pub fn read_only(&self) -> &[u8] {
        // SAFETY: the mapping lives until the process ends.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }

    fn anonymous(length: usize, flags: MapFlags) -> Self {
        let size = NonZeroUsize::new(length).expect("a length");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as above.
        let start = unsafe { mmap_anonymous(None, size, access, flags) };
        Self { start: start.expect("mmap"), length }
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Its bytes; it must be readable and writable.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours alone and lives until the process ends.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length) }
    }

    /// A counter of all processes that share it, the one of this number.
    pub fn counter(&self, number: usize) -> &'static std::sync::atomic::AtomicU32 {
        assert!((number + 1) * 4 <= self.length, "no counter {number}");
        // SAFETY: inside the mapping, which lives until the process ends, and only ever used as a counter.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(self.start.as_ptr().cast::<u32>().add(number)) }
    }

    /// The bytes of a region that was moved to this address.
    ///
    /// # Safety
    /// The region must be there, as long as the first one was.
    pub unsafe fn at(address: u64, length: usize) -> &'static [u8] {
        // SAFETY: the caller says so.
        unsafe { std::slice::from_raw_parts(address as *const u8, length) }
    }

    /// Locks it into memory.
    pub fn lock(&self) {
        // SAFETY: changes no byte and no protection.
        unsafe { mlock(self.start, self.length) }.expect("mlock (RLIMIT_MEMLOCK?)");
    }

    /// Excludes it from core dumps, as programs do with their secrets.
    pub fn exclude_from_dumps(&self) {
        // SAFETY: changes no byte and no protection.
        unsafe { madvise(self.start, self.length, MmapAdvise::MADV_DONTDUMP) }.expect("MADV_DONTDUMP");
    }

    /// Forbids every access.
    pub fn forbid(&self) {
        self.protect(ProtFlags::PROT_NONE);
    }

    /// Allows reading only.
    pub fn forbid_writing(&self) {
        self.protect(ProtFlags::PROT_READ);
    }

    /// Allows reading only, of a part; whether the kernel has room for one more mapping.
    pub fn forbid_writing_to(&mut self, offset: usize, length: usize) -> bool {
        assert!(offset + length <= self.length, "outside of the region");
        let access = ProtFlags::PROT_READ;
        // SAFETY: within the mapping, and no reference to the bytes is held across this call.
        unsafe { mprotect(self.start.byte_add(offset), length, access) }.is_ok()
    }

    /// Allows reading and writing again.
    pub fn allow(&self) {
        self.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    }

    fn protect(&self, access: ProtFlags) {
        // SAFETY: no reference to the bytes is held across this call.
        unsafe { mprotect(self.start, self.length, access) }.expect("mprotect");
    }
}
