//! What /proc tells about processes, and snapshots of it that can be compared.

use nix::sys::socket::{getsockopt, sockopt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// /proc/PID/status (or a thread's), as far as it is there.
#[derive(Debug, Clone)]
pub struct Status {
    fields: BTreeMap<String, String>,
}

impl Status {
    /// Of a process; `None` if there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Self::read(PathBuf::from(format!("/proc/{pid}/status")))
    }

    /// Of a thread.
    pub fn of_thread(pid: i32, tid: i32) -> Option<Self> {
        Self::read(PathBuf::from(format!("/proc/{pid}/task/{tid}/status")))
    }

    fn read(path: PathBuf) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(Self {
            fields: fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
        })
    }

    /// A field as it is there.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field that is a number in base 16.
    pub fn hexadecimal(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).unwrap_or_else(|_| panic!("no {name} in status"))
    }

    /// The first number of a field.
    pub fn number(&self, name: &str) -> u64 {
        let first = self.field(name).split_whitespace().next().and_then(|word| word.parse().ok());
        first.unwrap_or_else(|| panic!("no {name} in status"))
    }

    /// The letter of the state.
    pub fn state(&self) -> char {
        self.field("State").chars().next().unwrap_or('?')
    }
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    Status::of(pid).is_some_and(|status| !matches!(status.state(), 'Z' | 'X'))
}

/// The process that traces `pid`, if any: its worker, while it sleeps.
pub fn tracer(pid: i32) -> Option<i32> {
    let tracer = Status::of(pid)?.number("TracerPid");
    i32::try_from(tracer).ok().filter(|tracer| *tracer != 0)
}

/// Anonymous resident memory in bytes.
pub fn rss_anon(pid: i32) -> u64 {
    Status::of(pid).unwrap_or_else(|| panic!("process {pid} is gone")).number("RssAnon") * 1024
}

/// Processes whose parent is `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    let parent = u64::try_from(pid).expect("a pid is positive");
    let is_child = |child: &i32| {
        Status::of(*child).is_some_and(|status| status.number("PPid") == parent && status.state() != 'Z')
    };
    processes().into_iter().filter(is_child).collect()
}

/// All processes.
pub fn processes() -> Vec<i32> {
    numbers_in("/proc")
}

/// Threads of a process.
pub fn threads(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

/// Whether a process has this many threads, and all of them wait.
pub fn all_wait(pid: i32, threads: usize) -> bool {
    let tids = self::threads(pid);
    let waits = |tid: &i32| Status::of_thread(pid, *tid).is_some_and(|status| status.state() == 'S');
    tids.len() == threads && tids.iter().all(waits)
}

/// Soft and hard limit of a resource, as /proc/PID/limits calls it ("Max open files").
pub fn limit(pid: i32, name: &str) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("root may read it");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("there is that limit");
    let mut words = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
}

/// The environment that a process was started with, as far as it still shows.
pub fn environment(pid: i32) -> Vec<u8> {
    let block = std::fs::read(format!("/proc/{pid}/environ")).expect("root may read it");
    block.into_iter().filter(|byte| *byte != 0).collect()
}

/// Open file descriptors of a process.
pub fn descriptors(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/fd"))
}

/// What a file descriptor of a process refers to.
pub fn descriptor_target(pid: i32, descriptor: i32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    link.map_or_else(|error| error.to_string(), |path| path.to_string_lossy().into_owned())
}

/// Inode numbers of the sockets that a process has.
pub fn sockets_of(pid: i32) -> BTreeSet<u64> {
    let names = descriptors(pid).into_iter().map(|number| descriptor_target(pid, number));
    names.filter_map(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// Inode numbers of the UNIX socket that is bound to a path, and of the connections made to it that were
/// accepted or are about to be.
pub fn sockets_at(path: &Path) -> BTreeSet<u64> {
    let all = std::fs::read_to_string("/proc/net/unix").expect("cannot read /proc/net/unix");
    let bound = all.lines().filter(|line| line.split_whitespace().nth(7).map(Path::new) == Some(path));
    bound.filter_map(|line| line.split_whitespace().nth(6)?.parse().ok()).collect()
}

/// The TCP addresses at which a process listens, in its own network.
pub fn listening_at(pid: i32) -> BTreeSet<SocketAddr> {
    let own = sockets_of(pid);
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let listens = lines.filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_own = words.get(9)?.parse().is_ok_and(|inode| own.contains(&inode));
        // state LISTEN
        (is_own && *words.get(3)? == "0A").then(|| address_of(words[1]))
    });
    listens.collect()
}

