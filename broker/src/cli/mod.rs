//! The command line: what can be asked for, and what is refused before anything is done.
//!
//! Whoever used the original memcr uses the same flags: doc/migration.md has the table.

mod remarks;
mod words;

use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, Parser};
use memcr_protocol::image::{Cipher, Compression};
use memcr_protocol::launcher::Transport;
use memcr_protocol::sandbox::Strictness;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

const EXAMPLES: &str = "\
Examples:
  memcr -l /run/memcr.sock -g memcr     serve; members of group memcr may use it
  memcr -l /run/memcr.sock -d \"/var/lib/memcr;/tmp\" --policy /etc/memcr.toml
                                        images in the first directory unless a request names the
                                        second; who may do what is in the policy file
  memcr -zc -l 9000                     the same for clients of this machine over TCP; images are
                                        compressed and have checksums
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
    version = version(),
    args_override_self = true,
    infer_long_args = true,
    after_help = EXAMPLES,
    group = ArgGroup::new("work").required(true).multiple(false).args(["listen", "pid", "probe"])
)]
pub struct Arguments {
    /// Serve clients on the UNIX socket at PATH, or on TCP port PORT of this machine
    ///
    /// A socket left over by an earlier memcr is replaced; anything else at PATH is left alone, and
    /// is an error. With -g its mode is 0660, without 0666: each client is named by the kernel and
    /// the policy decides what it may do. A port is opened on 127.0.0.1 and ::1 only; its clients are
    /// named by the kernel too.
    #[arg(short, long, value_name = "PORT|PATH", value_parser = location)]
    pub listen: Option<Listen>,

    /// With -l PORT: listen on this address instead
    ///
    /// Nobody can say who a client from another machine is: an address that others can reach needs a
    /// --policy with a rule for anonymous clients, and gives them what that rule says.
    #[arg(long, value_name = "ADDRESS", requires = "listen")]
    pub listen_address: Option<IpAddr>,

    /// Put process PID to sleep, wait for Enter, wake it
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = process_id)]
    pub pid: Option<i32>,

    /// With -p: don't wait for Enter, wake it as soon as it sleeps
    #[arg(short, long)]
    pub no_wait: bool,

    /// Say what this kernel has of what memcr uses, and what it does without the rest
    #[arg(long)]
    pub probe: bool,

    /// With --probe: as one JSON object
    #[arg(long, requires = "probe")]
    pub json: bool,

    /// Group (name or number) of the listening socket
    ///
    /// Without --policy its members may act on every process that is not root's.
    #[arg(short = 'g', long, value_name = "GID")]
    pub listen_gid: Option<String>,

    /// Have the parasite make a socket in DIR, for kernels or sandboxes without pidfd_getfd(2)
    ///
    /// The target must be able to make files in DIR, as it finds that in its own mount namespace, and
    /// the daemon's user to enter it. The socket is there for a moment only, and nobody else can talk
    /// to it.
    #[arg(short = 'S', long, value_name = "DIR", value_parser = socket_directory)]
    pub parasite_socket_dir: Option<PathBuf>,

    /// With -S: group (name or number) of that socket, whose mode is 0660 then
    ///
    /// The target must be in that group, and so must memcr unless root starts it.
    #[arg(short = 'G', long, value_name = "GID")]
    pub parasite_socket_gid: Option<String>,

    /// Accepted for the original's sake: namespaces of the target make no difference here
    #[arg(short = 'N', long)]
    pub parasite_socket_netns: bool,

    /// Compress images: lz4 (without a word) or zstd
    #[arg(short = 'z', long, value_name = "ALGORITHM", num_args = 0..=1, require_equals = true,
          default_missing_value = "lz4", value_parser = compression)]
    pub compress: Option<Compression>,

    /// Keep the MD5 of the memory, compare it before the memory goes back, show it both times
    #[arg(short, long)]
    pub checksum: bool,

    /// Cipher of images: aes-128-gcm, aes-256-gcm (without a word, and without this) or
    /// chacha20-poly1305
    ///
    /// The original's aes-128-cbc, aes-192-cbc and aes-256-cbc stand for the cipher of that strength
    /// that authenticates as well.
    #[arg(short = 'e', long, value_name = "CIPHER", num_args = 0..=1, require_equals = true,
          default_missing_value = "aes-256-gcm", value_parser = cipher)]
    pub encrypt: Option<CipherChoice>,

    /// Don't encrypt images; they are authenticated all the same
    #[arg(long, conflicts_with = "encrypt")]
    pub no_encrypt: bool,

    /// Drop clean pages of mapped files as well; they come back from the files
    #[arg(short = 'f', long)]
    pub rss_file: bool,

    /// Accepted for the original's sake: memory is always read through /proc/PID/mem here
    #[arg(short = 'm', long)]
    pub proc_mem: bool,

    /// Undo a checkpoint that isn't done after SEC seconds, and answer a restore that isn't; 0: no limit
    #[arg(short, long, value_name = "SEC", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub timeout: u32,

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

    /// No more connections for each user other than root (half of those that there are)
    ///
    /// Of all who come from another machine or network namespace over TCP together.
    #[arg(long, value_name = "NUMBER", value_parser = places)]
    pub max_connections_per_user: Option<usize>,

    /// No more sleeping processes for each user other than root (half of those that there can be)
    ///
    /// It counts who asked for it, not whose process it is.
    #[arg(long, value_name = "NUMBER", value_parser = places)]
    pub max_sleepers_per_user: Option<usize>,

    /// Do nothing for clients whose record can't be written (a full disk, say)
    ///
    /// Before a process is touched, a record says that it will be. Sleepers stay asleep while there is no room for records;
    /// the end of the daemon wakes them all the same.
    #[arg(long)]
    pub audit_required: bool,

    /// What to do where the kernel lacks a part of the sandbox: strict (without this flag) or best-effort
    ///
    /// Strict: don't run. Best effort: run with what there is, and say in log and audit log what is missing. Everything
    /// is there with Linux 6.12 or newer, landlock and seccomp.
    #[arg(long, value_name = "HOW", default_value = "strict", hide_default_value = true, value_parser = strictness)]
    pub sandbox: Strictness,

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

