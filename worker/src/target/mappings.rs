//! `/proc/PID/smaps`: the mappings, and which of them are taken away (kernel facts 25 to 31).

use crate::error::{Error, Result};
use crate::target::refusals::RING;
use nix::errno::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek as _};

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// First byte.
    pub(crate) start: u64,
    /// First byte behind it.
    pub(crate) end: u64,
    executable: bool,
    writable: bool,
    private: bool,
    inode: u64,
    name: String,
    flags: Vec<[u8; 2]>,
    /// Anonymous memory in it, resident or swapped, in bytes.
    pub(crate) anonymous: u64,
}

/// Flags (VmFlags) of mappings that stay resident: locked, kept out of dumps by the program, device
/// memory, huge pages, the program's own userfaultfd, droppable, shadow stacks, sealed, tagged.
const RESIDENT_FLAGS: [&[u8; 2]; 12] =
    [b"lo", b"dd", b"io", b"pf", b"ht", b"um", b"uw", b"ui", b"dp", b"ss", b"sl", b"mt"];

/// Flags of mappings that drivers make, whose pages may not come back once they are dropped.
const DEVICE_FLAGS: [&[u8; 2]; 2] = [b"mm", b"de"];

/// Longest line of smaps that is kept, in bytes. A path can be far longer: what is behind that tells nothing.
const LINE_LIMIT: usize = 1024;

/// Names of memory and devices that look like files.
const NO_FILES: [&str; 3] = ["/memfd:", "/dev/", "/SYSV"];

/// Mappings without an inode that are the kernel's, not the program's.
const KERNEL_NAMES: [&str; 7] =
    ["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[vectors]", "[sigpage]", "[uprobes]"];

impl Mapping {
    /// Whether its pages are dumped, guarded and freed: private anonymous memory that nothing pins.
    ///
    /// Copy-on-write pages of private file mappings can't be guarded, so they stay (kernel fact 16).
    pub(crate) fn is_taken(&self) -> bool {
        self.private
            && self.inode == 0
            && self.anonymous > 0
            && !KERNEL_NAMES.contains(&self.name.as_str())
            && !RESIDENT_FLAGS.iter().any(|flag| self.flags.contains(flag))
    }

    /// Whether pages of a file may be in it, which can be dropped since they come back from there. Memory
    /// that only looks like a file has nowhere else to be.
    pub(crate) fn is_of_file(&self) -> bool {
        self.inode != 0
            && self.name.starts_with('/')
            && !NO_FILES.iter().any(|name| self.name.starts_with(name))
            && !RESIDENT_FLAGS.iter().chain(&DEVICE_FLAGS).any(|flag| self.flags.contains(flag))
    }

    /// Length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it is the kernel's page of code, which holds a system call instruction.
    pub(crate) fn is_vdso(&self) -> bool {
        self.name == "[vdso]"
    }

    /// Whether it is the C library or the dynamic linker of one, by its name.
    pub(crate) fn is_c_library(&self) -> bool {
        let file = self.name.rsplit('/').next().unwrap_or_default();
        file.starts_with("libc.") || file.starts_with("libc-") || file.starts_with("ld-musl")
    }

    /// Whether it is the stack that the kernel made for the first thread.
    pub(crate) fn is_main_stack(&self) -> bool {
        self.name == "[stack]"
    }

    /// Whether it can be written without waiting for anybody, such as the program's own userfaultfd.
    pub(crate) fn is_writable(&self) -> bool {
        let is_watched = [b"um", b"uw", b"ui"].iter().any(|flag| self.flags.contains(flag));
        self.writable && self.private && !is_watched
    }

    /// Whether it is nothing but code that somebody mapped without a file.
    pub(crate) fn is_anonymous_code(&self) -> bool {
        self.executable && !self.writable && self.private && self.inode == 0 && self.name.is_empty()
    }

    /// Whether nothing will grow into the memory above it, as the heap does.
    pub(crate) fn leaves_room_above(&self) -> bool {
        self.name != "[heap]"
    }

    /// Whether it will not grow into the memory below it, as stacks do.
    pub(crate) fn leaves_room_below(&self) -> bool {
        !self.is_main_stack() && !self.flags.contains(b"gd")
    }

    /// Whether the memory below it is the program's: only the kernel's page is among the kernel's addresses.
    pub(crate) fn leaves_room_before_kernel(&self) -> bool {
        !matches!(self.name.as_str(), "[vsyscall]" | "[vectors]")
    }

    /// Whether code runs there.
    pub(crate) fn is_executable(&self) -> bool {
        self.executable
    }

    /// Whether it is the ring of an asynchronous IO context (io_setup(2)).
    pub(crate) fn is_aio_ring(&self) -> bool {
        self.name.starts_with("/[aio]")
    }

    /// Whether it is the ring of an io_uring.
    pub(crate) fn is_ring(&self) -> bool {
        self.name == RING
    }

    /// Whether return addresses are kept there once more (x86 CET, arm64 GCS).
    pub(crate) fn is_shadow_stack(&self) -> bool {
        self.flags.contains(b"ss")
    }

    /// Whether it is guarded by a userfaultfd for missing pages.
    pub(crate) fn is_guarded(&self) -> bool {
        self.flags.contains(b"um")
    }
}

/// Reads all mappings from the start of an open smaps file.
pub(crate) fn read(smaps: &File) -> Result<Vec<Mapping>> {
    let mut file = smaps;
    file.rewind().map_err(|error| failed(&error))?;
    read_from(BufReader::with_capacity(64 * 1024, file))
}

/// The same from any text.
pub(super) fn read_from(mut reader: impl BufRead) -> Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if !read_line(&mut reader, &mut line).map_err(|error| failed(&error))? {
            return Ok(mappings);
        }
        parse_line(&line, &mut mappings)?;
    }
}