/// An address of /proc/net/tcp: words of the machine's byte order, in base 16, and the port.
fn address_of(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address has a port");
    let word = |start: usize| u32::from_str_radix(&ip[start..start + 8], 16).expect("base 16").to_ne_bytes();
    let bytes: Vec<u8> = (0..ip.len()).step_by(8).flat_map(word).collect();
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).expect("16 bytes")),
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).expect("base 16"))
}

/// How often the threads of a process have left the processor. It doesn't change while all of them wait, and
/// does when one is stopped and goes on to wait, however short the stop was.
pub fn context_switches(pid: i32) -> u64 {
    let statuses = threads(pid).into_iter().filter_map(|tid| Status::of_thread(pid, tid));
    let both = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
    statuses.map(|status| both.iter().map(|name| status.number(name)).sum::<u64>()).sum()
}

/// The user that the files in /proc/PID belong to: root for a process that is not dumpable.
pub fn owner(pid: i32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}/status")).unwrap_or_else(|_| panic!("process {pid} is gone")).uid()
}

/// Start time in clock ticks since boot.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Path of the program of a process.
pub fn executable(pid: i32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).expect("a process has a program");
    link.to_string_lossy().into_owned()
}

/// Duplicates of all descriptors of a process, as root may take them.
pub fn take_descriptors(pid: i32) -> Vec<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let pidfd = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("a pidfd");
    let take = |number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok();
    descriptors(pid).into_iter().filter_map(take).collect()
}

/// Resident bytes of the mapping that holds `address`.
pub fn resident_at(pid: i32, address: u64) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("cannot read smaps");
    let mut is_inside = false;
    for line in smaps.lines() {
        if let Some((start, end)) = range_of(line) {
            is_inside = (start..end).contains(&address);
        } else if let (true, Some(size)) = (is_inside, line.strip_prefix("Rss:")) {
            let kib: u64 = size.trim_end_matches("kB").trim().parse().expect("Rss is a number");
            return kib * 1024;
        }
    }
    panic!("process {pid} maps nothing at {address:#x}");
}

/// Bytes of a page of this machine.
///
/// # Panics
/// When the kernel doesn't tell.
pub fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).expect("sysconf");
    size.and_then(|size| usize::try_from(size).ok()).expect("a page has a size")
}

/// The bytes of the page at `address`, unless it is missing: a guarded page that is missing is not touched.
///
/// # Panics
/// When the process has no memory there, or has ended.
pub fn present_page(pid: i32, address: u64) -> Option<Vec<u8>> {
    let open = |name| std::fs::File::open(format!("/proc/{pid}/{name}")).expect("root may open it");
    let mut entry = [0; 8];
    let offset = address / page_size() as u64 * 8;
    open("pagemap").read_exact_at(&mut entry, offset).expect("an entry of the page map");
    let is_present_or_swapped = u64::from_ne_bytes(entry) >> 62 != 0;
    is_present_or_swapped.then(|| {
        let mut bytes = vec![0; page_size()];
        open("mem").read_exact_at(&mut bytes, address).expect("memory of the process");
        bytes
    })
}

fn numbers_in(directory: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut numbers: Vec<i32> = names.filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// First and last address of the first line of a mapping.
fn range_of(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Everything about a process that putting it to sleep must not change, as names and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// Of a process that is there and does nothing just now.
    pub fn of(pid: i32) -> Self {
        let mut facts = BTreeMap::new();
        mappings(pid, &mut facts);
        code(pid, &mut facts);
        files(pid, &mut facts);
        signals(pid, &mut facts);
        for name in ["limits", "personality", "coredump_filter", "oom_score_adj", "comm"] {
            let value = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            facts.insert(name.to_owned(), String::from_utf8_lossy(&value).into_owned());
        }
        Self { facts }
    }

    /// The same without what differs rightly while a process sleeps: the guard's file descriptor,
    /// the flags of the mappings that it is registered with, and who traces the threads.
    pub fn without_sleep(mut self) -> Self {
        self.facts.retain(|name, value| {
            let is_guard = name.starts_with("fd ") && value.contains("[userfaultfd]");
            !is_guard && !name.starts_with("flags ") && !name.ends_with(" TracerPid")
        });
        self
    }

    /// Asserts that nothing differs, and shows what does.
    ///
    /// # Panics
    /// When something differs.
    pub fn assert_same(&self, after: &Self, when: &str) {
        let mut difference = String::new();
        let names =
            self.facts.keys().chain(after.facts.keys().filter(|name| !self.facts.contains_key(*name)));
        for name in names {
            let (old, new) = (self.facts.get(name), after.facts.get(name));
            if old != new {
                let _ = writeln!(difference, "  {name}: {old:?} became {new:?}");
            }
        }
        assert!(difference.is_empty(), "the process differs {when}:\n{difference}");
    }
}

fn mappings(pid: i32, facts: &mut BTreeMap<String, String>) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut address = "";
    for line in smaps.lines() {
        if range_of(line).is_some() {
            let (range, rest) = line.split_once(' ').unwrap_or((line, ""));
            address = range;
            facts.insert(format!("mapping {range}"), rest.split_whitespace().collect::<Vec<_>>().join(" "));
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            facts.insert(format!("flags {address}"), flags.trim().to_owned());
        }
    }
}