/// Words of `-z`.
const COMPRESSIONS: &[&str] = &["lz4", "zstd", "none"];

/// Words of `-e`.
const CIPHERS: &[&str] =
    &["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "aes-128-cbc", "aes-192-cbc", "aes-256-cbc"];

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A UNIX socket.
    Path(PathBuf),
    /// A TCP port of this machine.
    Port(u16),
}

/// A cipher by the name that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherChoice {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub cipher: Cipher,
}

/// Image directories as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories(pub Vec<String>);

impl Arguments {
    /// How images are encrypted.
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        match &self.encrypt {
            _ if self.no_encrypt => Cipher::None,
            Some(choice) => choice.cipher,
            None => Cipher::default(),
        }
    }

    /// The path of the UNIX socket that is asked for.
    #[must_use]
    pub fn listen_path(&self) -> Option<&PathBuf> {
        match &self.listen {
            Some(Listen::Path(path)) => Some(path),
            Some(Listen::Port(_)) | None => None,
        }
    }
}

/// The arguments of this process, or the exit status it ends with: 0 after help and version, 1
/// after an error of usage.
///
/// # Errors
/// The exit status, when there is nothing to do; what was to be said is said.
pub fn parse() -> Result<Arguments, ExitCode> {
    parse_from(std::env::args_os()).map_err(|error| refuse(&error))
}

/// Says what there is to say instead of doing anything: an error of usage, help, the version. The exit status.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    // nothing can be done when even this can't be written
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn parse_from(line: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse_from(words::expand(line))?;
    if arguments.listen_address.is_some() && !matches!(arguments.listen, Some(Listen::Port(_))) {
        let sentence = "--listen-address is for -l PORT only";
        return Err(Arguments::command().error(ErrorKind::ArgumentConflict, sentence));
    }
    Ok(arguments)
}

/// The arguments of a line without spaces in its words.
#[cfg(test)]
pub(crate) fn parse_line(line: &str) -> Result<Arguments, clap::Error> {
    parse_from(line.split(' ').map(OsString::from))
}

