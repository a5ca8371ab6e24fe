//! One worker: a process of its own, from the job to the end of the sleep.

use crate::channel::{Broker, Launcher};
use crate::confine::{self, Terms};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::phase::Judge;
use crate::phase::asleep::Waker;
use crate::phase::attach::{Request, attach};
use crate::phase::dump::dump;
use crate::phase::free::{NotFreed, free};
use crate::phase::restore::{NotRestored, restore, restore_persistently};
use crate::phase::succeed::{Inheritance, succeed};
use memcr_protocol::deposit::Deposit;
use memcr_protocol::report::WakeReport;
use memcr_protocol::worker::WorkerEvent;

/// Puts a process to sleep, keeps it, wakes it. Exit status of the worker.
pub(crate) fn sleep(
    request: Request<'_>,
    judge: &Judge<'_>,
    host: &Host,
    broker: &Broker,
    launcher: &Launcher,
) -> i32 {
    tell_end(sleep_and_wake(request, judge, host, broker, launcher), broker)
}

/// Takes over from a worker that has died. Exit status of the worker.
pub(crate) fn take_over(
    inheritance: Inheritance,
    terms: &Terms,
    host: &Host,
    broker: &Broker,
    launcher: &Launcher,
) -> i32 {
    let sleeps = inheritance.sleep.is_some();
    let restored =
        confine::raise_ptrace().and_then(|()| succeed(inheritance, broker, launcher, terms, host.cores));
    match restored {
        // the launcher tells the broker that the worker died and harmed nothing
        Ok(None) => 0,
        Ok(Some(report)) => tell_end(Ok(report), broker),
        Err(error) if error.is_final() => tell_end(Err(error), broker),
        // the launcher tries it again
        Err(error) => {
            if sleeps {
                broker.tell(&WorkerEvent::SleepsOn(error.failure()));
            }
            1
        }
    }
}

fn tell_end(result: Result<WakeReport>, broker: &Broker) -> i32 {
    match result {
        Ok(report) => {
            broker.tell(&WorkerEvent::Awake(report));
            0
        }
        // a successor has the last word, or the launcher
        Err(Error::Unsettled(_)) => 1,
        Err(error) => {
            broker.tell(&WorkerEvent::Failed(error.failure()));
            1
        }
    }
}

fn sleep_and_wake(
    request: Request<'_>,
    judge: &Judge<'_>,
    host: &Host,
    broker: &Broker,
    launcher: &Launcher,
) -> Result<WakeReport> {
    confine::raise_ptrace()?;
    let plan = request.plan;
    let attached = attach(request, judge, broker, launcher)?;
    let confined = match attached.confine(&plan.settings.terms, judge, broker, launcher) {
        Ok(confined) => confined,
        Err(error) => return Err(attached.undo(launcher).err().unwrap_or(error)),
    };
    let dumped = match dump(&attached, &confined, plan, judge, broker, host) {
        Ok(dumped) => dumped,
        Err(error) => return Err(attached.undo(launcher).err().unwrap_or(error)),
    };
    let (mut asleep, report) = match free(attached, dumped, &confined, judge, broker, launcher) {
        Ok(asleep) => asleep,
        Err(NotFreed::Undo(attached, error)) => return Err(attached.undo(launcher).err().unwrap_or(error)),
        Err(NotFreed::Abandon(error)) => return Err(error.unsettled()),
        Err(NotFreed::Restore(asleep, error)) => {
            restore_persistently(*asleep, &confined, broker, launcher, host.cores)?;
            return Err(error);
        }
    };
    broker.tell(&WorkerEvent::Asleep(report));
    loop {
        match asleep.wait(judge, broker) {
            Ok(Waker::Client) => match restore(asleep, &confined, broker, launcher, host.cores) {
                Ok(report) => return Ok(report),
                Err(NotRestored::Lost(error)) => return Err(error),
                Err(NotRestored::SleepsOn(back, error)) => {
                    broker.tell(&WorkerEvent::SleepsOn(error.failure()));
                    asleep = *back;
                }
            },
            Err(error @ Error::Lost { .. }) => {
                launcher.leave(&Deposit::Settled, &[])?;
                return Err(error);
            }
            // whatever keeps us from waiting, the target is not to sleep for ever
            Ok(Waker::Daemon) | Err(_) => {
                return restore_persistently(asleep, &confined, broker, launcher, host.cores);
            }
        }
    }
}
