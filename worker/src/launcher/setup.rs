//! Setting up: the first job says how the daemon was started; then rights are given up for good.

use crate::confine;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::launcher::filter;
use crate::launcher::policy::PolicyFile;
use crate::phase::{Authority, Settings};
use crate::sys::{memory, pidfd, process, socket};
use crate::target::clients::Clients;
use crate::target::tcp_clients;
use crate::trace::rendezvous::Way;
use memcr_policy::Policy;
use memcr_protocol::frame::{self, Message as _};
use memcr_protocol::launcher::{Job, LauncherReport};
use memcr_protocol::sandbox::Lack;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getppid};
use std::os::fd::OwnedFd;

/// Tells that the broker's main thread has ended, where no pidfd does.
pub(super) const PARENT_DIED: Signal = Signal::SIGUSR1;

/// The process that started this one. A broker whose main thread has ended is gone, even if another thread
/// of it hangs in the kernel and keeps all its descriptors open.
pub(super) struct Parent {
    pid: Pid,
    /// Readable once its main thread has ended (Linux 6.9).
    pub(super) main_thread: Option<OwnedFd>,
}

impl Parent {
    /// Before Linux 6.9 a signal tells of it. Newer kernels let landlock keep the broker from sending it.
    fn watch() -> Result<Self> {
        let pid = getppid();
        let main_thread = pidfd::of_thread(pid).ok();
        if main_thread.is_none() {
            process::signal_when_parent_dies(PARENT_DIED).map_err(Error::system("watching", "the broker"))?;
        }
        Ok(Self { pid, main_thread })
    }

    /// Whether it is gone: then somebody else is our parent.
    pub(super) fn is_gone(&self) -> bool {
        getppid() != self.pid
    }
}

/// What every job needs.
pub(super) struct Setup {
    pub(super) authority: Authority,
    /// The policy's file, if it has one.
    pub(super) policy: Option<PolicyFile>,
    pub(super) settings: Settings,
    pub(super) device: Option<OwnedFd>,
    pub(super) host: Host,
    pub(super) broker: Parent,
    /// What the sandbox has to do without.
    pub(super) missing: Vec<Lack>,
}

/// Receives the set-up, then confines this process.
pub(super) fn prepare(jobs: &OwnedFd) -> Result<Setup> {
    // signals of a terminal or of a service manager are the broker's business: it wakes the sleepers first
    let mask: SigSet = [
        Signal::SIGCHLD,
        PARENT_DIED,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
        // a file that would get too long is an error, not an end
        Signal::SIGXFSZ,
    ]
    .into_iter()
    .collect();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).map_err(Error::system("blocking", "signals"))?;
    memory::use_one_arena();
    umask(Mode::from_bits_truncate(0o077));
    process::set_dumpable(false).map_err(Error::system("setting", "non-dumpable"))?;
    process::set_no_new_privileges().map_err(Error::system("setting", "no_new_privs"))?;
    let host = Host::read()?;
    confine::limits::of_launcher(host.cores)?;
    let Received { authority, policy, settings, device, missing } = receive(jobs)?;
    confine::keep_ptrace_permitted()?;
    if missing.contains(&Lack::Undumpable) {
        // the number behind a pidfd is told by /proc/self/fdinfo only; workers change that when they are confined
        process::set_dumpable(true).map_err(Error::system("setting", "dumpable"))?;
    }
    // after the last change of rights, which would forget the signal
    let broker = Parent::watch()?;
    let over_tcp = matches!(authority.clients, Clients::AcceptedOverTcp(_));
    if over_tcp {
        tcp_clients::prove()?;
    }
    let filter = filter::filter(&settings.way, over_tcp);
    #[cfg(feature = "drill")]
    let filter = crate::drill::altered(filter, "launcher");
    settings.terms.install(filter)?;
    Ok(Setup { authority, policy, settings, device, host, broker, missing })
}

/// What the first job says.
struct Received {
    authority: Authority,
    /// The file of the policy.
    policy: Option<PolicyFile>,
    settings: Settings,
    device: Option<OwnedFd>,
    missing: Vec<Lack>,
}

fn receive(jobs: &OwnedFd) -> Result<Received> {
    let (packet, descriptors) =
        socket::receive(jobs, Job::LIMIT + frame::PREFIX_LENGTH, true).map_err(not_received)?;
    let job: Job = frame::decode(&packet).map_err(|error| Error::Violation {
        job: None,
        reason: format!("the first job is malformed: {error}"),
    })?;
    let name = job.name();
    let Job::Setup { policy, userfaultfd, listen_group, clients, image, drop_file_pages, transport, sandbox } =
        job
    else {
        return Err(Error::Protocol("the first job is no set-up".into()).in_job(name));
    };
    let (terms, missing) = confine::Terms::agree(sandbox)?;
    let settings = Settings { image, drop_file_pages, way: Way::choose(transport)?, terms };
    let mut descriptors = descriptors.into_iter();
    let file = if policy.is_some() { descriptors.next() } else { None };
    let device = if userfaultfd { descriptors.next() } else { None };
    if file.is_some() != policy.is_some() || device.is_some() != userfaultfd {
        return Err(
            Error::Protocol("the set-up came with fewer descriptors than it says".into()).in_job(name)
        );
    }
    let clients = Clients::new(clients, descriptors.collect()).map_err(|error| error.in_job(name))?;
    let (policy, file) = match policy.zip(file) {
        None => (Policy::builtin(listen_group), None),
        Some((source, file)) => {
            let (policy, file) = PolicyFile::read(source, file.into())?;
            (policy, Some(file))
        }
    };
    let generation = file.as_ref().map(|_| 0);
    let authority = Authority { policy, generation, clients };
    Ok(Received { authority, policy: file, settings, device, missing })
}

/// Why no job was received.
pub(super) fn not_received(cause: Errno) -> Error {
    match cause {
        Errno::EMSGSIZE => Error::Violation {
            job: None,
            reason: "a job is too long, or came with too many descriptors".into(),
        },
        cause => Error::system("receiving from", "the broker")(cause),
    }
}

/// Sends a report; a broker that is gone needs none.
pub(super) fn report(jobs: &OwnedFd, report: &LauncherReport) {
    if let Ok(frame) = frame::encode(report) {
        let _ = socket::send(jobs, &frame, &[]);
    }
}

/// Tells the broker why there is no launcher any more, unless it does not read, and hangs up: whatever is to be
/// told after that goes nowhere, and can keep nobody waiting.
pub(super) fn part(jobs: &OwnedFd, error: &Error) {
    if let Ok(frame) = frame::encode(&LauncherReport::SetupFailed { reason: error.to_string() }) {
        let _ = socket::send_if_room(jobs, &frame);
    }
    socket::hang_up(jobs);
}
