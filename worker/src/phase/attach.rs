//! Attach: freeze the target, decide, refuse what isn't safe, collect what is needed of it.

use crate::channel::{Broker, Launcher};
use crate::confine::{self, Confined, Terms};
use crate::error::{Error, Result};
use crate::phase::decide::Grant;
use crate::phase::handles::{self, Handles};
use crate::phase::{Judge, Plan, image_file};
use crate::sys::memory::{self, TargetMemory};
use crate::sys::pidfd;
use crate::target::executable::Hashed;
use crate::target::mappings::{self, Mapping};
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use crate::target::{facts, refusals};
use crate::trace::parasite::Parasite;
use crate::trace::place::Place;
use crate::trace::puppet::Puppet;
use crate::trace::rehearsal::rehearse;
use crate::trace::rendezvous::{Rendezvous, Way};
use crate::trace::rseq;
use crate::trace::tracees::Tracees;
use crate::trace::way_home::{Site, WayHome};
use memcr_policy::Permits;
use memcr_protocol::deposit::Deposit;
use memcr_protocol::report::Guard;
use memcr_protocol::subject::{Peer, TargetFacts};
use memcr_protocol::worker::WorkerEvent;
use nix::unistd::Pid;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a sleep is made from.
pub(crate) struct Request<'a> {
    /// The client's socket.
    pub(crate) client: BorrowedFd<'a>,
    /// The target's pidfd.
    pub(crate) target: OwnedFd,
    /// Where the image goes.
    pub(crate) directory: BorrowedFd<'a>,
    /// /dev/userfaultfd, if the daemon may open it.
    pub(crate) device: Option<BorrowedFd<'a>>,
    /// How it is to be done.
    pub(crate) plan: Plan<'a>,
}

/// A frozen target with the parasite in it, nothing changed yet.
pub(crate) struct Attached {
    /// Its threads.
    pub(crate) tracees: Tracees,
    /// The parasite.
    pub(crate) parasite: Parasite,
    /// What was collected.
    pub(crate) handles: Handles,
    /// The image file.
    pub(crate) image: File,
    /// Who it is.
    pub(crate) facts: TargetFacts,
    /// Its mappings.
    pub(crate) mappings: Vec<Mapping>,
    /// Memory that stays resident, since the thread that works for us needs it.
    pub(crate) keep: Vec<Range<u64>>,
    /// Its pidfd.
    pub(crate) target: OwnedFd,
    /// Where calls are made in it.
    pub(crate) site: Site,
    /// The way home of the thread that makes them.
    pub(crate) way_home: Option<WayHome>,
    /// Anonymous resident memory before, in bytes.
    pub(crate) rss_before: u64,
    /// Whether it was stopped by job control.
    pub(crate) may_be_stopped: bool,
    /// Resident memory of mapped files before, in bytes.
    pub(crate) rss_file: u64,
    /// How long it took.
    pub(crate) duration: Duration,
}

/// Freezes the target and prepares everything that needs privileges.
///
/// # Errors
/// The target runs on unharmed then.
pub(crate) fn attach(
    request: Request<'_>,
    judge: &Judge<'_>,
    broker: &Broker,
    launcher: &Launcher,
) -> Result<Attached> {
    let began = Instant::now();
    let pid = facts::pid_of(request.target.as_fd())?;
    let directory = ProcDirectory::open(pid)?;
    // the directory belongs to the pidfd's process if that is alive after the directory was opened
    let gone =
        pidfd::has_exited(&request.target).map_err(Error::system("looking at", "the target's pidfd"))?;
    if gone {
        return Err(Error::NoSuchProcess { pid: pid.as_raw() });
    }
    let peer = judge.peer(request.client)?;
    let seized = decide_and_seize(pid, &directory, &request, &peer, judge, broker);
    let Seized { mut tracees, may_be_stopped, hashed } = seized.map_err(|error| match error {
        Error::Denied { .. } => error,
        // whatever could not be read of it then
        _ if pidfd::has_exited(&request.target) == Ok(true) => Error::NoSuchProcess { pid: pid.as_raw() },
        error => error,
    })?;
    let frozen = tracees.tids();
    let mut may_have_filter = false;
    let decided = facts::target(pid, &directory).and_then(|facts| {
        let facts = TargetFacts { sha256: hashed.and_then(|hashed| hashed.sha256(&directory)), ..facts };
        let grant = tell_decision(broker, judge.checkpoint(&peer, &facts), true)?;
        let size = Status::read(&directory)?.rss_anonymous;
        judge.require_within(&grant, pid.as_raw(), size)?;
        may_have_filter = grant.permits.seccomp;
        Ok((facts, grant.permits))
    });
    let prepared = decided.and_then(|(facts, permits)| {
        // looking at all of its memory may take a while
        judge.go_on(broker, &facts)?;
        let prepared = prepare(&mut tracees, &directory, &request, permits, launcher)?;
        Ok((facts, prepared))
    });
    match prepared {
        Ok((facts, prepared)) => Ok(Attached {
            tracees,
            parasite: prepared.parasite,
            handles: prepared.handles,
            image: prepared.image,
            facts,
            mappings: prepared.mappings,
            keep: prepared.keep,
            target: request.target,
            site: prepared.site,
            way_home: prepared.way_home,
            rss_before: prepared.rss_before,
            rss_file: prepared.rss_file,
            may_be_stopped,
            duration: began.elapsed(),
        }),
        Err(error) => {
            let lost = if may_have_filter { KILLED_BY_FILTER } else { "during the operation" };
            // they can't end by themselves while they are stopped
            let has_all = !may_have_filter || has_threads(&directory, &frozen);
            tracees.release();
            // whatever went wrong by that, and whatever of ours was left in it
            let is_dead = !matches!(error, Error::Denied { .. }) && died(&request.target, &directory);
            if is_dead {
                launcher.leave(&Deposit::Settled, &[])?;
                return Err(Error::Lost { pid: pid.as_raw(), when: lost });
            }
            if !has_all {
                launcher.leave(&Deposit::Settled, &[])?;
                return Err(Error::ThreadKilled { pid: pid.as_raw() });
            }
            Err(error)
        }
    }
}

