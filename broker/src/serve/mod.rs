//! Serving clients: one thread, one epoll, no call that waits for anybody.
//!
//! | file | about |
//! |---|---|
//! | `event_loop` | what is ready, and whose turn it is; the end of the daemon |
//! | `clients` | accepting, reading, answering and parting with clients |
//! | `requests` | what each request means |
//! | `operations` | what launcher and workers report, and what follows from it |
//! | `target` | the state of one target: pure |
//! | `waiting` | checkpoints that wait for one target: pure |
//! | `connection`, `input` | one client's connection, and what was said over it |
//! | `legacy` | clients of the original memcr |
//! | `lookups`, `outside` | what only the launcher can tell of a process; those that don't sleep |
//! | `records` | requests as the audit log tells them |
//! | `reload` | the policy file, read anew |

mod admission;
pub(crate) mod channel;
mod clients;
pub(crate) mod closer;
mod connection;
#[cfg(feature = "drill")]
mod drill;
mod event_loop;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod input;
mod legacy;
mod lookups;
mod operations;
mod outside;
mod pending;
pub(crate) mod process;
mod records;
mod reload;
mod requests;
mod target;
mod waiting;

pub(crate) use event_loop::Turn;

use crate::audit::log::AuditLog;
use crate::audit::record::{Event, Start};
use crate::error::{Attempt, BrokerError};
use crate::probe::Feature;
use crate::startup::Foundation;
use crate::startup::directories::ImageDirectories;
use crate::startup::listener::Listener;
use crate::startup::notify::ServiceManager;
use admission::Limits;
use channel::Channel;
use closer::Closer;
use connection::Connection;
use event_loop::Token;
use lookups::Lookups;
use memcr_policy::Policy;
use memcr_protocol::client::VERSION;
use memcr_protocol::code::Failure;
use memcr_protocol::frame::{Message, PREFIX_LENGTH};
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::{LauncherReport, SleepOptions};
use memcr_protocol::sandbox::{Lack, Strictness};
use memcr_protocol::worker::WorkerEvent;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signalfd::SignalFd;
use reload::Reload;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use target::Target;

/// Room for the longest message of launcher and workers.
const BUFFER: usize = PREFIX_LENGTH
    + if LauncherReport::LIMIT > WorkerEvent::LIMIT { LauncherReport::LIMIT } else { WorkerEvent::LIMIT };

/// The broker at work.
#[derive(Debug)]
pub(crate) struct Server {
    epoll: Epoll,
    signals: SignalFd,
    service_manager: ServiceManager,
    listener: Option<Listener>,
    /// Until then no client is accepted: there are no descriptors left.
    accept_again: Option<Instant>,
    launcher: Option<Channel>,
    launcher_pid: i32,
    own_pid: u32,
    connections: HashMap<u64, Connection>,
    /// Which connection a ticket of `Job::Identify` belongs to.
    identifying: HashMap<u64, u64>,
    /// Questions to the launcher about processes.
    lookups: Lookups,
    /// Connections to attend to at the end of the turn.
    ready: BTreeSet<u64>,
    sleepers: HashMap<u64, Sleeper>,
    /// Which ticket a target's pid has.
    by_pid: HashMap<i32, u64>,
    policy: Policy,
    has_policy_file: bool,
    reload: Reload,
    directories: ImageDirectories,
    /// How processes are put to sleep, unless a request says otherwise.
    defaults: SleepOptions,
    audit: AuditLog,
    limits: Limits,
    closer: Closer,
    buffer: Vec<u8>,
    last_id: u64,
    last_request: u64,
    stopping: Option<Stopping>,
    /// Sleeps that ended badly in this turn without a request.
    bad_ends: Vec<Failure>,
}

/// A target and its worker.
#[derive(Debug)]
struct Sleeper {
    target: Target,
    /// The user who had it put to sleep.
    owner: u32,
    /// `None` when the worker is gone or speaks nonsense.
    control: Option<Channel>,
    /// Whether epoll waits for room in `control`.
    watched_for_room: bool,
    pidfd: OwnedFd,
    worker: Option<i32>,
}

/// The daemon is ending.
#[derive(Debug)]
struct Stopping {
    reason: &'static str,
    /// When all targets were awake.
    idle_since: Option<Instant>,
}

