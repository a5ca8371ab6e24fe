//! The command line: what can be asked for, and what is refused before anything is done.

use clap::error::ErrorKind;
use clap::{ArgGroup, Parser};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  memcr -l /run/memcr.sock -g memcr     serve; members of group memcr may use it
  memcr -l /run/memcr.sock -d \"/var/lib/memcr;/tmp\" --policy /etc/memcr.toml
                                        images in the first directory unless a request names the
                                        second; who may do what is in the policy file
  memcr -p 1234                         put process 1234 to sleep, wait for Enter, wake it
  memcr -p 1234 -n                      put it to sleep and wake it at once

Exit status: 0 done, 1 the command line (or what it names) is wrong, or the daemon lost its launcher,
2 refused by policy, 3 refused by the target's state, 4 failed and undone (the target runs on), or
memcr could not start, 5 the target is lost.

The privilege needed is CAP_SYS_PTRACE: from root, from ambient capabilities (systemd's
AmbientCapabilities=), or from `setcap cap_sys_ptrace=ep` on this file. It goes to memcr-worker; this
process gives up all it has before it talks to anybody.";

/// Puts running processes to sleep: writes their memory to an encrypted image, frees it, and gives
/// it back on request. The process keeps its pid, sockets and mappings.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "memcr",
    version,
    after_help = EXAMPLES,
    group = ArgGroup::new("work").required(true).multiple(false).args(["listen", "pid"])
)]
pub struct Arguments {
    /// Serve clients on the UNIX socket at PATH
    ///
    /// A socket left over by an earlier memcr is replaced; anything else at PATH is left alone, and
    /// is an error. With -g its mode is 0660, without 0666: each client is named by the kernel and
    /// the policy decides what it may do.
    #[arg(short, long, value_name = "PATH", value_parser = socket_path)]
    pub listen: Option<PathBuf>,

    /// Put process PID to sleep, wait for Enter, wake it
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = process_id)]
    pub pid: Option<i32>,

    /// With -p: don't wait for Enter, wake it as soon as it sleeps
    #[arg(short, long, conflicts_with = "listen")]
    pub no_wait: bool,

    /// Group (name or number) of the listening socket
    ///
    /// Without --policy its members may act on every process that is not root's.
    #[arg(short = 'g', long, value_name = "GID", requires = "listen", conflicts_with = "pid")]
    pub listen_gid: Option<String>,

    /// Directories for images, separated by `;`; the first is the default
    ///
    /// Started as root, where the daemon's own user may not create files, a private subdirectory
    /// memcr-UID is made for it.
    #[arg(short, long, value_name = "DIR[;DIR]", default_value = "/tmp", value_parser = directories)]
    pub dir: Directories,

    /// Policy file: who may do what with which process
    ///
    /// Without it root may do all, a user may act on its own processes, and members of -g's group
    /// on every process that is not root's.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Append the audit log to FILE instead of standard error
    ///
    /// One JSON object a line; the file is created with mode 0600.
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,

    /// Started as root: the user (name or number) to become
    ///
    /// Without it `memcr` if there is such an account, else an unused number of 61184-65519.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// The memcr-worker program
    ///
    /// Without it the one beside this program, else ../libexec/memcr/memcr-worker from there.
    #[arg(long, value_name = "PATH")]
    pub worker: Option<PathBuf>,

    /// Log more
    #[arg(short, long)]
    pub verbose: bool,
}

/// Image directories as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories(pub Vec<String>);

/// The arguments of this process, or the exit status it ends with: 0 after help and version, 1
/// after an error of usage.
///
/// # Errors
/// The exit status, when there is nothing to do; what was to be said is said.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // nothing can be done when even this can't be written
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    })
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("a path is needed".into()),
        location if is_tcp(location) => Err(format!(
            "TCP is not served yet; give the path of a UNIX socket (./{location} for a file of that name)"
        )),
        path => Ok(PathBuf::from(path)),
    }
}

/// Whether a location is a TCP port or an address with one, rather than a path; by the client's rule.
fn is_tcp(location: &str) -> bool {
    let port = location.rsplit_once(':').map_or(location, |(_, port)| port);
    !location.contains('/') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn process_id(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(_) | Err(_) => Err("a process id is a number greater than 0".into()),
    }
}

fn directories(text: &str) -> Result<Directories, String> {
    let names: Vec<_> = text.split(';').filter(|name| !name.is_empty()).map(String::from).collect();
    if names.is_empty() { Err("a directory is needed".into()) } else { Ok(Directories(names)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn refusal(line: &str) -> String {
        Arguments::try_parse_from(line.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_listen_and_pid_the_usage_is_shown() {
        assert!(refusal("memcr").contains("Usage: memcr"));
    }

    #[test]
    fn listening_and_one_shot_exclude_each_other() {
        assert!(refusal("memcr -l /x -p 5").contains("cannot be used with"));
    }

    #[test]
    fn a_port_is_refused_with_a_sentence() {
        for location in ["9000", "127.0.0.1:9000", "localhost:9000", "[::1]:9000"] {
            assert!(refusal(&format!("memcr -l {location}")).contains("TCP is not served yet"), "{location}");
        }
        for path in ["./9000", "/run/memcr:9000", "memcr.sock"] {
            assert!(Arguments::try_parse_from(["memcr", "-l", path]).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_group_is_for_a_socket_only() {
        assert!(refusal("memcr -p 5 -g 100").contains("cannot be used with"));
        assert!(refusal("memcr -g 100").contains("Usage: memcr"));
    }

    #[test]
    fn a_pid_that_kill_would_take_for_many_processes_is_refused() {
        for pid in ["0", "-1", "-5", "99999999999"] {
            assert!(refusal(&format!("memcr -p {pid}")).contains("greater than 0"), "{pid}");
        }
    }

    #[test]
    fn directories_are_separated_by_semicolons() {
        let arguments = Arguments::try_parse_from(["memcr", "-p", "5", "-d", "/a;;/b c;"]).unwrap();
        assert_eq!(arguments.dir.0, ["/a", "/b c"]);
        assert!(refusal("memcr -p 5 -d ;").contains("a directory is needed"));
    }
}
