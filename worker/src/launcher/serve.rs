//! The launcher's loop: jobs, deposits, ends of workers.

use crate::channel::{Broker, Launcher};
use crate::error::{Error, Result};
use crate::job;
use crate::launcher::naming;
use crate::launcher::setup::{PARENT_DIED, Setup, not_received, part, report};
use crate::launcher::ward::{Next, Question, Ward};
use crate::phase::attach::Request;
use crate::phase::succeed::Bequest;
use crate::phase::{Judge, Plan};
use crate::record::{self, Role};
use crate::sys::process::End;
use crate::sys::{descriptors, poll, process, socket};
use crate::target::facts;
use memcr_protocol::deposit::Word;
use memcr_protocol::frame::{self, Message as _};
use memcr_protocol::launcher::{Ending, Job, LauncherReport, SleepOptions};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid};
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Successors that try to remove what a worker left in a target that runs. One that sleeps is never given up.
const MAX_REMOVERS: u32 = 3;
/// Time after which a successor is tried again that did not succeed.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves until the broker is gone and every worker has ended.
///
/// # Errors
/// [`Error::Fault`] after a mistake of its own: nothing that is known here can be trusted then. The broker ends without a
/// launcher, and each worker wakes its target by itself; their images, which they hold, are removed.
pub(super) fn serve(jobs: &OwnedFd, setup: &mut Setup) -> Result<()> {
    let mut wards = Vec::new();
    let served = catch_unwind(AssertUnwindSafe(|| serve_wards(jobs, setup, &mut wards)));
    served.unwrap_or_else(|_| {
        wards.iter().for_each(Ward::hang_up);
        wards.iter_mut().for_each(Ward::remove_image);
        Err(Error::Fault("the launcher"))
    })
}

fn serve_wards(jobs: &OwnedFd, setup: &mut Setup, wards: &mut Vec<Ward>) -> Result<()> {
    let signals = SignalFd::with_flags(
        &SigSet::from_iter([Signal::SIGCHLD, PARENT_DIED]),
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )
    .map_err(Error::system("watching", "SIGCHLD"))?;
    // how it was with the broker: nothing while it lives
    let mut parted: Option<Result<()>> = None;
    report(jobs, &LauncherReport::Ready { missing: setup.missing.clone() });
    while parted.is_none() || !wards.is_empty() {
        let mut polled = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let deposits = wards.iter().filter_map(|ward| ward.deposits.as_ref());
        polled.extend(deposits.map(|deposits| PollFd::new(deposits.as_fd(), PollFlags::POLLIN)));
        if parted.is_none() {
            polled.push(PollFd::new(jobs.as_fd(), PollFlags::POLLIN));
            let main_thread = setup.broker.main_thread.iter();
            polled.extend(main_thread.map(|thread| PollFd::new(thread.as_fd(), PollFlags::POLLIN)));
        }
        let time = wards.iter().filter_map(|ward| ward.again_at).min().map(poll::remaining);
        poll::wait(&mut polled, time).map_err(Error::system("waiting for", "jobs"))?;
        while let Ok(Some(_)) = signals.read_signal() {}
        for ward in wards.iter_mut() {
            ward.collect();
        }
        answer(wards, setup)?;
        while let Some((worker, end)) = next_end()? {
            put_end_on_record(wards, worker, end);
            settle(wards, worker, end == End::ByItself, jobs, setup);
        }
        try_again(wards, jobs, setup);
        if parted.is_none() {
            parted = match accept(jobs, setup, wards) {
                Ok(true) if !setup.broker.is_gone() => None,
                Ok(_) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            if let Some(end) = &parted {
                // the sleepers first, whoever else keeps us waiting
                wards.iter().for_each(Ward::hang_up);
                if let Err(error) = end {
                    put_on_record(error);
                    part(jobs, error);
                }
            }
        }
    }
    parted.unwrap_or(Ok(()))
}

/// Puts it on record if the broker broke an agreement; whether it did.
pub(super) fn put_on_record(error: &Error) -> bool {
    let Error::Violation { job, reason } = error else { return false };
    record::violation(Role::Launcher, *job, reason);
    true
}

/// Takes one job, if there is one; whether the broker is still there.
fn accept(jobs: &OwnedFd, setup: &mut Setup, wards: &mut Vec<Ward>) -> Result<bool> {
    let (packet, descriptors) = match socket::receive(jobs, Job::LIMIT + frame::PREFIX_LENGTH, false) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(true),
        Err(Errno::ECONNRESET) => return Ok(false),
        received => received.map_err(not_received)?,
    };
    if packet.is_empty() {
        return Ok(false);
    }
    let job: Job = frame::decode(&packet)
        .map_err(|error| Error::Violation { job: None, reason: format!("a job is malformed: {error}") })?;
    #[cfg(feature = "drill")]
    crate::drill::reached(crate::drill::Role::Launcher);
    let name = job.name();
    take(job, descriptors, jobs, setup, wards).map_err(|error| error.in_job(name))?;
    Ok(true)
}

