//! All general and floating point registers of 64-bit RISC-V, and the rounding mode.

use std::arch::asm;

/// A program of another word size: kernels for RISC-V rarely run one.
pub const NARROW_PROGRAM: Option<&[u8]> = None;

/// Words of a block: x0 to x31, then f0 to f31.
const WORDS: usize = 32 + 32;
/// Round up.
const ROUNDING: u64 = 0b011 << 5;
/// What is no value of ours: stack, global and thread pointer.
const POINTERS: [usize; 3] = [2, 3, 4];

/// Fills the registers from `seed`, spins `spins` rounds without touching them, and looks whether
/// they still hold the same.
pub fn holds_registers(seed: u64, spins: u64) -> bool {
    // SAFETY: takes a number.
    let has_vectors = unsafe { libc::getauxval(libc::AT_HWCAP) } & 1 << (b'V' - b'A') != 0;
    holds_scalar_registers(seed, spins) && (!has_vectors || holds_vector_registers(seed, spins))
}

fn holds_scalar_registers(seed: u64, spins: u64) -> bool {
    let mut blocks = [[0_u64; WORDS]; 2];
    blocks[0] = std::array::from_fn(|index| seed.wrapping_mul(2 * index as u64 + 1));
    (blocks[0][0], blocks[0][10]) = (spins.max(1), ROUNDING);
    // SAFETY: reads the first block and writes the second, which follows it; every register that is changed is declared, or
    // put back from the stack.
    unsafe {
        asm!(
            "addi sp, sp, -32", "sd ra, 0(sp)", "sd s0, 8(sp)", "sd s1, 16(sp)", "sd a0, 24(sp)",
            "ld t0, 80(a0)", "fscsr t0",
            "fld f0, 256(a0)", "fld f1, 264(a0)", "fld f2, 272(a0)", "fld f3, 280(a0)",
            "fld f4, 288(a0)", "fld f5, 296(a0)", "fld f6, 304(a0)", "fld f7, 312(a0)",
            "fld f8, 320(a0)", "fld f9, 328(a0)", "fld f10, 336(a0)", "fld f11, 344(a0)",
            "fld f12, 352(a0)", "fld f13, 360(a0)", "fld f14, 368(a0)", "fld f15, 376(a0)",
            "fld f16, 384(a0)", "fld f17, 392(a0)", "fld f18, 400(a0)", "fld f19, 408(a0)",
            "fld f20, 416(a0)", "fld f21, 424(a0)", "fld f22, 432(a0)", "fld f23, 440(a0)",
            "fld f24, 448(a0)", "fld f25, 456(a0)", "fld f26, 464(a0)", "fld f27, 472(a0)",
            "fld f28, 480(a0)", "fld f29, 488(a0)", "fld f30, 496(a0)", "fld f31, 504(a0)",
            "ld x1, 8(a0)", "ld x5, 40(a0)", "ld x6, 48(a0)", "ld x7, 56(a0)",
            "ld x8, 64(a0)", "ld x9, 72(a0)", "ld x11, 88(a0)", "ld x12, 96(a0)",
            "ld x13, 104(a0)", "ld x14, 112(a0)", "ld x15, 120(a0)", "ld x16, 128(a0)",
            "ld x17, 136(a0)", "ld x18, 144(a0)", "ld x19, 152(a0)", "ld x20, 160(a0)",
            "ld x21, 168(a0)", "ld x22, 176(a0)", "ld x23, 184(a0)", "ld x24, 192(a0)",
            "ld x25, 200(a0)", "ld x26, 208(a0)", "ld x27, 216(a0)", "ld x28, 224(a0)",
            "ld x29, 232(a0)", "ld x30, 240(a0)", "ld x31, 248(a0)",
            "ld a0, 0(a0)", "2:", "addi a0, a0, -1", "bnez a0, 2b",
            "ld a0, 24(sp)", "addi a0, a0, 512",
            "sd x1, 8(a0)", "sd x5, 40(a0)", "sd x6, 48(a0)", "sd x7, 56(a0)",
            "sd x8, 64(a0)", "sd x9, 72(a0)", "sd x11, 88(a0)", "sd x12, 96(a0)",
            "sd x13, 104(a0)", "sd x14, 112(a0)", "sd x15, 120(a0)", "sd x16, 128(a0)",
            "sd x17, 136(a0)", "sd x18, 144(a0)", "sd x19, 152(a0)", "sd x20, 160(a0)",
            "sd x21, 168(a0)", "sd x22, 176(a0)", "sd x23, 184(a0)", "sd x24, 192(a0)",
            "sd x25, 200(a0)", "sd x26, 208(a0)", "sd x27, 216(a0)", "sd x28, 224(a0)",
            "sd x29, 232(a0)", "sd x30, 240(a0)", "sd x31, 248(a0)",
            "fsd f0, 256(a0)", "fsd f1, 264(a0)", "fsd f2, 272(a0)", "fsd f3, 280(a0)",
            "fsd f4, 288(a0)", "fsd f5, 296(a0)", "fsd f6, 304(a0)", "fsd f7, 312(a0)",
            "fsd f8, 320(a0)", "fsd f9, 328(a0)", "fsd f10, 336(a0)", "fsd f11, 344(a0)",
            "fsd f12, 352(a0)", "fsd f13, 360(a0)", "fsd f14, 368(a0)", "fsd f15, 376(a0)",
            "fsd f16, 384(a0)", "fsd f17, 392(a0)", "fsd f18, 400(a0)", "fsd f19, 408(a0)",
            "fsd f20, 416(a0)", "fsd f21, 424(a0)", "fsd f22, 432(a0)", "fsd f23, 440(a0)",
            "fsd f24, 448(a0)", "fsd f25, 456(a0)", "fsd f26, 464(a0)", "fsd f27, 472(a0)",
            "fsd f28, 480(a0)", "fsd f29, 488(a0)", "fsd f30, 496(a0)", "fsd f31, 504(a0)",
            "frcsr t0", "sd t0, 80(a0)", "fscsr x0",
            "ld s1, 16(sp)", "ld s0, 8(sp)", "ld ra, 0(sp)", "addi sp, sp, 32",
            inout("x10") blocks.as_mut_ptr() => _,
            out("x5") _, out("x6") _, out("x7") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
            out("x15") _, out("x16") _, out("x17") _, out("x18") _, out("x19") _, out("x20") _,
            out("x21") _, out("x22") _, out("x23") _, out("x24") _, out("x25") _, out("x26") _,
            out("x27") _, out("x28") _, out("x29") _, out("x30") _, out("x31") _, out("f0") _, out("f1") _,
            out("f2") _, out("f3") _, out("f4") _, out("f5") _, out("f6") _, out("f7") _, out("f8") _,
            out("f9") _, out("f10") _, out("f11") _, out("f12") _, out("f13") _, out("f14") _, out("f15") _,
            out("f16") _, out("f17") _, out("f18") _, out("f19") _, out("f20") _, out("f21") _,
            out("f22") _, out("f23") _, out("f24") _, out("f25") _, out("f26") _, out("f27") _,
            out("f28") _, out("f29") _, out("f30") _, out("f31") _,
        );
    }
    let [mut given, mut found] = blocks;
    given[0] = 0;
    for pointer in POINTERS {
        (given[pointer], found[pointer]) = (0, 0);
    }
    given == found
}

