//! All general and vector registers of 32-bit ARM, and the rounding mode.

use std::arch::asm;

/// A program of another word size: a kernel of 32 bits has none.
pub const NARROW_PROGRAM: Option<&[u8]> = None;

/// Words of a block: r0 to r15, then d0 to d31.
const WORDS: usize = 16 + 64;
/// Round towards plus infinity.
const ROUNDING: u32 = 0b01 << 22;

/// Fills the registers from `seed`, spins `spins` rounds without touching them, and looks whether
/// they still hold the same.
pub fn holds_registers(seed: u64, spins: u64) -> bool {
    let mut blocks = [[0_u32; WORDS]; 2];
    // seeds differ in their low half, too
    #[allow(clippy::cast_possible_truncation, reason = "what fits is enough")]
    let word = |index: usize| (seed as u32).wrapping_mul(2 * index as u32 + 1);
    blocks[0] = std::array::from_fn(word);
    blocks[0][0] = u32::try_from(spins).unwrap_or(u32::MAX).max(1);
    blocks[0][15] = ROUNDING;
    // SAFETY: reads the first block and writes the second, which follows it; every register that is changed is declared, or
    // put back from the stack.
    unsafe {
        asm!(
            ".fpu neon",
            "push {{r4-r11, lr}}", "push {{r0}}",
            "ldr r1, [r0, #60]", "vmsr fpscr, r1", "add r1, r0, #64", "vldmia r1!, {{d0-d15}}", "vldmia r1, {{d16-d31}}",
            "ldr lr, [r0, #56]", "ldmib r0, {{r1-r12}}", "ldr r0, [r0]",
            "2:", "subs r0, r0, #1", "bne 2b",
            "ldr r0, [sp]", "add r0, r0, #320",
            "str lr, [r0, #56]", "stmib r0, {{r1-r12}}", "vmrs r1, fpscr", "str r1, [r0, #60]",
            "add r1, r0, #64", "vstmia r1!, {{d0-d15}}", "vstmia r1, {{d16-d31}}",
            "mov r1, #0", "vmsr fpscr, r1", "pop {{r0}}", "pop {{r4-r11, lr}}",
            inout("r0") blocks.as_mut_ptr() => _,
            out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("d0") _, out("d1") _, out("d2") _,
            out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _, out("d8") _, out("d9") _,
            out("d10") _, out("d11") _, out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            out("d16") _, out("d17") _, out("d18") _, out("d19") _, out("d20") _, out("d21") _,
            out("d22") _, out("d23") _, out("d24") _, out("d25") _, out("d26") _, out("d27") _,
            out("d28") _, out("d29") _, out("d30") _, out("d31") _,
        );
    }
    let [mut given, mut found] = blocks;
    // the counter, and the stack pointer
    (given[0], given[13], found[13]) = (0, 0, 0);
    given == found
}

/// Spins `spins` rounds right behind the instruction of a system call, with the number of EINTR where that call has its result:
/// what a thread looks like that comes out of a signal handler. False if that call was made again.
pub fn is_not_taken_for_interrupted(spins: u64) -> bool {
    let calls: u32;
    // SAFETY: getpid(2), which changes nothing; every register that is changed is declared, or put back from the stack.
    unsafe {
        asm!(
            "push {{r7}}", "mov r7, r1", "mov r3, #0", "svc #0",
            "2:", "cmp r0, #0", "bge 4f",
            "3:", "subs r2, r2, #1", "bne 2b", "b 5f",
            "4:", "add r3, r3, #1", "mvn r0, #3", "b 3b",
            "5:", "pop {{r7}}",
            in("r1") libc::SYS_getpid, out("r0") _,
            inout("r2") u32::try_from(spins).unwrap_or(u32::MAX).max(1) => _, out("r3") calls,
        );
    }
    calls == 1
}
