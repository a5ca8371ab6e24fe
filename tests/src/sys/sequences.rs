//! Restartable sequences: the area of a thread, registered by the program itself and not by its C library.

/// What there must be before a handler of an interrupted sequence: none here.
const SIGNATURE: u32 = 0x5305_3053;
/// Length of an area, and its alignment.
const LENGTH: usize = 32;

/// An area in memory that is not near to that of the C library, registered for the calling thread.
#[derive(Debug)]
pub struct Sequences(usize);

impl Sequences {
    /// Registers one. The C library must not have done so: `GLIBC_TUNABLES=glibc.pthread.rseq=0`.
    ///
    /// # Panics
    /// When the kernel doesn't take it.
    pub fn register() -> Self {
        let memory: &'static mut [u8] = vec![0; 1 << 20].leak();
        let middle = memory.as_ptr() as usize + memory.len() / 2;
        let area = Self(middle.next_multiple_of(LENGTH));
        assert_eq!(area.ask(), Ok(()), "rseq");
        area
    }

    /// Whether it still is the thread's.
    pub fn are_registered(&self) -> bool {
        self.ask() == Err(nix::errno::Errno::EBUSY)
    }

    fn ask(&self) -> Result<(), nix::errno::Errno> {
        // SAFETY: memory that is never given back, which the kernel may write to from now on
        let result = unsafe { libc::syscall(libc::SYS_rseq, self.0, LENGTH, 0, SIGNATURE) };
        nix::errno::Errno::result(result).map(drop)
    }
}
