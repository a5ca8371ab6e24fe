//! Pieces of code that are in every program, and that calls of ours go through.

use crate::arch::{CallInstruction, WayOut};

/// Instructions begin on such boundaries, in bytes.
pub(crate) const CODE_ALIGNMENT: usize = 1;

/// The length in bytes of the instruction that enters the kernel, if code begins with it: `syscall`.
pub(crate) fn system_call_at(code: &[u8]) -> Option<CallInstruction> {
    code.starts_with(&[0x0f, 0x05]).then_some(CallInstruction { length: 2, mode: 0 })
}

/// Code that calls rt_sigreturn, number 15, as every C library has it for its signal handlers.
pub(crate) const SIGNAL_RETURNS: &[&[u8]] =
    &[&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05], &[0xb8, 15, 0, 0, 0, 0x0f, 0x05]];

/// Longest code behind a system call instruction that is followed to its return, in bytes.
const LONGEST: usize = 64;

const STACK_POINTER: u8 = 4;

/// How the code behind a system call instruction returns: it takes an address off the stack; `None` if it does anything
/// else before that but change registers and take more off.
pub(crate) fn way_out(code: &[u8], _mode: u64) -> Option<WayOut> {
    let before = taken_until_return(code)?;
    Some(WayOut { taken: before + 8, address_at: Some(before) })
}

/// Bytes taken off the stack before that.
fn taken_until_return(code: &[u8]) -> Option<u64> {
    let mut rest = code.get(..code.len().min(LONGEST))?;
    let mut taken = 0;
    loop {
        let (rex, after_prefix) = match rest {
            [rex @ 0x40..=0x4f, rest @ ..] => (*rex, rest),
            rest => (0, rest),
        };
        let (is_wide, extends_second, extends_first) = (rex & 8 != 0, rex & 4 != 0, rex & 1 != 0);
        rest = match after_prefix {
            // ret, also with a prefix for old branch predictors
            [0xc3, ..] | [0xf3, 0xc3, ..] => return Some(taken),
            // nop; sign extension of the result
            [0x90 | 0x98, rest @ ..] => rest,
            // pop
            [0x5c, ..] if !extends_first => return None,
            [0x58..=0x5f, rest @ ..] => {
                taken += 8;
                rest
            }
            // add $positive, %rsp
            [0x83, 0xc4, amount @ 0..=0x7f, rest @ ..] if is_wide && !extends_first => {
                taken += u64::from(*amount);
                rest
            }
            // xor, mov, test, cmp between registers; the first operand is changed
            [0x31 | 0x85 | 0x89 | 0x39, operands @ 0xc0..=0xff, rest @ ..]
                if operands & 7 != STACK_POINTER || extends_first =>
            {
                rest
            }
            // the same and sign extension; the second operand is changed
            [0x33 | 0x3b | 0x63 | 0x8b, operands @ 0xc0..=0xff, rest @ ..]
                if operands >> 3 & 7 != STACK_POINTER || extends_second =>
            {
                rest
            }
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::taken_until_return;

    #[test]
    fn the_way_to_the_return_is_followed_through_registers_and_pops() {
        assert_eq!(taken_until_return(&[0xc3]), Some(0));
        // pop %rbx; pop %r12; pop %rbp; ret
        assert_eq!(taken_until_return(&[0x5b, 0x41, 0x5c, 0x5d, 0xc3]), Some(24));
        // add $0x30,%rsp; pop %r14; xor %edx,%edx; xor %r8d,%r8d; ret
        let code = [0x48, 0x83, 0xc4, 0x30, 0x41, 0x5e, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0xc3];
        assert_eq!(taken_until_return(&code), Some(56));
    }

    #[test]
    fn code_that_does_anything_else_is_not_followed() {
        // leave; jumps; calls; pop %rsp; mov %rax,%rsp; a store; an end without a return
        for code in [
            &[0xc9, 0xc3][..],
            &[0xeb, 0x10, 0xc3],
            &[0xe8, 0, 0, 0, 0, 0xc3],
            &[0x5c, 0xc3],
            &[0x48, 0x89, 0xc4, 0xc3],
            &[0x48, 0x8b, 0xe0, 0xc3],
            &[0x89, 0x03, 0xc3],
            &[0x5b],
            &[],
        ] {
            assert_eq!(taken_until_return(code), None, "{code:x?}");
        }
    }
}