/// Version, architecture and kernel.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let kernel = nix::sys::utsname::uname().map_or_else(
            |_| "unknown kernel".to_owned(),
            |kernel| format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
        );
        format!("{} ({}, {kernel})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
    })
}

fn location(text: &str) -> Result<Listen, String> {
    if text.is_empty() {
        return Err("a port or a path is needed".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = text.parse().ok().filter(|port| *port > 0);
        return port.map(Listen::Port).ok_or_else(|| "a port is a number from 1 to 65535".into());
    }
    if is_address(text) {
        return Err(format!(
            "give the port alone, which is opened for this machine, and another address by --listen-address \
             (./{text} for a file of that name)"
        ));
    }
    Ok(Listen::Path(PathBuf::from(text)))
}

/// Whether a location is an address with a port, rather than a path; by the client's rule.
fn is_address(location: &str) -> bool {
    let port = location.rsplit_once(':').map_or("", |(_, port)| port);
    !location.contains('/') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn socket_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("a path from the root on (/...) is needed".into());
    }
    if text.trim_end_matches('/').len() > Transport::MAX_DIRECTORY {
        return Err(format!(
            "a path of at most {} bytes is needed: the address of a socket has no room for more",
            Transport::MAX_DIRECTORY
        ));
    }
    Ok(path)
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.to_ascii_lowercase().as_str() {
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        _ => Err(format!("the algorithms are {}", COMPRESSIONS.join(", "))),
    }
}

fn cipher(text: &str) -> Result<CipherChoice, String> {
    let cipher = match text.to_ascii_lowercase().as_str() {
        "aes-128-gcm" | "aes-128-cbc" => Cipher::Aes128Gcm,
        "aes-256-gcm" | "aes-192-cbc" | "aes-256-cbc" => Cipher::Aes256Gcm,
        "chacha20-poly1305" => Cipher::ChaCha20Poly1305,
        _ => return Err(format!("the ciphers are {}", CIPHERS.join(", "))),
    };
    Ok(CipherChoice { name: text.to_ascii_lowercase(), cipher })
}

fn strictness(text: &str) -> Result<Strictness, String> {
    [Strictness::Strict, Strictness::BestEffort]
        .into_iter()
        .find(|strictness| strictness.name() == text)
        .ok_or_else(|| "it is strict or best-effort".into())
}

fn process_id(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(_) | Err(_) => Err("a process id is a number greater than 0".into()),
    }
}

fn places(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number greater than 0 is needed".into())
}