/// Does what a job says, if it came with the descriptors that it needs.
fn take(
    job: Job,
    descriptors: Vec<OwnedFd>,
    jobs: &OwnedFd,
    setup: &mut Setup,
    wards: &mut Vec<Ward>,
) -> Result<()> {
    match (job, <[OwnedFd; 4]>::try_from(descriptors)) {
        (Job::Identify { ticket }, Err(descriptors)) if descriptors.len() == 1 => {
            let clients = &setup.authority.clients;
            let peer = descriptors.first().map_or(Ok(None), |client| naming::peer(client, clients))?;
            report(jobs, &LauncherReport::Identified { ticket, peer });
        }
        (Job::NameProgram { ticket }, Err(descriptors)) if descriptors.len() == 1 => {
            for target in &descriptors {
                let naming::Program { executable, may_be_guarded } =
                    naming::program(target, &setup.authority.clients)?;
                report(jobs, &LauncherReport::ProgramNamed { ticket, executable, may_be_guarded });
            }
        }
        (Job::FindTarget { ticket, pid }, Err(descriptors)) if descriptors.len() == 1 => {
            for client in &descriptors {
                report_target(jobs, ticket, naming::target(client, pid, &setup.authority.clients)?);
            }
        }
        (Job::Sleep { ticket, options }, Ok(descriptors)) => {
            let [control, _, target, _] = &descriptors;
            if !socket::is_control(control.as_fd()) {
                return Err(Error::Protocol("the control socket of a sleep is none".into()));
            }
            setup.authority.clients.require_target(target.as_fd())?;
            start(ticket, options, descriptors, jobs, setup, wards);
        }
        (Job::Reload, Err(descriptors)) if descriptors.is_empty() => {
            let changed = setup.reload();
            report(jobs, &changed);
        }
        (Job::Setup { .. }, _) => return Err(Error::Protocol("a second set-up".into())),
        (
            Job::Identify { .. }
            | Job::FindTarget { .. }
            | Job::NameProgram { .. }
            | Job::Reload
            | Job::Sleep { .. },
            _,
        ) => {
            return Err(Error::Protocol("a job came with the wrong descriptors".into()));
        }
    }
    Ok(())
}

/// Answers what workers asked.
fn answer(wards: &mut [Ward], setup: &Setup) -> Result<()> {
    for number in 0..wards.len() {
        let questions = wards.get_mut(number).map(|ward| mem::take(&mut ward.questions)).unwrap_or_default();
        for question in questions {
            let word = match question {
                Question::WhoIs(client) => Word::Peer(naming::peer(&client, &setup.authority.clients)?),
                Question::IsPolicyNewer { generation } => setup.newer_policy(generation),
                Question::Claim { rule, limit } => {
                    Word::Claimed { granted: claim(wards, number, rule, limit) }
                }
            };
            if let Some(ward) = wards.get(number) {
                ward.tell(&word);
            }
        }
    }
    Ok(())
}

