//! ptrace requests (ptrace(2); kernel: include/uapi/linux/ptrace.h).

use crate::arch::{self, General, Registers, VECTOR_LIMIT, VECTOR_STATES, VectorState};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::ptr;

/// General registers (include/uapi/linux/elf.h).
const NT_PRSTATUS: usize = 1;

/// Options of a traced thread.
pub(crate) const TRACE_SYSGOOD: usize = libc::PTRACE_O_TRACESYSGOOD as usize;
/// The thread dies with its tracer.
pub(crate) const EXIT_KILL: usize = libc::PTRACE_O_EXITKILL as usize;

/// Where a thread's rseq area is: `struct ptrace_rseq_configuration`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct RseqConfiguration {
    /// Address; 0 if the thread has registered none.
    pub(crate) address: u64,
    /// Length in bytes.
    pub(crate) length: u32,
    signature: u32,
    flags: u32,
    padding: u32,
}

/// A request whose arguments are plain numbers.
fn request(request: libc::c_uint, tid: Pid, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: none of the requests made through here reads or writes our memory
    let result = unsafe { libc::ptrace(request, tid.as_raw(), address, data) };
    Errno::result(result).map(drop)
}

/// Becomes the tracer of a thread without stopping it.
pub(crate) fn seize(tid: Pid, options: usize) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, 0, options)
}

/// Asks a seized thread to stop.
pub(crate) fn interrupt(tid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Lets a stopped thread go on, with a signal (0: none).
pub(crate) fn resume(tid: Pid, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize)
}

/// Lets a stopped thread go on to the next entry or exit of a system call.
pub(crate) fn resume_to_system_call(tid: Pid, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, tid, 0, signal as usize)
}

/// Stops tracing a stopped thread, which goes on, with a signal (0: none).
pub(crate) fn detach(tid: Pid, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize)
}

/// Replaces the options of a stopped thread.
pub(crate) fn set_options(tid: Pid, options: usize) -> Result<(), Errno> {
    request(libc::PTRACE_SETOPTIONS, tid, 0, options)
}

/// The mask of blocked signals of a stopped thread.
pub(crate) fn signal_mask(tid: Pid) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the 8 bytes that the request says
    let result = unsafe { libc::ptrace(PTRACE_GETSIGMASK, tid.as_raw(), size_of::<u64>(), &raw mut mask) };
    Errno::result(result).map(|_| mask)
}

/// Signals queued for a stopped thread alone, as a set.
pub(crate) fn queued_signals(tid: Pid) -> Result<u64, Errno> {
    let mut set = 0;
    look_at_queue(tid, |information| set |= signal_bit(information.si_signo))?;
    Ok(set)
}

/// Whether a SIGSYS is queued for a stopped thread with which a seccomp filter answered a call.
pub(crate) fn has_queued_trap(tid: Pid) -> Result<bool, Errno> {
    /// The code of a SIGSYS by which a filter answers (asm-generic/siginfo.h).
    const ANSWER_OF_FILTER: i32 = 1;
    let mut found = false;
    let is_trap = |information: &libc::siginfo_t| {
        information.si_signo == libc::SIGSYS && information.si_code == ANSWER_OF_FILTER
    };
    look_at_queue(tid, |information| found |= is_trap(information))?;
    Ok(found)
}

fn look_at_queue(tid: Pid, mut see: impl FnMut(&libc::siginfo_t)) -> Result<(), Errno> {
    const AT_ONCE: usize = 16;
    let mut arguments =
        libc::ptrace_peeksiginfo_args { off: 0, flags: 0, nr: i32::try_from(AT_ONCE).unwrap_or(1) };
    loop {
        // SAFETY: siginfo_t is plain data for which all zeros is valid
        let mut found: [libc::siginfo_t; AT_ONCE] = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel reads the arguments and writes at most `nr` elements
        let count = unsafe {
            libc::ptrace(
                PTRACE_PEEKSIGINFO,
                tid.as_raw(),
                &raw const arguments,
                found.as_mut_ptr().cast::<libc::c_void>(),
            )
        };
        let count = usize::try_from(Errno::result(count)?).unwrap_or(0);
        found.iter().take(count).for_each(&mut see);
        if count < AT_ONCE {
            return Ok(());
        }
        arguments.off += count as u64;
    }
}

/// The bit of a signal in a set.
pub(crate) fn signal_bit(signal: i32) -> u64 {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0)
}