/// A target that is frozen, and what was learnt of it before.
struct Seized {
    tracees: Tracees,
    /// Whether it may be stopped by job control.
    may_be_stopped: bool,
    /// The hash of its executable, if it counts.
    hashed: Option<Hashed>,
}

/// Decides once before the target is touched, so that nobody can freeze a stranger's process for a moment, then
/// freezes it.
fn decide_and_seize(
    pid: Pid,
    directory: &ProcDirectory,
    request: &Request<'_>,
    peer: &Peer,
    judge: &Judge<'_>,
    broker: &Broker,
) -> Result<Seized> {
    let mut seen = facts::target(pid, directory)?;
    #[cfg(feature = "drill")]
    crate::drill::reached(crate::drill::Role::Attaching);
    let hashed = if judge.needs_hash(peer, &seen) { Hashed::of(directory) } else { None };
    seen.sha256 = hashed.and_then(|hashed| hashed.sha256(directory));
    broker.tell(&WorkerEvent::Subjects { peer: peer.clone(), target: seen.clone() });
    let grant = tell_decision(broker, judge.checkpoint(peer, &seen), false)?;
    refusals::before_attaching(pid, directory, grant.permits.seccomp)?;
    let may_be_stopped = Status::read(directory)?.state == 'T';
    let tracees = Tracees::seize(pid, directory, request.plan.deadline)?;
    Ok(Seized { tracees, may_be_stopped, hashed })
}

/// When a target dies whose rule permits filters.
const KILLED_BY_FILTER: &str = "while memcr worked in it: if it had a seccomp filter, that may have killed it for a call of \
                                memcr's, and the rule should not permit `seccomp`";

/// Whether all these threads live.
fn has_threads(directory: &ProcDirectory, tids: &[Pid]) -> bool {
    let lives = |tid: &Pid| {
        let status = directory.thread(*tid).and_then(|thread| Status::read(&thread));
        status.is_ok_and(|status| !matches!(status.state, 'Z' | 'X'))
    };
    tids.iter().all(lives)
}

/// How long a process that is being killed may take to end.
const DYING: Duration = Duration::from_secs(1);

/// Whether the target has died, or is just about to, which is no moment.
fn died(target: &OwnedFd, directory: &ProcDirectory) -> bool {
    let lives = directory.numbers("task").unwrap_or_default().into_iter().any(|tid| {
        let status = directory.thread(Pid::from_raw(tid)).and_then(|thread| Status::read(&thread));
        status.is_ok_and(|status| status.has_memory && !status.is_dying())
    });
    !lives && pidfd::ends_within(target, DYING)
}

/// Tells the broker which rule decided: every denial, and the allowance that counts.
fn tell_decision(broker: &Broker, decision: Result<Grant>, counts: bool) -> Result<Grant> {
    match decision {
        Ok(grant) => {
            if counts {
                broker.tell(&WorkerEvent::Decided { rule: grant.rule.clone(), allowed: true });
            }
            Ok(grant)
        }
        Err(Error::Denied { action, pid, rule }) => {
            broker.tell(&WorkerEvent::Decided { rule: rule.clone(), allowed: false });
            Err(Error::Denied { action, pid, rule })
        }
        Err(error) => Err(error),
    }
}

