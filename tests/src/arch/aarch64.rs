//! All general and vector registers of 64-bit ARM, the flags and the rounding mode.

use std::arch::asm;

/// A whole 32-bit program (ELF for the ARM) that writes `ready` and then waits for ever.
pub const NARROW_PROGRAM: Option<&[u8]> = Some(&[
    // ELF header: 32 bit, little endian, executable, ARM, entry at 0x00010054, EABI version 5
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 40, 0, 1, 0, 0, 0, 0x54, 0x00, 0x01,
    0x00, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // one segment: all of this file, readable and executable, at 0x00010000
    1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x7a, 0, 0, 0, 0x7a, 0, 0, 0, 5,
    0, 0, 0, 0x00, 0x10, 0, 0, 0x01, 0x00, 0xa0, 0xe3, // mov r0, #1
    0x14, 0x10, 0x8f, 0xe2, // adr r1, the text
    0x06, 0x20, 0xa0, 0xe3, // mov r2, #6
    0x04, 0x70, 0xa0, 0xe3, // mov r7, #4 (write)
    0x00, 0x00, 0x00, 0xef, // svc #0
    0x1d, 0x70, 0xa0, 0xe3, // mov r7, #29 (pause)
    0x00, 0x00, 0x00, 0xef, // svc #0
    0xfc, 0xff, 0xff, 0xea, // again
    b'r', b'e', b'a', b'd', b'y', b'\n',
]);

/// Words of a block: x0 to x30 and one more, then v0 to v31.
const WORDS: usize = 32 + 64;
/// N and C.
const FLAGS: u64 = 0b1010 << 28;
/// Round towards plus infinity.
const ROUNDING: u64 = 0b01 << 22;

/// Fills the registers from `seed`, spins `spins` rounds without touching them, and looks whether
/// they still hold the same.
pub fn holds_registers(seed: u64, spins: u64) -> bool {
    holds_old_registers(seed, spins)
        && (!std::arch::is_aarch64_feature_detected!("sve") || holds_scalable_registers(seed, spins, false))
        // most of the time: a processor that has it is emulated for its sake
        && (!has_streaming_mode() || holds_streaming_registers(seed, spins * 20))
}

/// Whether the processor, and the kernel, know the scalable matrix extension.
fn has_streaming_mode() -> bool {
    const HWCAP2_SME: u64 = 1 << 23;
    // SAFETY: reads a value that the kernel gave to the program
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_SME != 0 }
}

/// Spins `spins` rounds right behind the instruction of a system call, with the number of EINTR where that call has its result:
/// what a thread looks like that comes out of a signal handler. False if that call was made again.
pub fn is_not_taken_for_interrupted(spins: u64) -> bool {
    let calls: u64;
    // SAFETY: getpid(2), which changes nothing; every register that is changed is declared.
    unsafe {
        asm!(
            "mov x3, #0", "svc #0",
            "2:", "tbz x0, #63, 4f",
            "3:", "subs x2, x2, #1", "b.ne 2b", "b 5f",
            "4:", "add x3, x3, #1", "mov x0, #-4", "b 3b",
            "5:",
            in("x8") libc::SYS_getpid, out("x0") _, inout("x2") spins.max(1) => _, out("x3") calls,
        );
    }
    calls == 1
}