/// Replaces the mask of blocked signals of a stopped thread.
pub(crate) fn set_signal_mask(tid: Pid, mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads the 8 bytes that the request says
    let result = unsafe { libc::ptrace(PTRACE_SETSIGMASK, tid.as_raw(), size_of::<u64>(), &raw const mask) };
    Errno::result(result).map(drop)
}

pub(crate) const PTRACE_PEEKSIGINFO: libc::c_uint = 0x4209;
pub(crate) const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
pub(crate) const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
pub(crate) const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
pub(crate) const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;

/// The general registers of a stopped thread; `None` if it has another register set than ours (a
/// 32-bit program).
pub(crate) fn registers(tid: Pid) -> Result<Option<Registers>, Errno> {
    let mut registers = Registers::zeroed();
    let mut vector =
        libc::iovec { iov_base: (&raw mut registers.general).cast(), iov_len: size_of::<General>() };
    // SAFETY: the kernel writes at most iov_len bytes to the registers
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid.as_raw(), NT_PRSTATUS, &raw mut vector) };
    Errno::result(result)?;
    Ok((vector.iov_len == size_of::<General>()).then_some(registers))
}

/// Replaces the general registers of a stopped thread; in what call it was is forgotten.
pub(crate) fn set_registers(tid: Pid, registers: &Registers) -> Result<(), Errno> {
    arch::set_call(tid, None)?;
    let general = ptr::from_ref(&registers.general);
    let mut vector = libc::iovec { iov_base: general.cast_mut().cast(), iov_len: size_of::<General>() };
    // SAFETY: the kernel only reads the registers
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid.as_raw(), NT_PRSTATUS, &raw mut vector) };
    Errno::result(result).map(drop)
}

/// The floating-point and vector state of a stopped thread.
pub(crate) fn vector_state(tid: Pid) -> Result<VectorState, Errno> {
    let mut sets = Vec::new();
    for kinds in VECTOR_STATES {
        match whole_set(tid, kinds) {
            Ok(set) => sets.push(set),
            // not in use, or not of this processor
            Err(Errno::EINVAL | Errno::ENODATA | Errno::ENODEV) if !sets.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(VectorState(sets))
}

/// What the lengths of all such sets are multiples of, in bytes.
const UNIT: usize = 16;

/// The first of these register sets that is all of the state.
fn whole_set(tid: Pid, kinds: &[usize]) -> Result<(usize, Vec<u8>), Errno> {
    let mut error = Errno::EINVAL;
    for &kind in kinds {
        match register_set(tid, kind, VECTOR_LIMIT + UNIT) {
            Ok(mut bytes) => match arch::vector_state_length(kind, &bytes) {
                // the kernel cuts off there what is longer, without a word
                Some(length) if length > VECTOR_LIMIT => return Err(Errno::E2BIG),
                Some(length) => {
                    bytes.truncate(length);
                    return Ok((kind, bytes));
                }
                None => {}
            },
            Err(cause) => error = cause,
        }
    }
    Err(error)
}

/// Replaces it.
pub(crate) fn set_vector_state(tid: Pid, state: &VectorState) -> Result<(), Errno> {
    state.0.iter().try_for_each(|(kind, bytes)| set_register_set(tid, *kind, bytes))
}

/// A word by a request that not every architecture has.
#[allow(dead_code, reason = "see above")]
pub(crate) fn word(tid: Pid, by: libc::c_uint) -> Result<u32, Errno> {
    let mut word = 0_u32;
    // SAFETY: the requests used with it write one word
    let result = unsafe { libc::ptrace(by, tid.as_raw(), 0_usize, &raw mut word) };
    Errno::result(result).map(|_| word)
}

/// A register set as bytes.
pub(crate) fn register_set(tid: Pid, kind: usize, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; limit];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel writes at most iov_len bytes
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid.as_raw(), kind, &raw mut vector) };
    Errno::result(result)?;
    bytes.truncate(vector.iov_len);
    Ok(bytes)
}

/// Replaces a register set.
pub(crate) fn set_register_set(tid: Pid, kind: usize, bytes: &[u8]) -> Result<(), Errno> {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel only reads the bytes
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid.as_raw(), kind, &raw mut vector) };
    Errno::result(result).map(drop)
}

