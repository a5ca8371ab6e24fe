//! Programs for processors that the library doesn't know: classic BPF (Documentation/networking/filter.rst;
//! linux/filter.h, linux/seccomp.h).

use crate::compile::{Answer, Comparison, Program, Test};
use seccompiler::{BackendError, BpfProgram, sock_filter};

/// Longest program that the kernel takes, in instructions (linux/bpf_common.h).
const LONGEST: usize = 4096;

/// Where the words of `struct seccomp_data` are.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Instructions: load a word, mask it, jump always, jump if equal, if greater, if not less, answer.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const ANSWER: u16 = 0x06;

/// Answers (linux/seccomp.h); the second is with ENOSYS.
const ALLOW: u32 = 0x7fff_0000;
const ABSENT: u32 = 0x0005_0000 | 38;
const KILL: u32 = 0x8000_0000;

/// Writes a program; what is called by another architecture's numbers dies.
///
/// # Errors
/// [`BackendError::FilterTooLarge`].
pub(crate) fn assemble(program: &Program, architecture: u32) -> Result<BpfProgram, BackendError> {
    let (then, otherwise) = (value(program.then), value(program.otherwise));
    let mut code = vec![
        plain(LOAD, ARCHITECTURE),
        branch(IF_EQUAL, architecture, 1, 0),
        plain(ANSWER, KILL),
        plain(LOAD, NUMBER),
    ];
    for (number, alternatives) in &program.rules {
        let body = body(alternatives, then, otherwise);
        // the kernel has 32 bits of it
        let [number, _] = halves(u64::from_ne_bytes(number.to_ne_bytes()));
        code.push(branch(IF_EQUAL, number, 1, 0));
        code.push(plain(JUMP, length(&body)));
        code.extend(body);
    }
    code.push(plain(ANSWER, otherwise));
    if code.len() > LONGEST { Err(BackendError::FilterTooLarge(code.len())) } else { Ok(code) }
}

/// What is said of one call: every way through it ends in an answer.
fn body(alternatives: &[Vec<Test>], then: u32, otherwise: u32) -> BpfProgram {
    let mut code = BpfProgram::new();
    for tests in alternatives {
        // from the last test to the first, since each must know how far it is to the next alternative
        let mut rest = vec![plain(ANSWER, then)];
        for test in tests.iter().rev() {
            rest = [check(*test, length(&rest)), rest].concat();
        }
        code.extend(rest);
    }
    code.push(plain(ANSWER, if alternatives.is_empty() { then } else { otherwise }));
    code
}

/// Goes on behind itself if the test holds, else `rest` instructions further.
fn check(test: Test, rest: u32) -> BpfProgram {
    let low = ARGUMENTS + 8 * u32::from(test.index);
    let load = plain(LOAD, low);
    let fail = plain(JUMP, rest);
    match test.is {
        Comparison::Masked(u32::MAX, value) => vec![load, branch(IF_EQUAL, value, 1, 0), fail],
        Comparison::Masked(mask, value) => {
            vec![load, plain(AND, mask), branch(IF_EQUAL, value, 1, 0), fail]
        }
        Comparison::AtLeast(value) => vec![load, branch(IF_NOT_LESS, value, 1, 0), fail],
        Comparison::AtMost(value) => vec![load, branch(IF_GREATER, value, 0, 1), fail],
        Comparison::Whole(value) => {
            let [lower, upper] = halves(value);
            vec![
                load,
                branch(IF_EQUAL, lower, 1, 0),
                plain(JUMP, rest + 3),
                plain(LOAD, low + 4),
                branch(IF_EQUAL, upper, 1, 0),
                fail,
            ]
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "that is what halves are")]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// How many instructions.
fn length(code: &[sock_filter]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

fn value(answer: Answer) -> u32 {
    match answer {
        Answer::Allow => ALLOW,
        Answer::Kill => KILL,
        Answer::Absent => ABSENT,
    }
}

fn plain(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