/// Appends the beginning of the next line, as far as it is kept; whether there was one.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut has_line = false;
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            filled => filled?,
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(bytes.len(), |end| end + 1);
        let kept = length.min(LINE_LIMIT.saturating_sub(line.len()));
        line.extend_from_slice(bytes.get(..kept).unwrap_or_default());
        reader.consume(length);
        has_line |= length > 0;
        if end.is_some() || length == 0 {
            return Ok(has_line);
        }
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::System {
        operation: "reading",
        object: "the target's smaps".into(),
        cause: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}

/// A line is a mapping's head, which begins with a hexadecimal digit in lower case, or one of the
/// fields below it, which begin with a capital letter.
fn parse_line(line: &[u8], mappings: &mut Vec<Mapping>) -> Result<()> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    if text.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
        let head = parse_head(text);
        mappings.push(
            head.ok_or_else(|| Error::Unsupported(format!("a line of smaps is not understood: {text}")))?,
        );
    } else if let Some(mapping) = mappings.last_mut() {
        parse_field(text, mapping);
    }
    Ok(())
}

/// `start-end permissions offset device inode name`.
fn parse_head(text: &str) -> Option<Mapping> {
    let (range, rest) = text.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (_offset, rest) = rest.split_once(' ')?;
    let (_device, rest) = rest.split_once(' ')?;
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    (start < end).then_some(Mapping {
        start,
        end,
        executable: permissions.contains('x'),
        writable: permissions.contains('w'),
        private: permissions.ends_with('p'),
        inode: inode.parse().ok()?,
        name: name.trim_start().to_owned(),
        flags: Vec::new(),
        anonymous: 0,
    })
}

fn parse_field(text: &str, mapping: &mut Mapping) {
    let Some((key, value)) = text.split_once(':') else {
        return;
    };
    match key {
        "Anonymous" | "Swap" => {
            let kibibytes = value.trim().split(' ').next().and_then(|number| number.parse::<u64>().ok());
            let bytes = kibibytes.unwrap_or(0).saturating_mul(1024);
            mapping.anonymous = mapping.anonymous.saturating_add(bytes);
        }
        "VmFlags" => {
            let flags = value.split_ascii_whitespace().filter_map(|flag| flag.as_bytes().try_into().ok());
            mapping.flags = flags.collect();
        }
        _ => {}
    }
}

/// Mappings of a text, as [`read`] reads a file.
#[cfg(test)]
pub(crate) fn parse(text: &str) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for line in text.lines() {
        parse_line(line.as_bytes(), &mut mappings).unwrap();
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(flags: &str) -> String {
        format!("7f00-7f01 rw-p 00000000 00:00 0 \nAnonymous:  4 kB\nSwap: 0 kB\nVmFlags: rd wr {flags}\n")
    }

    #[test]
    fn private_anonymous_memory_is_taken_and_its_name_does_not_matter() {
        let named = anonymous("ac").replace("0 \nA", "0      [anon:Size: 12 kB]\nA");
        assert!(parse(&named)[0].is_taken());
        assert!(parse(&anonymous("ac"))[0].is_taken());
    }

    #[test]
    fn what_the_program_locks_or_protects_stays() {
        for flag in ["lo", "dd", "io", "pf", "ht", "um", "uw", "dp", "ss", "sl", "mt"] {
            assert!(!parse(&anonymous(flag))[0].is_taken(), "{flag}");
        }
    }

    #[test]
    fn shared_file_and_kernel_mappings_stay() {
        let text = anonymous("ac");
        assert!(!parse(&text.replace("rw-p", "rw-s"))[0].is_taken());
        assert!(!parse(&text.replace("00:00 0", "fe:01 77 /lib/a b c"))[0].is_taken());
        assert!(!parse(&text.replace("0 \nA", "0  [vdso]\nA"))[0].is_taken());
    }

    #[test]
    fn pages_of_files_are_dropped_and_those_of_devices_and_of_memory_are_not() {
        let text = anonymous("mr").replace("00:00 0", "fe:01 77 /lib/a b c");
        assert!(parse(&text)[0].is_of_file() && parse(&text.replace("rw-p", "r--s"))[0].is_of_file());
        for name in
            ["/dev/shm/x", "/dev/dri/card0", "/memfd:x (deleted)", "/SYSV0001 (deleted)", "socket:[7]"]
        {
            assert!(!parse(&text.replace("/lib/a b c", name))[0].is_of_file(), "{name}");
        }
        for flag in ["mm", "de", "lo", "io"] {
            assert!(!parse(&text.replace("wr mr", &format!("wr {flag}")))[0].is_of_file(), "{flag}");
        }
        assert!(!parse(&anonymous("ac"))[0].is_of_file());
    }

    #[test]
    fn of_a_path_that_does_not_end_only_the_beginning_is_kept_and_the_next_line_is_read() {
        let long =
            anonymous("ac").replace("00:00 0 ", &format!("fe:01 77 /{}", "VmFlags: lo ".repeat(100_000)));
        let text = long + &anonymous("ac");
        for capacity in [1, 7, 64 * 1024] {
            let mappings = read_from(BufReader::with_capacity(capacity, text.as_bytes())).unwrap();
            assert_eq!(mappings.len(), 2);
            assert!(mappings[0].is_of_file() && mappings[0].name.len() < LINE_LIMIT);
            assert!(!mappings[0].is_taken() && mappings[1].is_taken());
        }
        assert_eq!(read_from(&b""[..]).unwrap(), Vec::new());
    }

    #[test]
    fn a_head_line_that_is_cut_off_is_an_error() {
        let mut mappings = Vec::new();
        assert!(parse_line(b"7f00-7f01 rw-p 0000\n", &mut mappings).is_err());
    }
}