/// The call that a thread is stopped at the entry of, as the kernel counts them, and its first argument.
pub(crate) fn entered_call(tid: Pid) -> Result<Option<(libc::c_long, u64)>, Errno> {
    let CallInformation { kind, number, first_argument, .. } = call_information(tid)?;
    Ok((kind == ENTRY).then_some((number as libc::c_long, first_argument)))
}

/// The first argument of the call that a stopped thread has just left: the kernel keeps it, and tells it of a thread that
/// a seccomp filter has stopped. So this one gets the marks of such a stop, which nothing else looks at.
pub(crate) fn first_argument(tid: Pid) -> Result<u64, Errno> {
    // SAFETY: siginfo_t is plain data for which all zeros is valid
    let mut marks: libc::siginfo_t = unsafe { std::mem::zeroed() };
    marks.si_signo = libc::SIGTRAP;
    marks.si_code = libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8;
    // SAFETY: the kernel reads the marks
    let result = unsafe { libc::ptrace(libc::PTRACE_SETSIGINFO, tid.as_raw(), 0_usize, &raw const marks) };
    Errno::result(result)?;
    let CallInformation { kind, first_argument, .. } = call_information(tid)?;
    if kind == SECCOMP { Ok(first_argument) } else { Err(Errno::EIO) }
}

fn call_information(tid: Pid) -> Result<CallInformation, Errno> {
    let mut told = CallInformation::default();
    // SAFETY: the kernel writes at most the length given
    let result = unsafe {
        libc::ptrace(PTRACE_GET_SYSCALL_INFO, tid.as_raw(), size_of::<CallInformation>(), &raw mut told)
    };
    Errno::result(result).map(|_| told)
}

/// The first part of `struct ptrace_syscall_info`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct CallInformation {
    kind: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    number: u64,
    first_argument: u64,
}

/// Kinds of stops that it tells of.
const ENTRY: u8 = 1;
const SECCOMP: u8 = 3;

/// Has a thread enter another call than it is stopped at the entry of, by a request that not every architecture has.
#[allow(dead_code, reason = "see above")]
pub(crate) fn set_entered_call(tid: Pid, by: libc::c_uint, number: libc::c_long) -> Result<(), Errno> {
    request(by, tid, 0, usize::try_from(number).map_err(|_| Errno::EINVAL)?)
}

/// Where the rseq area of a stopped thread is.
pub(crate) fn rseq_configuration(tid: Pid) -> Result<RseqConfiguration, Errno> {
    let mut configuration = RseqConfiguration::default();
    // SAFETY: the kernel writes at most the length given
    let result = unsafe {
        libc::ptrace(
            PTRACE_GET_RSEQ_CONFIGURATION,
            tid.as_raw(),
            size_of::<RseqConfiguration>(),
            &raw mut configuration,
        )
    };
    Errno::result(result).map(|_| configuration)
}

/// Writes into the target's memory, whatever its protection.
pub(crate) fn write(tid: Pid, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    for (place, word) in (address..).step_by(size_of::<usize>()).zip(bytes.chunks(size_of::<usize>())) {
        let mut padded = [0; size_of::<usize>()];
        for (to, from) in padded.iter_mut().zip(word) {
            *to = *from;
        }
        let place = usize::try_from(place).map_err(|_| Errno::EFAULT)?;
        request(libc::PTRACE_POKEDATA, tid, place, usize::from_ne_bytes(padded))?;
    }
    Ok(())
}

/// What a wait tells of a traced thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Stopped as asked: nothing of the program runs until it is resumed.
    Trap,
    /// The same, and by job control: it is to stay stopped when nobody traces it any more.
    JobControl,
    /// At the entry or exit of a system call.
    SystemCall,
    /// About to receive this signal.
    Signal(i32),
    /// Gone.
    Exited,
}

/// The next traced thread that has stopped or exited, if there is one.
pub(crate) fn next_stop() -> Result<Option<(Pid, Stop)>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes the status
    let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    match Errno::result(tid) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(tid) => Ok(Some((Pid::from_raw(tid), classify(status)))),
        Err(error) => Err(error),
    }
}

fn classify(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Exited;
    }
    if status >> 16 == libc::PTRACE_EVENT_STOP {
        return if libc::WSTOPSIG(status) == libc::SIGTRAP { Stop::Trap } else { Stop::JobControl };
    }
    match libc::WSTOPSIG(status) {
        signal if signal == libc::SIGTRAP | 0x80 => Stop::SystemCall,
        signal => Stop::Signal(signal),
    }
}