fn holds_old_registers(seed: u64, spins: u64) -> bool {
    let mut blocks = [[0_u64; WORDS]; 2];
    blocks[0] = std::array::from_fn(|index| seed.wrapping_mul(2 * index as u64 + 1));
    blocks[0][0] = spins.max(1);
    // SAFETY: reads the first block and writes the second, which follows it; every register that is changed is declared, or
    // put back from the stack.
    unsafe {
        asm!(
            "stp x19, x29, [sp, #-32]!", "stp x30, x0, [sp, #16]",
            "msr fpcr, x2", "msr nzcv, x3", "add x1, x0, #256",
            "ld1 {{v0.2d-v3.2d}}, [x1], #64", "ld1 {{v4.2d-v7.2d}}, [x1], #64",
            "ld1 {{v8.2d-v11.2d}}, [x1], #64", "ld1 {{v12.2d-v15.2d}}, [x1], #64",
            "ld1 {{v16.2d-v19.2d}}, [x1], #64", "ld1 {{v20.2d-v23.2d}}, [x1], #64",
            "ld1 {{v24.2d-v27.2d}}, [x1], #64", "ld1 {{v28.2d-v31.2d}}, [x1], #64",
            "ldp x2, x3, [x0, #16]", "ldp x4, x5, [x0, #32]", "ldp x6, x7, [x0, #48]",
            "ldp x8, x9, [x0, #64]", "ldp x10, x11, [x0, #80]", "ldp x12, x13, [x0, #96]",
            "ldp x14, x15, [x0, #112]", "ldp x16, x17, [x0, #128]", "ldp x18, x19, [x0, #144]",
            "ldp x20, x21, [x0, #160]", "ldp x22, x23, [x0, #176]", "ldp x24, x25, [x0, #192]",
            "ldp x26, x27, [x0, #208]", "ldp x28, x29, [x0, #224]", "ldr x30, [x0, #240]",
            "ldr x1, [x0, #8]",
            // neither of these touches the flags
            "ldr x0, [x0]", "2:", "sub x0, x0, #1", "cbnz x0, 2b",
            "ldr x0, [sp, #24]", "add x0, x0, #768",
            "stp x2, x3, [x0, #16]", "stp x4, x5, [x0, #32]", "stp x6, x7, [x0, #48]",
            "stp x8, x9, [x0, #64]", "stp x10, x11, [x0, #80]", "stp x12, x13, [x0, #96]",
            "stp x14, x15, [x0, #112]", "stp x16, x17, [x0, #128]", "stp x18, x19, [x0, #144]",
            "stp x20, x21, [x0, #160]", "stp x22, x23, [x0, #176]", "stp x24, x25, [x0, #192]",
            "stp x26, x27, [x0, #208]", "stp x28, x29, [x0, #224]", "str x30, [x0, #240]",
            "str x1, [x0, #8]",
            "mrs x1, nzcv", "str x1, [x0]", "mrs x1, fpcr", "str x1, [x0, #248]", "add x1, x0, #256",
            "st1 {{v0.2d-v3.2d}}, [x1], #64", "st1 {{v4.2d-v7.2d}}, [x1], #64",
            "st1 {{v8.2d-v11.2d}}, [x1], #64", "st1 {{v12.2d-v15.2d}}, [x1], #64",
            "st1 {{v16.2d-v19.2d}}, [x1], #64", "st1 {{v20.2d-v23.2d}}, [x1], #64",
            "st1 {{v24.2d-v27.2d}}, [x1], #64", "st1 {{v28.2d-v31.2d}}, [x1], #64",
            "msr fpcr, xzr", "ldr x30, [sp, #16]", "ldp x19, x29, [sp], #32",
            inout("x0") blocks.as_mut_ptr() => _, in("x2") ROUNDING, in("x3") FLAGS,
            out("x1") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, out("x18") _, out("x20") _, out("x21") _, out("x22") _,
            out("x23") _, out("x24") _, out("x25") _, out("x26") _, out("x27") _, out("x28") _, out("v0") _,
            out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _,
            out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _,
            out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            lateout("x2") _, lateout("x3") _,
        );
    }
    let [mut given, found] = blocks;
    given[0] = FLAGS;
    given[31] = ROUNDING;
    given == found
}

/// Longest vector, in bytes.
const LONGEST: usize = 256;

