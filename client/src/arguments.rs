//! The command line: what may be given together, and what it means.

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use memcrclient::{CheckpointOptions, Compression, Location};
use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Checkpoint,
    Restore,
    List,
    Status,
}

/// A command line that makes sense.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) location: Location,
    pub(crate) pid: Option<i32>,
    pub(crate) acts: Vec<Act>,
    pub(crate) options: CheckpointOptions,
    pub(crate) patience: Duration,
    pub(crate) json: bool,
}

impl Arguments {
    /// The arguments of this process.
    ///
    /// # Errors
    /// A message to be shown: what is wrong, or the help or version that was asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        Self::check(CommandLine::try_parse()?)
    }

    fn check(line: CommandLine) -> Result<Self, clap::Error> {
        let location =
            Location::parse(&line.listen).map_err(|error| wrong(ErrorKind::ValueValidation, error))?;
        let acts = line.acts();
        if line.pid.is_none() && acts != [Act::List] {
            return Err(wrong(ErrorKind::MissingRequiredArgument, "say which process with -p PID"));
        }
        if line.pid.is_some() && acts == [Act::List] {
            let said = "--list takes no -p; ask for one process with --status";
            return Err(wrong(ErrorKind::ArgumentConflict, said));
        }
        if location.is_tcp() && (acts == [Act::List] || acts == [Act::Status]) {
            return Err(wrong(ErrorKind::ArgumentConflict, ONLY_UNIX));
        }
        Ok(Self {
            location,
            pid: line.pid,
            acts,
            options: CheckpointOptions { directory: line.directory, compression: line.compress },
            patience: Duration::from_secs(line.timeout),
            json: line.json,
        })
    }
}

/// Asks a memcr daemon to put a process to sleep or to wake it.
#[derive(Debug, Parser)]
#[command(name = "memcr-client", version = version(), after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("act").required(true).multiple(true).args(["checkpoint", "restore", "list", "status"]))]
struct CommandLine {
    /// Where the daemon listens: the path of its UNIX socket, or a TCP port of this or another machine
    ///
    /// Over TCP it speaks the original's protocol: -c and -r, without figures.
    #[arg(short, long, visible_alias = "location", value_name = "[ADDRESS:]PORT|PATH")]
    listen: OsString,

    /// The process, by its number where this command runs
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// Put the process to sleep: its memory is taken away until it is woken
    #[arg(short, long)]
    checkpoint: bool,

    /// Wake the process (with -c: after it was put to sleep)
    #[arg(short, long)]
    restore: bool,

    /// List the processes that sleep, as far as you may see them
    #[arg(long, conflicts_with_all = ["checkpoint", "restore", "status"])]
    list: bool,

    /// Show the state of the process
    #[arg(long, conflicts_with_all = ["checkpoint", "restore"])]
    status: bool,

    /// Image directory: one of the daemon's -d, as it was given there; else its first
    #[arg(short, long, value_name = "DIR", requires = "checkpoint")]
    directory: Option<String>,

    /// Compress its image so, whatever the daemon does by default: lz4, zstd or none
    #[arg(short = 'z', long, value_name = "ALGORITHM", requires = "checkpoint", value_parser = compression)]
    compress: Option<Compression>,

    /// Give up when the daemon has said nothing for so many seconds
    #[arg(short, long, value_name = "SEC", default_value_t = memcrclient::DEFAULT_PATIENCE.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Answer in JSON: one object per act (a list: one array)
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  wrong usage
  2  refused by the daemon's policy
  3  refused because of the state of the process (there is none, it sleeps already, it is traced, ...)
  4  failed and undone; or the daemon can't be reached, or it isn't known what came of it (ask with --status)
  5  the process is lost: it died, or its image could not be read back";

impl CommandLine {
    fn acts(&self) -> Vec<Act> {
        let asked = [
            (self.checkpoint, Act::Checkpoint),
            (self.restore, Act::Restore),
            (self.list, Act::List),
            (self.status, Act::Status),
        ];
        asked.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, act)| act).collect()
    }
}

/// What is said to --list and --status over TCP.
const ONLY_UNIX: &str = "--list and --status need the daemon's UNIX socket, give its path with -l: over TCP only \
    the original's protocol works, which has no such requests";