/// Gives the ward with this number a place among those asleep by a rule, if one is free. It has one at most.
fn claim(wards: &mut [Ward], number: usize, rule: String, limit: u32) -> bool {
    let others = wards
        .iter()
        .enumerate()
        .filter(|(other, ward)| *other != number && ward.rule.as_ref() == Some(&rule));
    let granted = u32::try_from(others.count()).is_ok_and(|others| others < limit);
    if let Some(ward) = wards.get_mut(number).filter(|_| granted) {
        ward.rule = Some(rule);
    }
    granted
}

/// Tells which process a client means, with its pidfd.
fn report_target(jobs: &OwnedFd, ticket: u64, target: Option<OwnedFd>) {
    let sent = target.is_some_and(|target| {
        let found = LauncherReport::TargetFound { ticket, found: true };
        frame::encode(&found).is_ok_and(|frame| socket::send(jobs, &frame, &[target.as_raw_fd()]).is_ok())
    });
    // one that can't be handed over is answered, too
    if !sent {
        report(jobs, &LauncherReport::TargetFound { ticket, found: false });
    }
}

/// Forks a worker for a sleep.
fn start(
    ticket: u64,
    options: SleepOptions,
    descriptors: [OwnedFd; 4],
    jobs: &OwnedFd,
    setup: &Setup,
    wards: &mut Vec<Ward>,
) {
    let [control, client, target, directory] = descriptors;
    let not_started = || report(jobs, &LauncherReport::Ended { ticket, ending: Ending::NotStarted });
    let (Ok((ours, theirs)), Ok(target_of_worker)) = (deposit_sockets(), target.try_clone()) else {
        return not_started();
    };
    // none if it has ended, and so will have no image
    let pid = facts::pid_of(target.as_fd()).ok();
    #[cfg(feature = "drill")]
    crate::drill::next_sleep();
    match process::fork_single_threaded() {
        Ok(ForkResult::Child) => {
            // from here on, so that no fault unwinds into frames of the launcher
            process::run_to_end(|| {
                record::know_process();
                // keys of other sleeps are wiped from this copy of the launcher's memory
                wards.clear();
                let keep: Vec<RawFd> = [&control, &client, &target_of_worker, &directory, &theirs]
                    .into_iter()
                    .chain(&setup.device)
                    .map(|descriptor| descriptor.as_raw_fd())
                    .chain([libc::STDERR_FILENO])
                    .collect();
                if descriptors::close_all_but(&keep).is_err() {
                    return 1;
                }
                let request = Request {
                    client: client.as_fd(),
                    target: target_of_worker,
                    directory: directory.as_fd(),
                    device: setup.device.as_ref().map(|device| device.as_fd()),
                    plan: Plan::new(&setup.settings, options),
                };
                let (broker, launcher) = (Broker::new(control), Launcher::new(theirs));
                let judge = Judge::new(&setup.authority, &launcher);
                #[cfg(feature = "drill")]
                crate::drill::know("deposits", &launcher.number().to_string());
                job::sleep(request, &judge, &setup.host, &broker, &launcher)
            })
        }
        Ok(ForkResult::Parent { child }) => {
            #[cfg(feature = "drill")]
            crate::drill::know_first("worker", &child.to_string());
            wards.push(Ward::new(ticket, child, ours, control, (target, pid), directory));
            report(jobs, &LauncherReport::Started { ticket, worker: child.as_raw() });
        }
        Err(_) => not_started(),
    }
}

fn deposit_sockets() -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// The next worker that has ended, and how.
fn next_end() -> Result<Option<(Pid, End)>> {
    process::next_end().map_err(Error::system("waiting for", "workers"))
}

/// Puts an end on record that no good worker has. Of the successors for one target, which may be many, the first few are.
fn put_end_on_record(wards: &[Ward], worker: Pid, end: End) {
    let successors = wards.iter().find(|ward| ward.worker == Some(worker)).map_or(0, |ward| ward.successors);
    match end {
        _ if successors > MAX_REMOVERS => {}
        End::ByItself | End::Killed => {}
        End::Fault => record::fault(
            Role::Worker,
            worker,
            "a fault of its own (above) ended it; its process is taken care of. Please report it",
        ),
        End::Forbidden => record::forbidden_call(worker),
    }
}