/// The vectors of SVE and its predicates; those of the streaming mode (SME), if it is asked for.
fn holds_scalable_registers(seed: u64, spins: u64, streaming: bool) -> bool {
    let words: [u64; 32 * LONGEST / 8] = std::array::from_fn(|index| seed.wrapping_mul(2 * index as u64 + 1));
    let (mut vectors, mut predicates) = ([0_u64; 32 * LONGEST / 8], [0_u64; 16 * LONGEST / 64]);
    let length: usize;
    // SAFETY: reads 32 vectors and 16 predicates of `words`, which is as long as the longest need, and writes as many to the
    // other two; every register that is changed is declared.
    unsafe {
        asm!(
            ".arch_extension sve", ".arch_extension sme",
            "cbz x5, 1f", "smstart sm", "1:",
            "ldr z0, [x0, #0, mul vl]", "ldr z1, [x0, #1, mul vl]", "ldr z2, [x0, #2, mul vl]", "ldr z3, [x0, #3, mul vl]",
            "ldr z4, [x0, #4, mul vl]", "ldr z5, [x0, #5, mul vl]", "ldr z6, [x0, #6, mul vl]", "ldr z7, [x0, #7, mul vl]",
            "ldr z8, [x0, #8, mul vl]", "ldr z9, [x0, #9, mul vl]", "ldr z10, [x0, #10, mul vl]", "ldr z11, [x0, #11, mul vl]",
            "ldr z12, [x0, #12, mul vl]", "ldr z13, [x0, #13, mul vl]", "ldr z14, [x0, #14, mul vl]", "ldr z15, [x0, #15, mul vl]",
            "ldr z16, [x0, #16, mul vl]", "ldr z17, [x0, #17, mul vl]", "ldr z18, [x0, #18, mul vl]", "ldr z19, [x0, #19, mul vl]",
            "ldr z20, [x0, #20, mul vl]", "ldr z21, [x0, #21, mul vl]", "ldr z22, [x0, #22, mul vl]", "ldr z23, [x0, #23, mul vl]",
            "ldr z24, [x0, #24, mul vl]", "ldr z25, [x0, #25, mul vl]", "ldr z26, [x0, #26, mul vl]", "ldr z27, [x0, #27, mul vl]",
            "ldr z28, [x0, #28, mul vl]", "ldr z29, [x0, #29, mul vl]", "ldr z30, [x0, #30, mul vl]", "ldr z31, [x0, #31, mul vl]",
            "ldr p0, [x1, #0, mul vl]", "ldr p1, [x1, #1, mul vl]", "ldr p2, [x1, #2, mul vl]", "ldr p3, [x1, #3, mul vl]",
            "ldr p4, [x1, #4, mul vl]", "ldr p5, [x1, #5, mul vl]", "ldr p6, [x1, #6, mul vl]", "ldr p7, [x1, #7, mul vl]",
            "ldr p8, [x1, #8, mul vl]", "ldr p9, [x1, #9, mul vl]", "ldr p10, [x1, #10, mul vl]", "ldr p11, [x1, #11, mul vl]",
            "ldr p12, [x1, #12, mul vl]", "ldr p13, [x1, #13, mul vl]", "ldr p14, [x1, #14, mul vl]", "ldr p15, [x1, #15, mul vl]",
            "2:", "sub x4, x4, #1", "cbnz x4, 2b",
            "str z0, [x2, #0, mul vl]", "str z1, [x2, #1, mul vl]", "str z2, [x2, #2, mul vl]", "str z3, [x2, #3, mul vl]",
            "str z4, [x2, #4, mul vl]", "str z5, [x2, #5, mul vl]", "str z6, [x2, #6, mul vl]", "str z7, [x2, #7, mul vl]",
            "str z8, [x2, #8, mul vl]", "str z9, [x2, #9, mul vl]", "str z10, [x2, #10, mul vl]", "str z11, [x2, #11, mul vl]",
            "str z12, [x2, #12, mul vl]", "str z13, [x2, #13, mul vl]", "str z14, [x2, #14, mul vl]", "str z15, [x2, #15, mul vl]",
            "str z16, [x2, #16, mul vl]", "str z17, [x2, #17, mul vl]", "str z18, [x2, #18, mul vl]", "str z19, [x2, #19, mul vl]",
            "str z20, [x2, #20, mul vl]", "str z21, [x2, #21, mul vl]", "str z22, [x2, #22, mul vl]", "str z23, [x2, #23, mul vl]",
            "str z24, [x2, #24, mul vl]", "str z25, [x2, #25, mul vl]", "str z26, [x2, #26, mul vl]", "str z27, [x2, #27, mul vl]",
            "str z28, [x2, #28, mul vl]", "str z29, [x2, #29, mul vl]", "str z30, [x2, #30, mul vl]", "str z31, [x2, #31, mul vl]",
            "str p0, [x3, #0, mul vl]", "str p1, [x3, #1, mul vl]", "str p2, [x3, #2, mul vl]", "str p3, [x3, #3, mul vl]",
            "str p4, [x3, #4, mul vl]", "str p5, [x3, #5, mul vl]", "str p6, [x3, #6, mul vl]", "str p7, [x3, #7, mul vl]",
            "str p8, [x3, #8, mul vl]", "str p9, [x3, #9, mul vl]", "str p10, [x3, #10, mul vl]", "str p11, [x3, #11, mul vl]",
            "str p12, [x3, #12, mul vl]", "str p13, [x3, #13, mul vl]", "str p14, [x3, #14, mul vl]", "str p15, [x3, #15, mul vl]",
            "rdvl x4, #1",
            "cbz x5, 3f", "smstop sm", "3:",
            in("x0") words.as_ptr(), in("x1") words.as_ptr(), in("x2") vectors.as_mut_ptr(),
            in("x3") predicates.as_mut_ptr(), inout("x4") spins.max(1) => length,
            in("x5") u64::from(streaming),
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
            out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
            out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
            out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _, out("p0") _,
            out("p1") _, out("p2") _, out("p3") _, out("p4") _, out("p5") _, out("p6") _, out("p7") _,
            out("p8") _, out("p9") _, out("p10") _, out("p11") _, out("p12") _, out("p13") _, out("p14") _,
            out("p15") _, out("ffr") _,
        );
    }
    let (vectors_end, predicates_end) = (32 * length / 8, 16 * length / 64);
    vectors[..vectors_end] == words[..vectors_end] && predicates[..predicates_end] == words[..predicates_end]
}

