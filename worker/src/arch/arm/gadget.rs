//! Pieces of code that are in every program, and that calls of ours go through. An odd address means Thumb code.

use crate::arch::{CallInstruction, WayOut};

/// Instructions begin on such boundaries, in bytes.
pub(crate) const CODE_ALIGNMENT: usize = 2;

/// `svc #0` of either kind, if code begins with it.
pub(crate) fn system_call_at(code: &[u8]) -> Option<CallInstruction> {
    match code {
        [0, 0, 0, 0xef, ..] => Some(CallInstruction { length: 4, mode: 0 }),
        [0, 0xdf, ..] => Some(CallInstruction { length: 2, mode: 1 }),
        _ => None,
    }
}

/// `mov r7, #173; svc #0`: rt_sigreturn, as the kernel's own page and C libraries have it.
pub(crate) const SIGNAL_RETURNS: &[&[u8]] =
    &[&[0xad, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef], &[0xad, 0x27, 0, 0xdf]];

/// Instructions that are followed.
const LONGEST: usize = 8;
const LR: u32 = 14;
const PC: u32 = 15;
const SP: u32 = 13;

/// How the code behind it returns: by lr or by an address from the stack; `None` if it does anything else before that but
/// take registers off the stack.
pub(crate) fn way_out(code: &[u8], mode: u64) -> Option<WayOut> {
    let (mut rest, mut taken, mut address_at) = (code, 0, None);
    for _ in 0..LONGEST {
        let (step, after) = if mode == 0 { step_of_arm(rest)? } else { step_of_thumb(rest)? };
        rest = after;
        match step {
            Step::Return => return Some(WayOut { taken, address_at }),
            Step::Pop(registers) if registers & 1 << SP != 0 => return None,
            Step::Pop(registers) => {
                let place_of = |register: u32| {
                    let before = registers & ((1 << register) - 1);
                    taken + 4 * u64::from(before.count_ones())
                };
                let (of_lr, of_pc) = (place_of(LR), place_of(PC));
                taken += 4 * u64::from(registers.count_ones());
                if registers & 1 << PC != 0 {
                    return Some(WayOut { taken, address_at: Some(of_pc) });
                }
                if registers & 1 << LR != 0 {
                    address_at = Some(of_lr);
                }
            }
        }
    }
    None
}

enum Step {
    /// bx lr.
    Return,
    /// These registers come off the stack.
    Pop(u32),
}

fn step_of_arm(code: &[u8]) -> Option<(Step, &[u8])> {
    let (word, rest) = code.split_first_chunk()?;
    let step = match u32::from_le_bytes(*word) {
        0xe12f_ff1e => Step::Return,
        // pop {...}; pop {one}
        word if word >> 16 == 0xe8bd => Step::Pop(word & 0xffff),
        word if word & 0xffff_0fff == 0xe49d_0004 => Step::Pop(1 << (word >> 12 & 15)),
        _ => return None,
    };
    Some((step, rest))
}

fn step_of_thumb(code: &[u8]) -> Option<(Step, &[u8])> {
    let (half, rest) = code.split_first_chunk()?;
    match u32::from(u16::from_le_bytes(*half)) {
        0x4770 => Some((Step::Return, rest)),
        // pop {...}, of which the ninth bit is pc
        half if half >> 9 == 0x5e => {
            Some((Step::Pop(half & 0xff | if half & 0x100 != 0 { 1 << PC } else { 0 }), rest))
        }
        0xe8bd => {
            let (registers, rest) = rest.split_first_chunk()?;
            Some((Step::Pop(u16::from_le_bytes(*registers).into()), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_return_is_followed_through_pops() {
        let direct = WayOut { taken: 0, address_at: None };
        assert_eq!(way_out(&[0x1e, 0xff, 0x2f, 0xe1], 0), Some(direct));
        assert_eq!(way_out(&[0x70, 0x47], 1), Some(direct));
        // pop {r7, pc}
        assert_eq!(way_out(&[0x80, 0xbd], 1), Some(WayOut { taken: 8, address_at: Some(4) }));
        // pop {r7}; pop {r4, lr}; bx lr
        let code = [0x04, 0x70, 0x9d, 0xe4, 0x10, 0x40, 0xbd, 0xe8, 0x1e, 0xff, 0x2f, 0xe1];
        assert_eq!(way_out(&code, 0), Some(WayOut { taken: 12, address_at: Some(8) }));
    }

    #[test]
    fn code_that_does_anything_else_is_not_followed() {
        // mov r0, r0; pop {sp, pc}; a branch; an end without a return
        for code in [&[0x00, 0x00, 0xa0, 0xe1][..], &[0x00, 0xa0, 0xbd, 0xe8], &[0, 0, 0, 0xea], &[]] {
            assert_eq!(way_out(code, 0), None, "{code:x?}");
        }
    }
}
