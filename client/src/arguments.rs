//! The command line: what may be given together, and what it means.

use clap::{ArgGroup, CommandFactory, Parser, error::ErrorKind};
use std::path::PathBuf;
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
    pub(crate) location: PathBuf,
    pub(crate) pid: Option<i32>,
    pub(crate) acts: Vec<Act>,
    pub(crate) directory: Option<String>,
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
        if is_tcp(&line.listen) {
            return Err(wrong(format!(
                "TCP (-l {}) is not supported yet; give the path of the daemon's UNIX socket",
                line.listen
            )));
        }
        let acts = line.acts();
        if line.pid.is_none() && acts != [Act::List] {
            return Err(wrong("say which process with -p PID".to_owned()));
        }
        if line.pid.is_some() && acts == [Act::List] {
            return Err(wrong("--list takes no -p; ask for one process with --status".to_owned()));
        }
        Ok(Self {
            location: PathBuf::from(&line.listen),
            pid: line.pid,
            acts,
            directory: line.directory,
            patience: Duration::from_secs(line.timeout),
            json: line.json,
        })
    }
}

/// Asks a memcr daemon to put a process to sleep or to wake it.
#[derive(Debug, Parser)]
#[command(name = "memcr-client", version, after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("act").required(true).multiple(true).args(["checkpoint", "restore", "list", "status"]))]
struct CommandLine {
    /// Socket that the daemon listens on
    #[arg(short, long, visible_alias = "location", value_name = "PATH")]
    listen: String,

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

    /// Give up when the daemon has said nothing for so many seconds
    #[arg(short, long, value_name = "SEC", default_value_t = memcr_client::DEFAULT_PATIENCE.as_secs(),
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

/// Whether a location is a TCP port or an address with one, rather than a path.
fn is_tcp(location: &str) -> bool {
    let port = location.rsplit_once(':').map_or(location, |(_, port)| port);
    !location.contains('/') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn wrong(message: String) -> clap::Error {
    CommandLine::command().error(ErrorKind::ValueValidation, message)
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
    fn a_port_is_refused_with_a_sentence() {
        for location in ["9000", "127.0.0.1:12345", "localhost:9000"] {
            let refusal = read(&["-l", location, "-p", "7", "-c"]).unwrap_err().to_string();
            assert!(refusal.contains("TCP") && refusal.contains("not supported yet"), "{refusal}");
        }
        assert!(read(&["-l", "./9000", "-p", "7", "-c"]).is_ok());
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
