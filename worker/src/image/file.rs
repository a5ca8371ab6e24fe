//! What an image needs of the file it is kept in.

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const LARGEST_PAGE: u64 = 64 * 1024;

/// A file that can be read and written at any offset by several threads at a time.
pub(crate) trait ImageFile {
    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// Those of the file; `UnexpectedEof` when it ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the file.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the file.
    fn length(&self) -> io::Result<u64>;

    /// Asks for the next read of this part to come from the medium. Only a wish: what fails is
    /// ignored.
    fn drop_cache(&self, offset: u64, length: u64);
}

/// By pread64, pwrite64, statx (or fstat) and fadvise64.
impl ImageFile for File {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        // Only whole pages are dropped: take in those at both ends, of whatever size.
        let start = offset - offset % LARGEST_PAGE;
        let length = (offset - start).saturating_add(length).saturating_add(LARGEST_PAGE);
        if let (Ok(offset), Ok(length)) = (start.try_into(), length.try_into()) {
            // Without it a read that went wrong would be repeated from the page cache.
            let _ = posix_fadvise(self, offset, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }
}

impl<F: ImageFile + ?Sized> ImageFile for &F {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        (**self).drop_cache(offset, length);
    }
}