/// A hash of every executable mapping of a file, and of the vDSO: no byte of the program's code may
/// ever change. (Others may be asleep, and reading them would wait for the wake.)
fn code(pid: i32, facts: &mut BTreeMap<String, String>) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return };
    let is_code = |line: &&str| {
        line.split_whitespace().nth(1).is_some_and(|mode| mode.contains('x'))
            && line.split_whitespace().nth(5).is_some_and(|name| name.starts_with('/') || name == "[vdso]")
    };
    for line in maps.lines().filter(is_code) {
        let Some((start, end)) = range_of(line) else { continue };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let hash = memory.read_exact_at(&mut bytes, start).map(|()| crate::content::hash(&bytes));
        facts.insert(format!("code {start:x}"), format!("{:x?}", hash.ok()));
    }
}

fn files(pid: i32, facts: &mut BTreeMap<String, String>) {
    for descriptor in descriptors(pid) {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
        // timers and the like count on by themselves: only what stays
        let stays = ["pos:", "flags:", "mnt_id:", "ino:", "eventfd-count:", "sigmask:", "tfd:", "inotify"];
        let lines = info.lines().filter(|line| stays.iter().any(|start| line.starts_with(start)));
        let info =
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        let target = descriptor_target(pid, descriptor);
        facts.insert(format!("fd {descriptor}"), format!("{target} {}", info.join(", ")));
    }
}

fn signals(pid: i32, facts: &mut BTreeMap<String, String>) {
    for tid in threads(pid) {
        let Some(status) = Status::of_thread(pid, tid) else { continue };
        for field in SAME_IN_STATUS {
            facts.insert(format!("thread {tid} {field}"), status.field(field).to_owned());
        }
        // an interval timer ticks on while its process sleeps: its signal waits, or is blocked since its handler runs
        for field in ["ShdPnd", "SigBlk"] {
            let others = status.hexadecimal(field) & !(1 << (libc::SIGALRM - 1));
            facts.insert(format!("thread {tid} {field}"), format!("{others:x}"));
        }
    }
}

/// Fields of a thread's status that must be the same again.
const SAME_IN_STATUS: [&str; 20] = [
    "Name",
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "TracerPid",
    "FDSize",
    "Threads",
    "SigPnd",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "VmLck",
    "Cpus_allowed",
];

/// A duplicate of another process's descriptor.
pub fn descriptor_of(pid: i32, number: i32) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it lives");
    let flags = rustix::process::PidfdGetfdFlags::empty();
    rustix::process::pidfd_getfd(process, number, flags).expect("root may take a descriptor")
}

/// Whom the kernel names at the other end of a socket.
pub fn peer_uid(socket: &impl AsFd) -> u32 {
    peer_uid_of_socket(socket).expect("a UNIX socket with another end")
}

/// The same; `None` for what is no such socket.
pub fn peer_uid_of_socket(descriptor: &impl AsFd) -> Option<u32> {
    let credentials = getsockopt(descriptor, sockopt::PeerCredentials).ok()?;
    (credentials.pid() != 0).then(|| credentials.uid())
}

/// The process at the other end of a socket.
pub fn peer_pid(socket: &impl AsFd) -> u32 {
    let credentials = getsockopt(socket, sockopt::PeerCredentials).expect("a UNIX socket");
    u32::try_from(credentials.pid()).expect("a process id")
}
