//! The roles, and the points at which each is most exposed.

use crate::orders::{Order, orders};
use crate::{Attempt, Outcome, attempts, say};
use std::sync::atomic::{AtomicU32, Ordering};

/// Who acts, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The broker, after a client's bytes were parsed.
    Broker,
    /// The launcher, after a job was parsed.
    Launcher,
    /// A worker that attaches, after it has read texts of the target.
    Attaching,
    /// A confined worker, in one of its threads, after it has read a page of the target.
    Dumping,
    /// A confined worker that sleeps, after it has read an order.
    Asleep,
    /// A confined worker, in one of its threads, after it has read a frame of the image.
    Restoring,
}

/// Which sleep this is, counted from 1 by the launcher; successors belong to none.
static SLEEP: AtomicU32 = AtomicU32::new(0);
/// How often each role came to its point in this process.
static REACHED: [AtomicU32; 6] = [const { AtomicU32::new(0) }; 6];

/// Another sleep begins: called by the launcher before it forks a worker.
pub fn next_sleep() {
    SLEEP.fetch_add(1, Ordering::SeqCst);
}

/// This process goes on with a sleep that was another's: called by a successor.
pub fn successor() {
    SLEEP.store(u32::MAX, Ordering::SeqCst);
}

impl Role {
    /// Its name in orders.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Launcher => "launcher",
            Self::Attaching => "attaching",
            Self::Dumping => "dumping",
            Self::Asleep => "asleep",
            Self::Restoring => "restoring",
        }
    }

    /// Does what is ordered for this point. `own` tries what is possible here only, by its name; `None` if it doesn't
    /// know it.
    ///
    /// # Panics
    /// When that is the order.
    pub fn reached(self, mut own: impl FnMut(&str) -> Option<Outcome>) {
        let times = REACHED[self as usize].fetch_add(1, Ordering::SeqCst) + 1;
        let number = match self {
            Self::Broker | Self::Launcher => times,
            // the first thread at the first page
            _ if times > 1 => return,
            _ => SLEEP.load(Ordering::SeqCst),
        };
        let is_for_now =
            |order: &&Order| order.role == self.name() && order.number.is_none_or(|at| at == number);
        for order in orders().iter().filter(is_for_now) {
            match order.verb.as_str() {
                "try" if order.word == "all" => {
                    for attempt in attempts() {
                        self.tries(attempt.name, attempt.run);
                    }
                }
                "try" => {
                    let known = attempts().find(|attempt| attempt.name == order.word);
                    match known {
                        Some(Attempt { name, run }) => self.tries(name, run),
                        None => self.tries(&order.word, || own(&order.word).unwrap_or(Ok(()))),
                    }
                }
                "panic" => self.panics(),
                _ => {}
            }
        }
    }

    fn tries(self, name: &str, run: impl FnOnce() -> Outcome) {
        say(&format!("{} tries {name}", self.name()));
        match run() {
            Ok(()) => say(&format!("{} worked: {name}", self.name())),
            Err(refused) => say(&format!("{} refused: {name}: {refused}", self.name())),
        }
    }

    #[expect(clippy::panic, reason = "that is the order")]
    fn panics(self) {
        panic!("drill: {} panics as it was told", self.name());
    }

    /// Names of entries that the filter of this name lacks in this process.
    #[must_use]
    pub fn removed(filter: &str) -> Vec<&'static str> {
        let sleep = SLEEP.load(Ordering::SeqCst);
        let is_for_now =
            |order: &&Order| order.role == filter && order.number.is_none_or(|number| number == sleep);
        let removals = orders().iter().filter(is_for_now).filter(|order| order.verb == "without");
        let removals: Vec<_> = removals.map(|order| order.word.as_str()).collect();
        removals.iter().for_each(|name| say(&format!("{filter} lacks {name}")));
        removals
    }
}
