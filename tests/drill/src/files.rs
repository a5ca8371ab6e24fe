//! Files: to read, to write, to make, to remove.

use crate::orders::{fact, number};
use crate::sys::{Text, address, call, room};
use crate::{Attempt, Outcome, Refused};

/// All of them. Files and directories belong to the daemon's own user, so that their modes forbid nothing.
pub(crate) const ALL: &[Attempt] = &[
    Attempt { name: "open-secret", run: || open_and_read(&fact("secret")) },
    Attempt { name: "open-shadow", run: || open_and_read("/etc/shadow") },
    Attempt { name: "open-image", run: || open_and_read(&fact("image")) },
    Attempt { name: "write-file", run: write_file },
    Attempt { name: "write-passwd", run: || open("/etc/passwd", libc::O_WRONLY | libc::O_APPEND).map(drop) },
    Attempt { name: "make-file", run: make_file },
    Attempt {
        name: "remove-file",
        run: || on_path(&fact("secret"), |path| call!(SYS_unlinkat, HERE, path, 0)),
    },
    Attempt { name: "rename-file", run: rename_file },
    Attempt { name: "link-file", run: link_file },
    Attempt { name: "make-symbolic-link", run: symbolic_link },
    Attempt {
        name: "make-directory",
        run: || on_path(&made(), |path| call!(SYS_mkdirat, HERE, path, 0o777)),
    },
    Attempt { name: "make-fifo", run: make_fifo },
    Attempt {
        name: "change-mode",
        run: || on_path(&fact("secret"), |path| call!(SYS_fchmodat, HERE, path, 0o666)),
    },
    Attempt { name: "truncate-file", run: || on_path(&fact("secret"), |path| call!(SYS_truncate, path, 0)) },
    Attempt { name: "list-directory", run: list_directory },
    Attempt { name: "open-memory-of-process", run: || open_memory(number("victim")) },
    Attempt { name: "open-memory-of-launcher", run: || open_memory(number("launcher")) },
    Attempt { name: "open-memory-of-other-worker", run: || open_memory(number("worker")) },
    Attempt { name: "open-descriptor-of-launcher", run: open_descriptor },
    Attempt { name: "open-by-handle", run: open_by_handle },
    Attempt { name: "change-directory", run: || on_path(&fact("place"), |path| call!(SYS_chdir, path)) },
    Attempt { name: "change-root", run: || on_path(&fact("place"), |path| call!(SYS_chroot, path)) },
    Attempt { name: "mount", run: mount },
    Attempt { name: "watch-file", run: || call!(SYS_inotify_init1, 0).map(drop) },
];

/// The working directory.
const HERE: libc::c_int = libc::AT_FDCWD;

/// Something that isn't there.
fn made() -> String {
    format!("{}/made", fact("place"))
}

fn on_path(path: &str, act: impl FnOnce(u64) -> Result<u64, Refused>) -> Outcome {
    let path = Text::new(path);
    act(path.address()).map(drop)
}

fn open(path: &str, flags: libc::c_int) -> Result<u64, Refused> {
    let path = Text::new(path);
    call!(SYS_openat, HERE, path.address(), flags, 0o600)
}

fn open_and_read(path: &str) -> Outcome {
    let file = open(path, libc::O_RDONLY | libc::O_CLOEXEC)?;
    let mut bytes = [0; 16];
    call!(SYS_read, file, room(&mut bytes), bytes.len()).map(drop)
}

fn write_file() -> Outcome {
    let file = open(&fact("secret"), libc::O_WRONLY | libc::O_APPEND)?;
    let bytes = b"written by an attacker";
    call!(SYS_write, file, address(bytes), bytes.len()).map(drop)
}

fn make_file() -> Outcome {
    open(&made(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC).map(drop)
}

fn rename_file() -> Outcome {
    let (from, to) = (Text::new(&fact("secret")), Text::new(&made()));
    call!(SYS_renameat2, HERE, from.address(), HERE, to.address(), 0).map(drop)
}

fn link_file() -> Outcome {
    let (from, to) = (Text::new(&fact("secret")), Text::new(&made()));
    call!(SYS_linkat, HERE, from.address(), HERE, to.address(), 0).map(drop)
}

fn symbolic_link() -> Outcome {
    let (from, to) = (Text::new("/etc/shadow"), Text::new(&made()));
    call!(SYS_symlinkat, from.address(), HERE, to.address()).map(drop)
}

fn make_fifo() -> Outcome {
    on_path(&made(), |path| call!(SYS_mknodat, HERE, path, libc::S_IFIFO | 0o666, 0))
}

fn list_directory() -> Outcome {
    let directory = open("/", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)?;
    let mut entries = [0; 512];
    call!(SYS_getdents64, directory, room(&mut entries), entries.len()).map(drop)
}

fn open_memory(process: u64) -> Outcome {
    open(&format!("/proc/{process}/mem"), libc::O_RDONLY | libc::O_CLOEXEC).map(drop)
}

/// The launcher has the keys' sockets and every image.
fn open_descriptor() -> Outcome {
    open(&format!("/proc/{}/fd/3", number("launcher")), libc::O_RDONLY | libc::O_CLOEXEC).map(drop)
}

fn open_by_handle() -> Outcome {
    // any handle: who may, is told that it is stale
    let handle = [8_u32, 1, 0, 0];
    match call!(SYS_open_by_handle_at, HERE, handle.as_ptr(), libc::O_RDONLY) {
        Err(Refused { number: libc::ESTALE, .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn mount() -> Outcome {
    let (kind, place) = (Text::new("tmpfs"), Text::new(&fact("place")));
    call!(SYS_mount, kind.address(), place.address(), kind.address(), 0, 0).map(drop)
}
