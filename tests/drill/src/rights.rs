//! Capabilities, users, namespaces.

use crate::sys::call;
use crate::{Attempt, Outcome};

/// All of them.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "gain-capabilities", run: gain_capabilities },
    Attempt { name: "use-own-capability", run: use_own },
    Attempt { name: "gain-ambient-capability", run: gain_ambient },
    Attempt { name: "become-root", run: || call!(SYS_setresuid, 0, 0, 0).map(drop) },
    Attempt { name: "become-group-of-root", run: || call!(SYS_setresgid, 0, 0, 0).map(drop) },
    Attempt { name: "join-groups", run: join_groups },
    Attempt { name: "read-files-as-root", run: read_files_as_root },
    Attempt { name: "make-user-namespace", run: || call!(SYS_unshare, libc::CLONE_NEWUSER).map(drop) },
    Attempt { name: "make-mount-namespace", run: || call!(SYS_unshare, libc::CLONE_NEWNS).map(drop) },
    Attempt { name: "become-dumpable", run: || control(libc::PR_SET_DUMPABLE, 1) },
    Attempt { name: "keep-capabilities", run: || control(libc::PR_SET_KEEPCAPS, 1) },
    Attempt { name: "be-traced-by-anybody", run: || control(libc::PR_SET_PTRACER, u64::MAX) },
];

fn control(option: libc::c_int, argument: u64) -> Outcome {
    call!(SYS_prctl, option, argument, 0, 0, 0).map(drop)
}

/// All of them, permitted and in effect.
fn gain_capabilities() -> Outcome {
    // _LINUX_CAPABILITY_VERSION_3, this process
    let header = [0x2008_0522_u32, 0];
    let data = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    call!(SYS_capset, header.as_ptr(), data.as_ptr()).map(drop)
}

/// CAP_SYS_PTRACE, permitted and in effect, as a launcher's child does to attach.
fn use_own() -> Outcome {
    let header = [0x2008_0522_u32, 0];
    let data = [1_u32 << 19, 1 << 19, 0, 0, 0, 0];
    call!(SYS_capset, header.as_ptr(), data.as_ptr()).map(drop)
}

/// CAP_SYS_ADMIN.
fn gain_ambient() -> Outcome {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 21, 0, 0).map(drop)
}

fn join_groups() -> Outcome {
    let groups = [0_u32, 4, 42];
    call!(SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}

/// The call tells the user that was there before; only a second one tells whether it worked.
fn read_files_as_root() -> Outcome {
    call!(SYS_setfsuid, 0)?;
    match call!(SYS_setfsuid, u32::MAX)? {
        0 => Ok(()),
        _ => Err(crate::Refused { call: "setfsuid", number: libc::EPERM }),
    }
}
