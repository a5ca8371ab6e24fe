//! Finding, starting and setting up the launcher, while there still are privileges to hand over.

use super::identity::Identity;
use super::paths::{Place, Purpose};
use super::policy::PolicyFile;
use crate::error::{Attempt, BrokerError};
use crate::serve::channel::{Channel, ChannelError};
use crate::sys::process::has_more_rights_than_its_caller;
use crate::sys::spawn::{Plan, spawn};
use caps::{CapSet, Capability, has_cap};
use memcr_protocol::frame::{Message, PREFIX_LENGTH};
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::{Clients, Job, LauncherReport, Transport};
use memcr_protocol::sandbox::{Lack, Strictness};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::Gid;
use std::ffi::CString;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the program.
const PROGRAM: &str = "memcr-worker";

/// Where it is if not beside this program.
const ELSEWHERE: &str = "../libexec/memcr";

/// How long it may take to say that it is ready, in milliseconds. It only has to read a short file.
const PATIENCE_MILLIS: u16 = 10_000;

/// The running launcher.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// Jobs and reports.
    pub(crate) channel: Channel,
    /// Its process id.
    pub(crate) pid: i32,
    /// What it and its workers have to do without.
    pub(crate) missing: Vec<Lack>,
}

/// What the launcher gets.
pub(crate) struct Endowment {
    /// The policy file.
    pub(crate) policy: Option<PolicyFile>,
    /// /dev/userfaultfd.
    pub(crate) userfaultfd: Option<OwnedFd>,
    /// Group of the listening socket.
    pub(crate) listen_group: Option<u32>,
    /// Whose sockets are clients'.
    pub(crate) clients: ClientSource,
    /// How images are written.
    pub(crate) image: ImageSettings,
    /// Whether clean pages of mapped files are dropped as well.
    pub(crate) drop_file_pages: bool,
    /// How workers talk to their parasites.
    pub(crate) transport: Transport,
    /// Whether anything may run where the sandbox can't be complete.
    pub(crate) sandbox: Strictness,
}

/// Where clients come from.
pub(crate) enum ClientSource {
    /// The listening socket with this address.
    Listener(Vec<u8>),
    /// The listening TCP sockets with these addresses.
    Ports(Vec<SocketAddr>),
    /// One within this process: its socket, its target's pidfd.
    Within(OwnedFd, OwnedFd),
}

/// Starts the launcher at `program`, else where it is installed, and waits until it is ready.
///
/// # Errors
/// [`BrokerError`] when it can't be found, started or set up.
pub(crate) fn start(
    program: Option<&Path>,
    identity: &Identity,
    endowment: Endowment,
) -> Result<Launcher, BrokerError> {
    let program = find(program)?;
    let name = program.display().to_string();
    // made as the daemon, so that the kernel names nobody else at its ends: not root, whom a captured broker
    // could pretend to be by it
    let (channel, job) = identity.acting(Channel::pair)?.attempt("make", "the job channel")?;
    let null =
        open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).attempt("open", "/dev/null")?;
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| BrokerError::Unsuitable { path: name.clone(), reason: "holds a zero byte".into() })?;
    let plan = Plan {
        program: &path,
        name: c"memcr-worker",
        null,
        job,
        identity: identity.changes.then_some((identity.uid, identity.gid)),
        group: group_of_sockets(&endowment.transport),
        keep: permitted(Capability::CAP_SYS_PTRACE),
        set_capabilities: permitted(Capability::CAP_SETPCAP),
        last_capability: last_capability(),
    };
    let pid =
        spawn(plan).map_err(|cause| BrokerError::Spawn { program: name.clone(), cause: cause.into() })?;
    let mut launcher = Launcher { channel, pid: pid.as_raw(), missing: Vec::new() };
    launcher.missing = set_up(&mut launcher.channel, endowment)
        .map_err(|reason| BrokerError::Launcher { program: name, reason })?;
    Ok(launcher)
}

/// The group that a worker must be in to connect to the socket of a parasite.
fn group_of_sockets(transport: &Transport) -> Option<Gid> {
    match transport {
        Transport::Named { group, .. } => group.map(Gid::from_raw),
        Transport::Taken => None,
    }
}

