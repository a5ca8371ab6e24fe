//! Everything that is done while there still are privileges.

pub(crate) mod activation;
pub(crate) mod directories;
pub(crate) mod identity;
pub(crate) mod launcher;
pub(crate) mod listener;
pub(crate) mod notify;
pub(crate) mod paths;
pub(crate) mod policy;
pub(crate) mod ports;

use crate::audit::log::AuditLog;
use crate::cli::Arguments;
use crate::confine;
use crate::error::{Attempt, BrokerError};
use crate::probe::{self, Feature};
use activation::Passed;
use directories::ImageDirectories;
use identity::Identity;
use launcher::{ClientSource, Endowment, Launcher};
use listener::{Listener, PathListener};
use memcr_policy::Policy;
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::{SleepOptions, Transport};
use memcr_protocol::sandbox::{Lack, Strictness};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use notify::ServiceManager;
use ports::Ports;
use std::fs;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use tracing::{info, warn};

/// File descriptors that are wanted: some for each client and each sleeping process.
const DESCRIPTORS: rlim_t = 16_384;

/// What the broker works with, opened and made before privileges are dropped.
#[derive(Debug)]
pub(crate) struct Foundation {
    pub(crate) identity: Identity,
    pub(crate) directories: ImageDirectories,
    pub(crate) policy: Policy,
    /// Path of the policy file.
    pub(crate) policy_path: Option<String>,
    pub(crate) audit: AuditLog,
    pub(crate) launcher: Launcher,
    pub(crate) listener: Option<Listener>,
    pub(crate) listen_group: Option<u32>,
    pub(crate) signals: SignalFd,
    pub(crate) service_manager: ServiceManager,
    /// Whether the sandbox must be complete, and what it has to do without.
    pub(crate) sandbox: Strictness,
    pub(crate) missing: Vec<Lack>,
    /// What the kernel has.
    pub(crate) features: Vec<Feature>,
    /// Whether /dev/userfaultfd could be opened.
    pub(crate) full_guard: bool,
    /// File descriptors that this process may have.
    pub(crate) descriptors: u64,
    /// Connections and sleepers of each user other than root, if the administrator limits them further.
    pub(crate) per_user: (Option<usize>, Option<usize>),
    /// How images are written.
    pub(crate) image: ImageSettings,
    /// How processes are put to sleep, unless a request says otherwise.
    pub(crate) defaults: SleepOptions,
}

/// Opens and starts everything, in an order in which what fails most often and costs least comes
/// first, and clients can connect only when all else is there. `passed` is what a service manager passed; `within` are
/// socket and target of the client that there is instead of a listener.
///
/// # Errors
/// The first [`BrokerError`].
pub(crate) fn lay(
    arguments: &Arguments,
    passed: Passed,
    within: Option<(OwnedFd, OwnedFd)>,
) -> Result<Foundation, BrokerError> {
    arguments.remarks().iter().for_each(|remark| warn!("{remark}"));
    let features = probe::features();
    let mut missing = confine::missing(arguments.sandbox)?;
    let signals = catch_signals()?;
    let descriptors = raise_descriptor_limit();
    let identity = identity::choose(arguments.user.as_deref())?;
    // without a socket there are no members to whom it could give anything
    let listen_gid = arguments.listen_gid.as_deref().filter(|_| arguments.listen_path().is_some());
    let listen_group = listen_gid.map(|group| identity::group("-g", group)).transpose()?;
    let transport = transport(arguments)?;
    let (policy, policy_file) = policy::load(arguments.policy.as_deref(), listen_group, &identity)?;
    let ports = Ports::bind(arguments, &policy)?;
    let directories = ImageDirectories::open(&arguments.dir.0, &identity)?;
    let audit = open_audit_log(arguments, &identity)?;
    let userfaultfd = open_userfaultfd();
    let full_guard = has_full_guard(userfaultfd.as_ref());
    warn_of_ptrace_scope();
    let policy_path = policy_file.as_ref().map(|file| file.path.clone());
    let image = ImageSettings { cipher: arguments.cipher(), checksum: arguments.checksum };
    let path = arguments.listen_path();
    let given = match path {
        Some(path) => passed.listener()?.map(|socket| PathListener::given(socket, path)).transpose()?,
        None => {
            passed.none()?;
            None
        }
    };
    let clients = match (within, &ports) {
        (Some((socket, target)), _) => ClientSource::Within(socket, target),
        (None, Some(ports)) => ClientSource::Ports(ports.addresses().to_vec()),
        (None, None) => {
            ClientSource::Listener(path.map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default())
        }
    };
    let endowment = Endowment {
        policy: policy_file,
        userfaultfd: userfaultfd.ok(),
        listen_group,
        clients,
        image,
        drop_file_pages: arguments.rss_file,
        transport,
        sandbox: arguments.sandbox,
    };
    let launcher = launcher::start(arguments.worker.as_deref(), &identity, endowment)?;
    let more = launcher.missing.iter().filter(|lack| !missing.contains(lack)).copied().collect::<Vec<_>>();
    missing.extend(more);
    let listener = match path {
        Some(path) => Some(Listener::Path(match given {
            Some(given) => given,
            None => PathListener::bind(path, listen_group, &identity)?,
        })),
        None => ports.map(Listener::Ports),
    };
    let service_manager = ServiceManager::from_environment();
    Ok(Foundation {
        identity,
        directories,
        policy,
        policy_path,
        audit,
        launcher,
        listener,
        listen_group,
        signals,
        service_manager,
        sandbox: arguments.sandbox,
        missing,
        features,
        full_guard,
        descriptors,
        per_user: (arguments.max_connections_per_user, arguments.max_sleepers_per_user),
        image,
        defaults: SleepOptions {
            compression: arguments.compress.unwrap_or_default(),
            limit_seconds: Some(arguments.timeout).filter(|seconds| *seconds > 0),
        },
    })
}