impl Server {
    /// Takes over what was opened and made at the start.
    ///
    /// # Errors
    /// [`BrokerError`] when the event loop can't be set up.
    pub(crate) fn new(foundation: Foundation, closer: Closer) -> Result<Self, BrokerError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).attempt("make", "an epoll")?;
        let server = Self {
            epoll,
            signals: foundation.signals,
            service_manager: foundation.service_manager,
            listener: foundation.listener,
            accept_again: None,
            launcher: Some(foundation.launcher.channel),
            launcher_pid: foundation.launcher.pid,
            own_pid: std::process::id(),
            connections: HashMap::new(),
            identifying: HashMap::new(),
            lookups: Lookups::default(),
            ready: BTreeSet::new(),
            sleepers: HashMap::new(),
            by_pid: HashMap::new(),
            policy: foundation.policy,
            has_policy_file: foundation.policy_path.is_some(),
            reload: Reload::Idle,
            directories: foundation.directories,
            defaults: foundation.defaults,
            audit: foundation.audit,
            limits: Limits::for_descriptors(foundation.descriptors)
                .at_most(foundation.per_user.0, foundation.per_user.1),
            closer,
            buffer: vec![0; BUFFER],
            last_id: 0,
            last_request: 0,
            stopping: None,
            bad_ends: Vec::new(),
        };
        server.watch(&server.signals, Token::Signals, EpollFlags::EPOLLIN)?;
        if let Some(launcher) = &server.launcher {
            server.watch(launcher, Token::Launcher, EpollFlags::EPOLLIN)?;
        }
        for (number, socket) in server.listener.iter().flat_map(Listener::sockets).enumerate() {
            server.watch(socket, Token::Listener(number), EpollFlags::EPOLLIN)?;
        }
        Ok(server)
    }

    /// Records that the daemon is ready, and tells the service manager.
    ///
    /// # Errors
    /// [`BrokerError`] with `--audit-required`, if that can't be recorded.
    pub(crate) fn announce(&mut self, start: &Announcement) -> Result<(), BrokerError> {
        let (torn, log) = (self.audit.is_torn(), self.audit.origin());
        let audit_required = self.audit.is_required();
        let written = self.audit.write(Event::Start(Start {
            torn,
            log,
            audit_required,
            version: env!("CARGO_PKG_VERSION"),
            protocol: VERSION,
            pid: self.own_pid,
            launcher: self.launcher_pid,
            uid: start.uid,
            gid: start.gid,
            listen: start.listen.as_deref(),
            addresses: &start.addresses,
            listen_gid: start.listen_group,
            directories: self.directories.names().collect(),
            policy: start.policy.as_deref(),
            cipher: start.image.cipher.name(),
            compression: self.defaults.compression.name(),
            checksum: start.image.checksum,
            guard: start.guard,
            landlock: start.landlock,
            seccomp: !start.missing.contains(&Lack::Seccomp),
            sandbox: start.sandbox.name(),
            missing: start.missing.iter().map(|lack| lack.name()).collect(),
            features: start.features.iter().map(|feature| (feature.name, feature.found)).collect(),
        }));
        if let (Err(cause), true) = (written, audit_required) {
            let cause = cause.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            return Err(BrokerError::System {
                operation: "write",
                object: "the audit log (--audit-required)".into(),
                cause,
            });
        }
        self.service_manager.ready();
        Ok(())
    }

    /// Whether the audit log can be opened anew.
    pub(crate) fn reopens_its_audit_log(&self) -> bool {
        self.audit.directory().is_some()
    }

    /// Watches something of somebody else's; [`Turn::Outside`] tells of it by `number`.
    ///
    /// # Errors
    /// [`BrokerError`]; `EPERM` for what is always ready (a file).
    pub(crate) fn watch_outside(&self, what: impl AsFd, number: u64) -> Result<(), BrokerError> {
        self.watch(what, Token::Outside(number), EpollFlags::EPOLLIN)
    }

    /// Watches it no longer.
    pub(crate) fn forget_outside(&self, what: impl AsFd) {
        // it may never have been watched
        let _ = self.epoll.delete(what);
    }

    fn watch(&self, what: impl AsFd, token: Token, flags: EpollFlags) -> Result<(), BrokerError> {
        self.epoll
            .add(what, EpollEvent::new(flags, token.encode()))
            .attempt("watch", format_args!("{token:?}"))
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// What the first record tells.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) listen: Option<String>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) listen_group: Option<u32>,
    pub(crate) policy: Option<String>,
    pub(crate) image: ImageSettings,
    pub(crate) guard: &'static str,
    pub(crate) landlock: &'static str,
    pub(crate) sandbox: Strictness,
    /// What the sandbox has to do without.
    pub(crate) missing: Vec<Lack>,
    /// What the kernel has.
    pub(crate) features: Vec<Feature>,
}