fn directories(text: &str) -> Result<Directories, String> {
    let names: Vec<_> = text.split(';').filter(|name| !name.is_empty()).map(String::from).collect();
    if names.is_empty() { Err("a directory is needed".into()) } else { Ok(Directories(names)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Arguments {
        parse_from(line.split(' ').map(OsString::from)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn refusal(line: &str) -> String {
        parse_from(line.split(' ').map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_listen_and_pid_the_usage_is_shown() {
        assert!(refusal("memcr").contains("Usage: memcr"));
        assert!(refusal("memcr -g 100").contains("Usage: memcr"));
    }

    #[test]
    fn listening_and_one_shot_exclude_each_other() {
        assert!(refusal("memcr -l /x -p 5").contains("cannot be used with"));
    }

    #[test]
    fn every_short_flag_means_what_its_long_name_means() {
        for (short, long) in [
            ("-l 9000 -n", "--listen 9000 --no-wait"),
            ("-p 5", "--pid 5"),
            ("-p5", "--pid=5"),
            ("-l x -d a;b", "--listen x --dir a;b"),
            (
                "-l x -S /s -G 7 -N",
                "--listen x --parasite-socket-dir /s --parasite-socket-gid 7 --parasite-socket-netns",
            ),
            ("-l x -g 7", "--listen x --listen-gid 7"),
            ("-p 5 -mf", "--pid 5 --proc-mem --rss-file"),
            ("-zc -l 9000", "--compress --checksum --listen 9000"),
            ("-z zstd -l x", "--compress zstd --listen x"),
            ("-zLZ4 -l x", "--compress=lz4 --listen x"),
            ("-e -l x", "--encrypt --listen x"),
            ("-e chacha20-poly1305 -l x", "--encrypt=chacha20-poly1305 --listen x"),
            ("-t 20 -l x", "--timeout 20 --listen x"),
            // whatever comes last counts, and long names may be cut short
            ("-zcc -t 10 -t 20 -z zstd -l x", "--check --comp zstd --time 20 --listen x"),
        ] {
            let (short, long) = (parsed(&format!("memcr {short}")), parsed(&format!("memcr {long}")));
            assert_eq!(format!("{short:?}"), format!("{long:?}"));
        }
    }

    #[test]
    fn a_number_is_a_port_and_an_address_is_refused_with_a_sentence() {
        assert_eq!(parsed("memcr -l 9000").listen, Some(Listen::Port(9000)));
        for path in ["./9000", "/run/memcr:9000", "memcr.sock"] {
            assert_eq!(parsed(&format!("memcr -l {path}")).listen, Some(Listen::Path(path.into())), "{path}");
        }
        for location in ["127.0.0.1:9000", "localhost:9000", "[::1]:9000"] {
            assert!(refusal(&format!("memcr -l {location}")).contains("give the port alone"), "{location}");
        }
        let address = parsed("memcr -l 9000 --listen-address ::").listen_address;
        assert_eq!(address.map(|address| address.to_string()).as_deref(), Some("::"));
        assert!(refusal("memcr -l x --listen-address ::").contains("--listen-address is for -l PORT"));
        for port in ["0", "65536", "99999999999"] {
            assert!(refusal(&format!("memcr -l {port}")).contains("from 1 to 65535"), "{port}");
        }
    }

    #[test]
    fn a_directory_for_sockets_is_a_path_from_the_root_on_for_which_an_address_has_room() {
        let longest = format!("/{}", "d".repeat(75));
        let given = parsed(&format!("memcr -l x -S {longest}/"));
        assert_eq!(given.parasite_socket_dir, Some(format!("{longest}/").into()));
        assert!(refusal(&format!("memcr -l x -S {longest}d")).contains("at most 76 bytes"));
        assert!(refusal("memcr -l x -S relative").contains("from the root on"));
    }

    #[test]
    fn ciphers_of_the_original_stand_for_ones_that_authenticate() {
        for (word, cipher) in [
            ("aes-128-cbc", Cipher::Aes128Gcm),
            ("AES-192-CBC", Cipher::Aes256Gcm),
            ("aes-256-cbc", Cipher::Aes256Gcm),
            ("aes-128-gcm", Cipher::Aes128Gcm),
            ("chacha20-poly1305", Cipher::ChaCha20Poly1305),
        ] {
            assert_eq!(parsed(&format!("memcr -l x -e {word}")).cipher(), cipher, "{word}");
        }
        assert_eq!(parsed("memcr -l x").cipher(), Cipher::Aes256Gcm);
        assert_eq!(parsed("memcr -l x -e").cipher(), Cipher::Aes256Gcm);
        assert_eq!(parsed("memcr -l x --no-encrypt").cipher(), Cipher::None);
        assert!(refusal("memcr -l x -e rot13").contains("the ciphers are"));
        assert!(refusal("memcr -l x -z gzip").contains("the algorithms are"));
        assert!(refusal("memcr -l x -e --no-encrypt").contains("cannot be used with"));
    }

    #[test]
    fn the_version_names_architecture_and_kernel() {
        let text = refusal("memcr -V");
        assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains(std::env::consts::ARCH), "{text}");
        assert!(text.contains("Linux"), "{text}");
    }

    #[test]
    fn a_pid_that_kill_would_take_for_many_processes_is_refused() {
        for pid in ["0", "-1", "-5", "99999999999"] {
            assert!(refusal(&format!("memcr -p {pid}")).contains("greater than 0"), "{pid}");
        }
    }

    #[test]
    fn directories_are_separated_by_semicolons() {
        let line = ["memcr", "-p", "5", "-d", "/a;;/b c;"].map(OsString::from);
        assert_eq!(parse_from(line).unwrap().dir.0, ["/a", "/b c"]);
        assert!(refusal("memcr -p 5 -d ;").contains("a directory is needed"));
    }
}