/// What a target has that not every rule permits, or not every kernel tells of.
struct Fitness {
    permits: Permits,
    /// A seccomp filter of its own.
    has_filter: bool,
    /// The area of restartable sequences of the thread that works for us.
    area: Option<rseq::Area>,
}

struct Prepared {
    parasite: Parasite,
    handles: Handles,
    image: File,
    mappings: Vec<Mapping>,
    keep: Vec<Range<u64>>,
    site: Site,
    way_home: Option<WayHome>,
    rss_before: u64,
    rss_file: u64,
}

fn prepare(
    tracees: &mut Tracees,
    directory: &ProcDirectory,
    request: &Request<'_>,
    permits: Permits,
    launcher: &Launcher,
) -> Result<Prepared> {
    let pid = tracees.pid();
    let tid = tracees.puppet_candidate().ok_or_else(|| tracees.lost())?;
    // the leader's own files are empty once it has exited (kernel fact 29)
    let live = directory.thread(tid)?;
    let mappings = mappings::read(&live.file("smaps")?)?;
    refusals::on_frozen(pid, tid, directory, &mappings)?;
    let mut fitness = Fitness { permits, has_filter: false, area: None };
    for tid in tracees.tids() {
        fitness.has_filter |= refusals::seccomp_of_thread(pid, &directory.thread(tid)?, permits.seccomp)?;
    }
    let Status { rss_anonymous: rss_before, rss_file, shared_signals, .. } = Status::read(&live)?;
    if fitness.has_filter {
        refusals::waiting_trap(pid, tid, shared_signals)?;
    }
    let site = Site::find(pid, tid, &mappings)?;
    let place = Place::find(&mappings, memory::page_size()).ok_or_else(|| Error::Refused {
        pid: pid.as_raw(),
        reason: "there is no room between its mappings".into(),
    })?;
    let image = image_file::create(request.directory, pid, launcher)?;
    fitness.area = keep_restartable_sequence(tracees, tid)?;
    tracees.find_restart(tid)?;
    let way_home = WayHome::lay(&site, tracees, tid, &TargetMemory::Thread(tid))?;
    let puppet = Puppet::borrow(tracees, tid, &site, way_home.as_ref())?;
    let mut parasite = Parasite::new(puppet, place);
    let frame = way_home.as_ref().map_or((0, 0), WayHome::range);
    match inject(&mut parasite, tracees, &live, request, launcher, frame, &fitness) {
        Ok(handles) => {
            let keep = fitness.area.map(|area| area.bytes).into_iter().collect();
            Ok(Prepared { parasite, handles, image, mappings, keep, site, way_home, rss_before, rss_file })
        }
        Err(error) => {
            parasite.remove(tracees).map_err(Error::unsettled)?;
            way_home
                .map_or(Ok(()), |way| way.clear(&TargetMemory::Thread(tid), pid))
                .map_err(Error::unsettled)?;
            launcher.leave(&Deposit::Settled, &[])?;
            Err(error)
        }
    }
}

/// The thread's rseq area stays resident; a sequence under way begins anew (kernel fact 18).
fn keep_restartable_sequence(tracees: &mut Tracees, tid: Pid) -> Result<Option<rseq::Area>> {
    let thread = tracees.thread(tid).ok_or_else(|| tracees.lost())?;
    let mut registers = thread.registers;
    let area = rseq::area(tid, &registers).map_err(Error::system("reading the rseq area of thread", tid))?;
    let Some(area) = area else { return Ok(None) };
    let address = rseq::abort_address(tid, &area, &registers)
        .map_err(Error::system("reading the rseq area of thread", tid))?;
    if let Some(address) = address {
        registers.set_instruction_pointer(address);
        tracees.change_registers(tid, registers)?;
    }
    Ok(Some(area))
}

/// Where the kernel doesn't tell where that area is, it is looked for where it stays resident.
fn find_restartable_sequence(fitness: &Fitness, puppet: &mut Puppet, tracees: &mut Tracees) -> Result<()> {
    let is_within = |area: &rseq::Area| rseq::is_within(&area.bytes, puppet, tracees, fitness.has_filter);
    match fitness.area.as_ref().filter(|area| !area.is_exact).map(is_within).transpose()? {
        Some(false) => Err(Error::Refused {
            pid: tracees.pid().as_raw(),
            reason: "its restartable sequences (rseq) are not where C libraries have them, or its seccomp filter lets nobody ask, and \
                     before Linux 5.13 the kernel doesn't tell where they are"
                .into(),
        }),
        _ => Ok(()),
    }
}