/// Version, architecture and kernel.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let kernel = rustix::system::uname();
        let (system, release) = (kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy());
        format!("{} ({}, {system} {release})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
    })
}

fn compression(text: &str) -> Result<Compression, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        _ => Err("the algorithms are lz4, zstd, none"),
    }
}

fn wrong(kind: ErrorKind, message: impl std::fmt::Display) -> clap::Error {
    CommandLine::command().error(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments, clap::Error> {
        let line = CommandLine::try_parse_from([&["memcr-client"], words].concat())?;
        Arguments::check(line)
    }

    #[test]
    fn checkpoint_and_restore_together_are_done_in_that_order() {
        let arguments = read(&["-rc", "-l", "/s", "-p", "7"]).unwrap();
        assert_eq!(arguments.acts, [Act::Checkpoint, Act::Restore]);
        assert_eq!(arguments.pid, Some(7));
    }

    #[test]
    fn the_original_long_names_are_understood() {
        assert!(read(&["--location", "/s", "--pid", "7", "--checkpoint"]).is_ok());
    }

    #[test]
    fn a_port_is_tcp_on_this_machine_and_an_address_may_come_before_it() {
        for (location, shown) in [
            ("9000", "127.0.0.1:9000"),
            ("localhost:9000", "localhost:9000"),
            ("[::1]:9000", "[::1]:9000"),
            ("./9000", "./9000"),
        ] {
            let arguments = read(&["-l", location, "-p", "7", "-c"]).unwrap();
            assert_eq!(arguments.location.to_string(), shown);
        }
        for location in ["0", "65536", "::1:9000", ""] {
            assert!(read(&["-l", location, "-p", "7", "-c"]).is_err(), "{location}");
        }
    }

    #[test]
    fn list_and_status_over_tcp_are_refused_with_a_sentence() {
        for words in [&["--list"][..], &["--status", "-p", "7"]] {
            let refusal = read(&[&["-l", "9000"], words].concat()).unwrap_err();
            assert!(refusal.to_string().contains("need the daemon's UNIX socket"), "{refusal}");
        }
    }

    #[test]
    fn a_checkpoint_may_name_directory_and_compression() {
        let line = ["-l", "/s", "-p", "7", "-c", "-d", "/a", "-z", "ZSTD"];
        let expected =
            CheckpointOptions { directory: Some("/a".to_owned()), compression: Some(Compression::Zstd) };
        assert_eq!(read(&line).unwrap().options, expected);
        for (word, compression) in [("lz4", Compression::Lz4), ("none", Compression::None)] {
            let arguments = read(&["-l", "/s", "-p", "7", "-c", "--compress", word]).unwrap();
            assert_eq!(arguments.options.compression, Some(compression));
        }
        assert!(read(&["-l", "/s", "-p", "7", "-c", "-z", "gzip"]).is_err());
        assert!(read(&["-l", "/s", "-p", "7", "-r", "-z", "lz4"]).is_err());
    }

    #[test]
    fn the_version_names_architecture_and_kernel() {
        for word in ["-V", "--version"] {
            let text = read(&[word]).unwrap_err().to_string();
            let start = concat!("memcr-client ", env!("CARGO_PKG_VERSION"), " (");
            assert!(text.starts_with(start) && text.contains(std::env::consts::ARCH), "{text}");
            assert!(text.contains("Linux"), "{text}");
        }
    }

    #[test]
    fn a_process_is_needed_for_everything_but_the_list() {
        assert!(read(&["-l", "/s", "-c"]).is_err());
        assert!(read(&["-l", "/s", "--status"]).is_err());
        assert!(read(&["-l", "/s"]).is_err());
        assert!(read(&["-l", "/s", "-p", "7"]).is_err());
        assert!(read(&["-l", "/s", "-p", "7", "--list"]).is_err());
        assert!(read(&["-l", "/s", "--list"]).is_ok());
    }

    #[test]
    fn numbers_that_mean_groups_or_everybody_are_no_process() {
        for pid in ["0", "-1", "-7", "4294967296", "x"] {
            assert!(read(&["-l", "/s", "-c", "-p", pid]).is_err(), "{pid}");
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