/// How workers are to talk to their parasites.
fn transport(arguments: &Arguments) -> Result<Transport, BrokerError> {
    let Some(directory) = &arguments.parasite_socket_dir else { return Ok(Transport::Taken) };
    let group = arguments.parasite_socket_gid.as_deref();
    let group = group.map(|group| identity::group("-G", group)).transpose()?;
    Ok(Transport::Named { directory: directory.as_os_str().as_bytes().to_vec(), group })
}

/// Signals that end the daemon come as events: sleepers are woken first. SIGUSR1 has the audit log opened anew, SIGHUP
/// the daemon's policy file read anew.
fn catch_signals() -> Result<SignalFd, BrokerError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        set.add(signal);
    }
    set.thread_block().attempt("block", "signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).attempt("make", "a signalfd")
}

/// As many as are wanted and allowed; says how many.
fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = hard.min(DESCRIPTORS);
    if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        wanted.into()
    } else {
        soft.into()
    }
}

fn open_audit_log(arguments: &Arguments, identity: &Identity) -> Result<AuditLog, BrokerError> {
    let log = match &arguments.audit_log {
        Some(path) => AuditLog::append_to(path, identity)?,
        None if arguments.pid.is_some() && std::io::stderr().is_terminal() => AuditLog::terminal(),
        None => AuditLog::standard_error(),
    };
    Ok(if arguments.audit_required { log.require() } else { log })
}

fn open_userfaultfd() -> Result<OwnedFd, Errno> {
    open("/dev/userfaultfd", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

/// Whether a target outlives whoever guards its memory; says why.
fn has_full_guard(device: Result<&OwnedFd, &Errno>) -> bool {
    match device {
        Ok(_) => info!("guard: full (/dev/userfaultfd could be opened)"),
        Err(cause) if probe::is_userfaultfd_for_all() => {
            info!("guard: full (/dev/userfaultfd: {cause}; but vm.unprivileged_userfaultfd is 1)");
        }
        Err(cause) => {
            warn!(
                "guard: a target dies if its worker does while it sleeps (/dev/userfaultfd could not be opened: {cause}; let this user open it, or start as root)"
            );
            return false;
        }
    }
    true
}

fn warn_of_ptrace_scope() {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    if scope.is_some_and(|scope| scope.trim() == "3") {
        warn!("kernel.yama.ptrace_scope is 3: until the next boot no process can be put to sleep");
    }
}