/// Spins `spins` rounds right behind the instruction of a system call, with the number of EINTR where that call has its result:
/// what a thread looks like that comes out of a signal handler. False if that call was made again.
pub fn is_not_taken_for_interrupted(spins: u64) -> bool {
    let calls: u64;
    // SAFETY: getpid(2), which changes nothing; every register that is changed is declared.
    unsafe {
        asm!(
            "li a3, 0", "ecall",
            "2:", "bgez a0, 4f",
            "3:", "addi a2, a2, -1", "bnez a2, 2b", "j 5f",
            "4:", "addi a3, a3, 1", "li a0, -4", "j 3b",
            "5:",
            in("a7") libc::SYS_getpid, out("a0") _, inout("a2") spins.max(1) => _, out("a3") calls,
        );
    }
    calls == 1
}

/// Longest vector, in bytes.
const LONGEST: usize = 512;
/// Elements in use.
const ELEMENTS: u64 = 3;
/// Elements of 32 bits in pairs of registers, tail and mask agnostic.
const KIND: u64 = 0b1101_0001;

/// The vectors, and how many elements of which kind are in use.
fn holds_vector_registers(seed: u64, spins: u64) -> bool {
    let words: Vec<u64> =
        (0..32 * LONGEST as u64 / 8).map(|index| seed.wrapping_mul(2 * index + 1)).collect();
    let mut vectors = vec![0_u64; 32 * LONGEST / 8];
    let (length, elements, kind): (usize, u64, u64);
    // SAFETY: reads 32 vectors of `words`, which is as long as the longest need, and writes as many; every register that is
    // changed is declared.
    unsafe {
        asm!(
            ".option push", ".option arch, +v",
            "csrr t0, vlenb", "slli t1, t0, 3",
            "vl8re8.v v0, (a0)", "add a0, a0, t1", "vl8re8.v v8, (a0)", "add a0, a0, t1",
            "vl8re8.v v16, (a0)", "add a0, a0, t1", "vl8re8.v v24, (a0)",
            "vsetivli zero, 3, e32, m2, ta, ma",
            "2:", "addi a2, a2, -1", "bnez a2, 2b",
            "csrr a2, vl", "csrr a3, vtype",
            "vs8r.v v0, (a1)", "add a1, a1, t1", "vs8r.v v8, (a1)", "add a1, a1, t1",
            "vs8r.v v16, (a1)", "add a1, a1, t1", "vs8r.v v24, (a1)",
            ".option pop",
            inout("a0") words.as_ptr() => _, inout("a1") vectors.as_mut_ptr() => _,
            inout("a2") spins.max(1) => elements, out("a3") kind, out("t0") length, out("t1") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
            out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
            out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
            out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
        );
    }
    let end = 32 * length / 8;
    (elements, kind) == (ELEMENTS, KIND) && vectors[..end] == words[..end]
}