fn inject(
    parasite: &mut Parasite,
    tracees: &mut Tracees,
    live: &ProcDirectory,
    request: &Request<'_>,
    launcher: &Launcher,
    frame: (u64, u64),
    fitness: &Fitness,
) -> Result<Handles> {
    let pid = tracees.pid();
    let way = &request.plan.settings.way;
    let of_thread = match way {
        Way::Taken => thread_with_files(tracees, parasite.puppet().tid())?,
        Way::Abstract | Way::Named { .. } => None,
    };
    let target = of_thread.as_ref().unwrap_or(&request.target).as_fd();
    let rendezvous = Rendezvous::arrange(way, pid, live, target)?;
    // before the first call: the launcher knows of everything before it is there
    launcher.leave(&Deposit::Debris(parasite.debris(frame)), &[])?;
    if fitness.has_filter {
        rehearse(parasite.puppet(), tracees, request.device.is_some())?;
    }
    find_restartable_sequence(fitness, parasite.puppet(), tracees)?;
    let get_dumpable = [libc::PR_GET_DUMPABLE as u64, 0, 0, 0, 0, 0];
    let dumpable = parasite.puppet().call(tracees, libc::SYS_prctl, get_dumpable)?;
    let is_protected = refusals::is_protected(pid, dumpable, fitness.permits.non_dumpable)?;
    parasite.inject(tracees, live, &rendezvous)?;
    let handles = handles::take(parasite, tracees, live, request.device, is_protected)?;
    launcher.leave(&Deposit::Debris(parasite.debris(frame)), &[])?;
    Ok(handles)
}

/// A pidfd by which descriptors can be taken out of the target, if its own is of no use for that: a first
/// thread that has ended has no descriptors (kernel fact 29).
fn thread_with_files(tracees: &Tracees, tid: Pid) -> Result<Option<OwnedFd>> {
    if tracees.thread(tracees.pid()).is_some() {
        return Ok(None);
    }
    pidfd::of_thread(tid).map(Some).map_err(|cause| Error::Refused {
        pid: tracees.pid().as_raw(),
        reason: format!("its main thread has ended, which needs Linux 6.9: {}", cause.desc()),
    })
}

impl Attached {
    /// What will hold while it sleeps.
    pub(crate) fn guard(&self) -> Guard {
        if self.handles.guard_is_full { Guard::Full } else { Guard::ExitKill }
    }

    /// Gives up every right that isn't needed from here on.
    pub(crate) fn confine(
        &self,
        terms: &Terms,
        judge: &Judge<'_>,
        broker: &Broker,
        launcher: &Launcher,
    ) -> Result<Confined> {
        let Handles { memory, pagemap, guard, guard_is_full: _, smaps, status } = &self.handles;
        let mut keep = vec![
            libc::STDERR_FILENO,
            broker.number(),
            launcher.number(),
            self.target.as_raw_fd(),
            self.image.as_raw_fd(),
            memory.as_raw_fd(),
            pagemap.as_raw_fd(),
            guard.as_raw_fd(),
            smaps.as_raw_fd(),
            status.as_raw_fd(),
            self.tracees.signals_number(),
        ];
        keep.extend(self.parasite.socket_number());
        keep.extend(judge.keep_open()?);
        let confined = confine::confine(&keep, &self.tracees.tids(), terms, self.longest_image())?;
        broker.tell(&WorkerEvent::Confined { sandbox: confined.sandbox(), guard: self.guard() });
        Ok(confined)
    }

    /// Longer than this its image can't become, in bytes: compression adds a little where it finds nothing, and each run of
    /// pages, even of the kernel's page of zeros, has an entry in the index.
    fn longest_image(&self) -> u64 {
        const AT_LEAST: u64 = 16 << 20;
        let (mut anonymous, mut size) = (0_u64, 0_u64);
        for mapping in &self.mappings {
            anonymous = anonymous.saturating_add(mapping.anonymous);
            size = size.saturating_add(mapping.end.saturating_sub(mapping.start));
        }
        AT_LEAST.saturating_add(anonymous).saturating_add(anonymous / 8).saturating_add(size / 64)
    }

    /// Takes everything of ours out of the target and lets it run on.
    pub(crate) fn undo(mut self, launcher: &Launcher) -> Result<()> {
        let memory = TargetMemory::File(&self.handles.memory);
        let pid = self.tracees.pid();
        let removed = self.parasite.remove(&mut self.tracees);
        let cleared = removed.and_then(|()| self.way_home.map_or(Ok(()), |way| way.clear(&memory, pid)));
        self.tracees.release();
        // what could not be taken out is for a successor, unless there is nobody to take it out of
        match cleared {
            Err(_) if pidfd::has_exited(&self.target) == Ok(true) => {
                launcher.leave(&Deposit::Settled, &[])?;
                Err(Error::Lost { pid: pid.as_raw(), when: "during the operation" })
            }
            cleared => {
                cleared.and_then(|()| launcher.leave(&Deposit::Settled, &[])).map_err(Error::unsettled)
            }
        }
    }
}
