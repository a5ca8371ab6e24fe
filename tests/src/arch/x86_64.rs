//! All general and vector registers of x86-64, the flags, the rounding mode and the red zone.

use std::arch::asm;
use std::sync::atomic::AtomicU32;

/// Whether registers tell the kernel which call a thread waited in, so that it goes on as if nobody had been there.
pub const KEEPS_CALLS: bool = true;

/// A whole 32-bit program (ELF for the i386) that writes `ready` and then waits for ever.
pub const NARROW_PROGRAM: Option<&[u8]> = Some(&[
    // ELF header: 32 bit, little endian, executable, i386, entry at 0x08048054
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04,
    0x08, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // one segment: all of this file, readable and executable, at 0x08048000
    1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x80, 0x04, 0x08, 0x00, 0x80, 0x04, 0x08, 0x7b, 0, 0, 0, 0x7b, 0, 0, 0, 5,
    0, 0, 0, 0x00, 0x10, 0, 0, 0xb8, 4, 0, 0, 0, // mov eax, 4 (write)
    0xbb, 1, 0, 0, 0, // mov ebx, 1
    0xb9, 0x75, 0x80, 0x04, 0x08, // mov ecx, the text
    0xba, 6, 0, 0, 0, // mov edx, 6
    0xcd, 0x80, // int 0x80
    0xb8, 29, 0, 0, 0, // mov eax, 29 (pause)
    0xcd, 0x80, // int 0x80
    0xeb, 0xf7, // again
    0x90, 0x90, // to the text
    b'r', b'e', b'a', b'd', b'y', b'\n',
]);

/// Fills the registers from `seed`, spins `spins` rounds without touching them, and looks whether
/// they still hold the same.
pub fn holds_registers(seed: u64, spins: u64) -> bool {
    let wide = std::arch::is_x86_feature_detected!("avx");
    holds_general_registers(seed, spins) && holds_red_zone(seed, spins) && {
        if wide { holds_wide_registers(seed, spins) } else { holds_narrow_registers(seed, spins) }
    }
}

/// Has `turns` children, `spins` rounds apart, which `count` counts; whether this is such a child. Between
/// two system calls nothing is touched but registers, this code and `count`.
pub fn forks_by_registers(turns: u64, count: &AtomicU32, spins: u64) -> bool {
    let result: u64;
    // SAFETY: the child has a copy of all memory; only declared registers change.
    unsafe {
        asm!(
            "2:", "mov rcx, r12", "3:", "dec rcx", "jnz 3b",
            "mov eax, 57", "syscall",
            "test rax, rax", "jz 4f", "js 5f",
            "lock inc dword ptr [r14]",
            "5:", "dec r13", "jnz 2b",
            "4:",
            in("r12") spins.max(1), inout("r13") turns.max(1) => _, in("r14") count.as_ptr(),
            out("rax") result, out("rcx") _, out("r11") _,
        );
    }
    result == 0
}

/// Moves `length` bytes of memory `turns` times between two places; where they are then. Touches nothing
/// else, as above.
pub fn moves_by_registers(turns: u64, spins: u64, length: usize, [from, to]: [u64; 2]) -> u64 {
    let place: u64;
    // SAFETY: the caller owns both places and looks at neither meanwhile; only declared registers change.
    unsafe {
        asm!(
            "2:", "mov rcx, r12", "3:", "dec rcx", "jnz 3b",
            // mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to)
            "mov eax, 25", "mov rdi, r14", "mov rsi, r9", "mov rdx, r9", "mov r10, 3", "mov r8, r15", "syscall",
            "cmp rax, r15", "jne 4f", // it failed: it is where it was
            "xchg r14, r15",
            "dec r13", "jnz 2b",
            "4:",
            in("r12") spins.max(1), inout("r13") turns.max(1) => _, in("r9") length,
            inout("r14") from => place, inout("r15") to => _,
            out("rax") _, out("rcx") _, out("r11") _, out("rdi") _, out("rsi") _, out("rdx") _,
            out("r10") _, out("r8") _,
        );
    }
    place
}

/// Spins `spins` rounds right behind the instruction of a system call, with the number of EINTR where that call has its result:
/// what a thread looks like that comes out of a signal handler. False if that call was made again.
pub fn is_not_taken_for_interrupted(spins: u64) -> bool {
    let calls: u64;
    // SAFETY: getpid(2), which changes nothing; every register that is changed is declared.
    unsafe {
        asm!(
            "xor esi, esi", "syscall",
            "2:", "test rax, rax", "jns 4f",
            "3:", "dec rdx", "jnz 2b", "jmp 5f",
            "4:", "inc rsi", "mov rax, -4", "jmp 3b",
            "5:",
            inout("rax") libc::SYS_getpid => _, inout("rdx") spins.max(1) => _, out("rsi") calls,
            out("rcx") _, out("r11") _,
        );
    }
    calls == 1
}