/// Does what a worker's end asks for.
fn settle(wards: &mut Vec<Ward>, worker: Pid, by_itself: bool, jobs: &OwnedFd, setup: &Setup) {
    let Some(position) = wards.iter().position(|ward| ward.worker == Some(worker)) else { return };
    let mut ward = wards.swap_remove(position);
    ward.collect();
    ward.worker = None;
    let ending = match ward.next() {
        Next::Successor if ward.successors == 0 => return succeed(wards, ward, jobs, setup),
        Next::Successor if ward.is_asleep() || ward.successors < MAX_REMOVERS => {
            ward.again_at = Some(Instant::now() + AGAIN);
            return wards.push(ward);
        }
        Next::Successor | Next::Lost if ward.is_asleep() => Ending::DiedAsleep,
        Next::Nothing if by_itself && (ward.successors == 0 || ward.was_asleep()) => Ending::Exited,
        Next::Successor | Next::Lost | Next::Nothing => Ending::DiedUnharmed,
    };
    end(ward, ending, jobs);
}

fn end(mut ward: Ward, ending: Ending, jobs: &OwnedFd) {
    ward.remove_image();
    report(jobs, &LauncherReport::Ended { ticket: ward.ticket, ending });
}

/// Forks a successor that is due, unless its target has died meanwhile; and another one at the next turn.
fn try_again(wards: &mut Vec<Ward>, jobs: &OwnedFd, setup: &Setup) {
    let now = Instant::now();
    let is_due = |ward: &Ward| ward.again_at.is_some_and(|time| time <= now);
    while let Some(position) = wards.iter().position(is_due) {
        let mut ward = wards.swap_remove(position);
        ward.again_at = None;
        match ward.next() {
            Next::Successor => return succeed(wards, ward, jobs, setup),
            Next::Lost if ward.is_asleep() => end(ward, Ending::DiedAsleep, jobs),
            Next::Lost | Next::Nothing => end(ward, Ending::DiedUnharmed, jobs),
        }
    }
}

/// Forks a successor for a worker that died.
fn succeed(wards: &mut Vec<Ward>, mut ward: Ward, jobs: &OwnedFd, setup: &Setup) {
    let later = |wards: &mut Vec<Ward>, mut ward: Ward| {
        ward.again_at = Some(Instant::now() + AGAIN);
        wards.push(ward);
    };
    let Ok((ours, theirs)) = deposit_sockets() else { return later(wards, ward) };
    match process::fork_single_threaded() {
        Ok(ForkResult::Child) => process::run_to_end(|| {
            record::know_process();
            wards.clear();
            #[cfg(feature = "drill")]
            crate::drill::successor();
            let (inheritance, control) = ward.into_inheritance();
            let mut keep = vec![
                libc::STDERR_FILENO,
                control.as_raw_fd(),
                theirs.as_raw_fd(),
                inheritance.target.as_raw_fd(),
            ];
            keep.extend(inheritance.guard.iter().map(|guard| guard.as_raw_fd()));
            if let Some(Bequest { image, guard, memory, .. }) = &inheritance.sleep {
                keep.extend([image.as_raw_fd(), guard.as_raw_fd(), memory.as_raw_fd()]);
            }
            if descriptors::close_all_but(&keep).is_err() {
                return 1;
            }
            let (broker, launcher) = (Broker::new(control), Launcher::new(theirs));
            job::take_over(inheritance, &setup.settings.terms, &setup.host, &broker, &launcher)
        }),
        Ok(ForkResult::Parent { child }) => {
            ward.worker = Some(child);
            ward.deposits = Some(ours);
            ward.successors += 1;
            report(jobs, &LauncherReport::Succeeded { ticket: ward.ticket, worker: child.as_raw() });
            wards.push(ward);
        }
        Err(_) => later(wards, ward),
    }
}