/// The same in the streaming mode, and the matrix ZA.
fn holds_streaming_registers(seed: u64, spins: u64) -> bool {
    let words: [u64; LONGEST * LONGEST / 8] =
        std::array::from_fn(|index| seed.wrapping_mul(2 * index as u64 + 3));
    let mut matrix = [0_u64; LONGEST * LONGEST / 8];
    let length: usize;
    // SAFETY: reads as many rows as a vector has bytes, which is no more than there are; the matrix is nobody else's
    unsafe {
        asm!(
            ".arch_extension sme", "smstart za", "rdsvl {length}, #1", "mov {left}, {length}", "mov w12, #0",
            "2:", "ldr za[w12, 0], [{at}]", "add {at}, {at}, {length}", "add w12, w12, #1", "subs {left}, {left}, #1", "b.ne 2b",
            length = out(reg) length, left = out(reg) _, at = inout(reg) words.as_ptr() => _, out("x12") _,
        );
    }
    let holds = holds_scalable_registers(seed, spins, true);
    // SAFETY: writes as many
    unsafe {
        asm!(
            ".arch_extension sme", "mov {left}, {length}", "mov w12, #0",
            "2:", "str za[w12, 0], [{at}]", "add {at}, {at}, {length}", "add w12, w12, #1", "subs {left}, {left}, #1", "b.ne 2b",
            "smstop za",
            length = in(reg) length, left = out(reg) _, at = inout(reg) matrix.as_mut_ptr() => _, out("x12") _,
        );
    }
    let end = length * length / 8;
    holds && matrix[..end] == words[..end]
}