/// The sixteen AVX registers and the SSE control word, which is set to another rounding mode.
fn holds_wide_registers(seed: u64, spins: u64) -> bool {
    let given: [u64; 64] = std::array::from_fn(|index| seed.wrapping_mul(2 * index as u64 + 1));
    let mut found = [0_u64; 64];
    let mut control = [0x5f80_u32, 0, 0]; // masked exceptions, round up; the old one; the one found
    // SAFETY: reads 512 bytes of `given`, writes as many of `found` and three words of `control`,
    // all of which outlive the block; every register that is changed is declared.
    unsafe {
        asm!(
            "stmxcsr [{control} + 4]", "ldmxcsr [{control}]",
            "vmovdqu ymm0, [{given}]", "vmovdqu ymm1, [{given} + 32]",
            "vmovdqu ymm2, [{given} + 64]", "vmovdqu ymm3, [{given} + 96]",
            "vmovdqu ymm4, [{given} + 128]", "vmovdqu ymm5, [{given} + 160]",
            "vmovdqu ymm6, [{given} + 192]", "vmovdqu ymm7, [{given} + 224]",
            "vmovdqu ymm8, [{given} + 256]", "vmovdqu ymm9, [{given} + 288]",
            "vmovdqu ymm10, [{given} + 320]", "vmovdqu ymm11, [{given} + 352]",
            "vmovdqu ymm12, [{given} + 384]", "vmovdqu ymm13, [{given} + 416]",
            "vmovdqu ymm14, [{given} + 448]", "vmovdqu ymm15, [{given} + 480]",
            "2:", "dec {spins}", "jnz 2b",
            "vmovdqu [{found}], ymm0", "vmovdqu [{found} + 32], ymm1",
            "vmovdqu [{found} + 64], ymm2", "vmovdqu [{found} + 96], ymm3",
            "vmovdqu [{found} + 128], ymm4", "vmovdqu [{found} + 160], ymm5",
            "vmovdqu [{found} + 192], ymm6", "vmovdqu [{found} + 224], ymm7",
            "vmovdqu [{found} + 256], ymm8", "vmovdqu [{found} + 288], ymm9",
            "vmovdqu [{found} + 320], ymm10", "vmovdqu [{found} + 352], ymm11",
            "vmovdqu [{found} + 384], ymm12", "vmovdqu [{found} + 416], ymm13",
            "vmovdqu [{found} + 448], ymm14", "vmovdqu [{found} + 480], ymm15",
            "stmxcsr [{control} + 8]", "ldmxcsr [{control} + 4]", "vzeroupper",
            given = in(reg) given.as_ptr(), found = in(reg) found.as_mut_ptr(),
            control = in(reg) control.as_mut_ptr(), spins = inout(reg) spins.max(1) => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
        );
    }
    given == found && control[0] == control[2]
}

/// Where there is no AVX: the SSE registers, as far as the compiler keeps values in them.
fn holds_narrow_registers(seed: u64, spins: u64) -> bool {
    let mut values = [seed as f64; 8];
    for round in 0..spins {
        for value in &mut values {
            *value += std::hint::black_box(round as f64) * 0.0;
        }
    }
    values.iter().all(|value| *value == seed as f64)
}

fn holds_general_registers(seed: u64, spins: u64) -> bool {
    let given: [u64; 10] = std::array::from_fn(|index| seed.rotate_left(index as u32) | 1);
    let mut found = given;
    let carry: u64;
    // SAFETY: changes the declared registers only.
    unsafe {
        asm!(
            "stc", // `dec` leaves the carry flag alone
            "2:", "dec rcx", "jnz 2b",
            "setc cl", "movzx rcx, cl",
            inout("rcx") spins.max(1) => carry,
            inout("rax") found[0], inout("rdx") found[1], inout("rsi") found[2], inout("rdi") found[3],
            inout("r8") found[4], inout("r9") found[5], inout("r10") found[6], inout("r11") found[7],
            inout("r12") found[8], inout("r13") found[9],
        );
    }
    given == found && carry == 1
}

/// The 128 bytes below the stack pointer, which belong to a function that calls no other.
fn holds_red_zone(seed: u64, spins: u64) -> bool {
    let differences: u64;
    // SAFETY: without `nostack` the compiler keeps nothing below the stack pointer; the 128 bytes
    // there are ours by the calling convention, and no signal handler may touch them.
    unsafe {
        asm!(
            "mov rcx, -16",
            "2:", "lea rdx, [rax + rcx]", "mov [rsp + 8 * rcx], rdx", "inc rcx", "jnz 2b",
            "3:", "dec rsi", "jnz 3b",
            "xor rdi, rdi", "mov rcx, -16",
            "4:", "lea rdx, [rax + rcx]", "xor rdx, [rsp + 8 * rcx]", "or rdi, rdx", "inc rcx", "jnz 4b",
            in("rax") seed, inout("rsi") spins.max(1) => _, out("rcx") _, out("rdx") _, out("rdi") differences,
        );
    }
    differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_nobody_repeats_is_made_once() {
        assert!(is_not_taken_for_interrupted(1000));
    }

    #[test]
    fn registers_hold_when_nobody_interferes() {
        assert!(holds_registers(0x0123_4567_89ab_cdef, 1000));
    }
}
