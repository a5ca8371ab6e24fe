//! System calls that no library wraps, and the only `unsafe` of this crate beside `arch`.

pub(crate) mod descriptors;
pub(crate) mod kcmp;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod pagemap;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod sock_diag;
pub(crate) mod socket;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod trial;
pub(crate) mod userfaultfd;

use nix::errno::Errno;

/// The error that a negative result of a system call means, whoever says that it is one: an accomplice of a hostile target may
/// answer anything.
pub(crate) fn error_of(result: i64) -> Errno {
    let number = result.checked_neg().and_then(|number| i32::try_from(number).ok());
    number.map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_some_error() {
        assert_eq!(error_of(-i64::from(libc::EPERM)), Errno::EPERM);
        for result in [i64::MIN, i64::MAX, 1, 0, -1 << 40] {
            assert_eq!(error_of(result), Errno::UnknownErrno, "{result}");
        }
    }
}
