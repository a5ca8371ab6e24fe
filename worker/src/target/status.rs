//! `/proc/PID/status` and `/proc/PID/stat` (Documentation/filesystems/proc.rst).

use crate::error::{Error, Result};
use crate::target::proc_directory::ProcDirectory;

/// The fields of a status file that somebody here asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) uids: [u32; 3],
    pub(crate) gids: [u32; 3],
    /// Tracer, 0 if none.
    pub(crate) tracer: i32,
    /// Seccomp mode, 0 if none.
    pub(crate) seccomp: u32,
    /// Memory pinned for the kernel or a device, in bytes.
    pub(crate) pinned: u64,
    /// Anonymous resident memory in bytes.
    pub(crate) rss_anonymous: u64,
    /// Resident memory of mapped files in bytes.
    pub(crate) rss_file: u64,
    /// Whether it has memory of its own; kernel threads and zombies have not.
    pub(crate) has_memory: bool,
    /// Signals pending for the thread or its process that it doesn't block.
    pub(crate) deliverable_signals: u64,
    /// Signals pending for the process.
    pub(crate) shared_signals: u64,
    /// Signals that it ignores, and that it has handlers for.
    pub(crate) ignored_signals: u64,
    pub(crate) caught_signals: u64,
    /// Whether it is the first process of its pid namespace.
    pub(crate) is_init: bool,
    /// State letter: R, S, D, T, t, Z, X.
    pub(crate) state: char,
}

impl Status {
    /// Whether a signal that nothing can stop waits for it.
    pub(crate) fn is_dying(&self) -> bool {
        let kill = 1 << (nix::sys::signal::Signal::SIGKILL as u32 - 1);
        (self.deliverable_signals | self.shared_signals) & kill != 0
    }

    /// Reads and parses the file.
    pub(crate) fn read(directory: &ProcDirectory) -> Result<Self> {
        Self::parse(&directory.text("status")?)
            .ok_or_else(|| Error::Unsupported("this kernel's /proc/PID/status lacks a field".into()))
    }

    /// Parses the text of a status file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let kibibytes = |name| {
            field(name)
                .and_then(|value| value.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib.saturating_mul(1024))
        };
        let signals = |name| field(name).and_then(|value| u64::from_str_radix(value, 16).ok()).unwrap_or(0);
        Some(Self {
            uids: first_three(field("Uid")?)?,
            gids: first_three(field("Gid")?)?,
            tracer: field("TracerPid")?.parse().ok()?,
            seccomp: field("Seccomp").unwrap_or("0").parse().ok()?,
            pinned: kibibytes("VmPin"),
            rss_anonymous: kibibytes("RssAnon"),
            rss_file: kibibytes("RssFile"),
            has_memory: field("VmSize").is_some(),
            deliverable_signals: (signals("SigPnd") | signals("ShdPnd")) & !signals("SigBlk"),
            shared_signals: signals("ShdPnd"),
            ignored_signals: signals("SigIgn"),
            caught_signals: signals("SigCgt"),
            is_init: field("NStgid").and_then(|pids| pids.split_ascii_whitespace().last()) == Some("1"),
            state: field("State")?.chars().next()?,
        })
    }
}

/// Real, effective and saved id.
fn first_three(value: &str) -> Option<[u32; 3]> {
    let mut ids = value.split_ascii_whitespace().map(str::parse);
    match (ids.next()?, ids.next()?, ids.next()?) {
        (Ok(real), Ok(effective), Ok(saved)) => Some([real, effective, saved]),
        _ => None,
    }
}

/// Flag of kernel threads (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of a stat file that somebody here asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
    /// Whether it is a thread of the kernel.
    pub(crate) is_kernel_thread: bool,
    /// Process id of the parent.
    pub(crate) parent: i32,
}

impl Stat {
    /// Reads and parses the file.
    pub(crate) fn read(directory: &ProcDirectory) -> Result<Self> {
        Self::parse(&directory.text("stat")?)
            .ok_or_else(|| Error::Unsupported("this kernel's /proc/PID/stat lacks a field".into()))
    }

    /// Parses the line; the name, which may hold anything, ends at the last parenthesis.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let flags: u64 = fields.get(6)?.parse().ok()?;
        Some(Self {
            start_time: fields.get(19)?.parse().ok()?,
            is_kernel_thread: flags & PF_KTHREAD != 0,
            parent: fields.get(1)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_spaces_is_read_over() {
        let line = "77 (a) R (b) S 5 77 77 0 -1 2097152 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { start_time: 4242, is_kernel_thread: true, parent: 5 });
    }

    #[test]
    fn the_first_process_of_a_namespace_is_known_by_any_of_its_threads() {
        let status = |process, thread| {
            let ids = format!("NStgid:\t{process}\nNSpid:\t{thread}\n");
            let rest = "State:\tS\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
            Status::parse(&(ids + rest)).unwrap().is_init
        };
        assert!(status("4711\t1", "4712\t2") && status("4711\t1", "4711\t1"));
        assert!(!status("4711\t5", "4712\t1") && !status("4711", "4711"));
    }

    #[test]
    fn signals_that_are_blocked_are_not_deliverable() {
        let text = "Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                    VmSize:\t 10 kB\nRssAnon:\t 3 kB\nSigPnd:\t0000000000000003\nShdPnd:\t0000000000000004\n\
                    SigBlk:\t0000000000000001\nSeccomp:\t2\n";
        let status = Status::parse(text).unwrap();
        assert_eq!(status.deliverable_signals, 6);
        assert_eq!((status.uids, status.gids, status.tracer), ([1, 2, 3], [5, 6, 7], 9));
        assert_eq!((status.rss_anonymous, status.seccomp, status.has_memory), (3072, 2, true));
    }
}
