//! Parts of the kernel that few programs need, where its own faults are most often found.

use crate::sys::{Text, address, call, room};
use crate::{Attempt, Outcome, Refused};

/// All of them.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "make-io-ring", run: make_io_ring },
    Attempt { name: "load-bpf-program", run: load_bpf },
    Attempt { name: "measure-events", run: measure_events },
    Attempt { name: "add-kernel-key", run: add_key },
    Attempt { name: "join-session-keyring", run: || call!(SYS_keyctl, 1, 0).map(drop) },
    Attempt { name: "make-userfaultfd", run: || call!(SYS_userfaultfd, libc::O_CLOEXEC).map(drop) },
    Attempt {
        name: "make-userfaultfd-for-own-faults",
        run: || call!(SYS_userfaultfd, libc::O_CLOEXEC | 1).map(drop),
    },
    Attempt { name: "load-module", run: load_module },
    Attempt { name: "open-file-system", run: open_file_system },
    Attempt { name: "watch-all-files", run: || call!(SYS_fanotify_init, 0, 0).map(drop) },
    Attempt { name: "read-kernel-log", run: read_kernel_log },
    Attempt { name: "set-clock", run: set_clock },
    Attempt { name: "type-on-terminal", run: || call!(SYS_ioctl, 2, libc::TIOCSTI, address(b"x")).map(drop) },
    Attempt { name: "make-message-queue", run: || call!(SYS_msgget, libc::IPC_PRIVATE, 0o600).map(drop) },
    Attempt { name: "splice-own-memory", run: splice },
];

fn make_io_ring() -> Outcome {
    let mut parameters = [0; 120];
    call!(SYS_io_uring_setup, 4, room(&mut parameters)).map(drop)
}

/// A socket filter that answers 0.
fn load_bpf() -> Outcome {
    let program: [u64; 2] = [0xb7, 0x95];
    let license = Text::new("GPL");
    let mut attributes = [0_u64; 6];
    attributes[0] = 1 | 2 << 32;
    attributes[1] = program.as_ptr() as u64;
    attributes[2] = license.address();
    call!(SYS_bpf, 5, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Cycles of this process, outside of the kernel.
fn measure_events() -> Outcome {
    let mut attributes = [0_u64; 16];
    // software, cpu clock
    attributes[0] = 1 | 128 << 32;
    attributes[5] = 1 << 5;
    call!(SYS_perf_event_open, attributes.as_ptr(), 0, u64::MAX, u64::MAX, 0).map(drop)
}

fn add_key() -> Outcome {
    let (kind, name) = (Text::new("user"), Text::new("attacker"));
    // KEY_SPEC_PROCESS_KEYRING
    call!(SYS_add_key, kind.address(), name.address(), address(b"x"), 1, -2_i64).map(drop)
}

/// No module: who may, is told so.
fn load_module() -> Outcome {
    let nothing = Text::new("");
    match call!(SYS_init_module, nothing.address(), 1, nothing.address()) {
        Err(Refused { number: libc::ENOEXEC, .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn open_file_system() -> Outcome {
    let kind = Text::new("tmpfs");
    call!(SYS_fsopen, kind.address(), 0).map(drop)
}

fn read_kernel_log() -> Outcome {
    let mut bytes = [0; 64];
    // SYSLOG_ACTION_READ_CLEAR, which every kernel keeps from ordinary users
    call!(SYS_syslog, 4, room(&mut bytes), 0).map(drop)
}

/// To an impossible time: who may, is told so.
fn set_clock() -> Outcome {
    let time = [-1_i64, -1];
    match call!(SYS_clock_settime, libc::CLOCK_REALTIME, time.as_ptr()) {
        Err(Refused { number: libc::EINVAL, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Pages of our own into a pipe.
fn splice() -> Outcome {
    let mut ends = [0; 8];
    call!(SYS_pipe2, room(&mut ends), libc::O_CLOEXEC)?;
    let [_, _, _, _, a, b, c, d] = ends;
    let bytes = [7_u8; 16];
    let vector = [address(&bytes), 16];
    call!(SYS_vmsplice, i32::from_ne_bytes([a, b, c, d]), vector.as_ptr(), 1, 0).map(drop)
}
