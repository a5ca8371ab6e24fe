//! Memory that is executed, and limits.

use crate::sys::{self, Text, call};
use crate::{Attempt, Outcome, Refused};

/// All of them.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "map-executable-memory", run: || map(READ | libc::PROT_EXEC).map(drop) },
    Attempt { name: "make-memory-executable", run: make_executable },
    Attempt { name: "make-memory-executable-by-key", run: make_executable_by_key },
    Attempt { name: "make-file-of-memory", run: make_file },
    Attempt {
        name: "make-shared-memory",
        run: || call!(SYS_shmget, libc::IPC_PRIVATE, LENGTH, 0o600).map(drop),
    },
    Attempt { name: "be-read-as-executable", run: || call!(SYS_personality, 0x0040_0000).map(drop) },
    Attempt { name: "raise-limit-of-descriptors", run: || raise(libc::RLIMIT_NOFILE) },
    Attempt { name: "raise-limit-of-processes", run: || raise(libc::RLIMIT_NPROC) },
    Attempt { name: "raise-limit-of-core-dumps", run: || raise(libc::RLIMIT_CORE) },
];

const READ: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const LENGTH: u64 = 1 << 16;

fn map(protection: libc::c_int) -> Result<u64, Refused> {
    sys::map(LENGTH as usize, protection)
}

fn make_executable() -> Outcome {
    let memory = map(READ)?;
    call!(SYS_mprotect, memory, LENGTH, libc::PROT_READ | libc::PROT_EXEC).map(drop)
}

fn make_executable_by_key() -> Outcome {
    let memory = map(READ)?;
    call!(SYS_pkey_mprotect, memory, LENGTH, libc::PROT_READ | libc::PROT_EXEC, u64::MAX).map(drop)
}

fn make_file() -> Outcome {
    let name = Text::new("attacker");
    call!(SYS_memfd_create, name.address(), 0).map(drop)
}

/// To as much as the kernel lets anybody have.
fn raise(resource: libc::__rlimit_resource_t) -> Outcome {
    let limits = [1_u64 << 19; 2];
    call!(SYS_prlimit64, 0, resource, limits.as_ptr(), 0).map(drop)
}