fn set_up(channel: &mut Channel, endowment: Endowment) -> Result<Vec<Lack>, String> {
    let Endowment { policy, userfaultfd, listen_group, clients, image, drop_file_pages, transport, sandbox } =
        endowment;
    let (clients, of_client) = match clients {
        ClientSource::Listener(address) => (Clients::AcceptedAt(address), Vec::new()),
        ClientSource::Ports(addresses) => (Clients::AcceptedOverTcp(addresses), Vec::new()),
        ClientSource::Within(socket, target) => (Clients::One, vec![socket, target]),
    };
    let source = policy.as_ref().map(|policy| policy.source.clone());
    let job = Job::Setup {
        policy: source,
        userfaultfd: userfaultfd.is_some(),
        listen_group,
        clients,
        image,
        drop_file_pages,
        transport,
        sandbox,
    };
    let policy = policy.map(|policy| OwnedFd::from(policy.file));
    let descriptors = policy.into_iter().chain(userfaultfd).chain(of_client).collect();
    channel.send(&job, descriptors).map_err(|cause| format!("set it up: {cause}"))?;
    let mut ends = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ends, PollTimeout::from(PATIENCE_MILLIS)) {
        Ok(0) => return Err(format!("did not get ready within {PATIENCE_MILLIS} ms")),
        Ok(_) => {}
        Err(cause) => return Err(format!("wait for it: {cause}")),
    }
    let mut buffer = vec![0; PREFIX_LENGTH + LauncherReport::LIMIT];
    match channel.receive::<LauncherReport>(&mut buffer) {
        Ok(Some(LauncherReport::Ready { missing })) => Ok(missing),
        Ok(Some(LauncherReport::SetupFailed { reason })) => Err(reason),
        Ok(Some(_) | None) => Err("answered something else than that it is ready".into()),
        Err(ChannelError::Closed) => Err("ended before it was ready".into()),
        Err(cause) => Err(cause.to_string()),
    }
}

fn permitted(capability: Capability) -> u64 {
    if has_cap(None, CapSet::Permitted, capability).unwrap_or(false) { capability.bitmask() } else { 0 }
}

/// The highest capability that this kernel knows.
pub(crate) fn last_capability() -> u8 {
    let known = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    known.and_then(|text| text.trim().parse().ok()).filter(|last| *last < 64).unwrap_or(40)
}

fn find(program: Option<&Path>) -> Result<PathBuf, BrokerError> {
    // the launcher gets CAP_SYS_PTRACE: whoever runs a memcr with file capabilities must not choose what gets it
    let guarded = has_more_rights_than_its_caller();
    if let Some(program) = program {
        if guarded {
            return Err(BrokerError::Identity(
                "--worker can't be given to a memcr that has file capabilities: they would go to any program"
                    .into(),
            ));
        }
        let place = Place { purpose: Purpose::Worker, path: program };
        return program.canonicalize().attempt_at("find", place);
    }
    let own = fs::read_link("/proc/self/exe").attempt("read the link", "/proc/self/exe")?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let places = [folder.join(PROGRAM), folder.join(ELSEWHERE).join(PROGRAM)];
    let found = places.iter().find_map(|place| place.canonicalize().ok());
    let found = found.ok_or_else(|| BrokerError::Unsuitable {
        path: places[0].display().to_string(),
        reason: format!("there is no {PROGRAM}, neither here nor in {ELSEWHERE}; give --worker"),
    })?;
    if guarded {
        require_same_owner(&own, &found)?;
    }
    Ok(found)
}

/// A memcr with file capabilities can be hard-linked to a place where a stranger puts a `memcr-worker`
/// of his own beside it: program and directory must be of root or of the owner of this program.
fn require_same_owner(own: &Path, program: &Path) -> Result<(), BrokerError> {
    let owner = fs::metadata(own).attempt("look at", own.display())?.uid();
    let folder = program.parent().unwrap_or(Path::new("/"));
    for path in [program, folder] {
        let status = fs::metadata(path).attempt("look at", path.display())?;
        if (status.uid() != 0 && status.uid() != owner) || status.mode() & 0o022 != 0 {
            return Err(BrokerError::Unsuitable {
                path: path.display().to_string(),
                reason:
                    "others than root and the owner of memcr may change it, so it does not get CAP_SYS_PTRACE"
                        .into(),
            });
        }
    }
    Ok(())
}
