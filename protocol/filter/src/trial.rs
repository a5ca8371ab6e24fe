//! Calls to try a filter with: such that meet an entry, and such that just don't.
//!
//! What a filter should say of a call is worked out here from the entries alone, so that it can be compared
//! with what the kernel does.

use crate::{Condition, Entry, Filter};

/// The arguments of a call.
pub type Arguments = [u64; 6];

/// A call to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Name of the entry that it is about.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// Its arguments. Those that no condition is about are no address, no length and no descriptor.
    pub arguments: Arguments,
}

impl Filter {
    /// What is wrong with the tables: names that are there twice, entries without a reason or a name of their own,
    /// conditions that another entry without any makes void.
    #[must_use]
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let others = || self.entries.iter().enumerate().filter(move |(other, _)| *other != index);
            let of_call = || others().filter(|(_, other)| other.call == entry.call);
            let name = entry.name();
            if entry.reason.is_empty() {
                flaws.push(format!("{name} has no reason"));
            }
            if others().any(|(_, other)| other.name() == name) {
                flaws.push(format!("{name} is there twice"));
            }
            if entry.when.is_empty() && of_call().next().is_some() {
                flaws.push(format!("{name} is allowed anyway, which makes conditions void"));
            }
            let is_about_threads = |entry: &Entry| {
                entry.when.iter().find(|condition| matches!(condition, Condition::Tracee(_))).copied()
            };
            if of_call().any(|(_, other)| is_about_threads(other) != is_about_threads(entry)) {
                flaws.push(format!("{name} and others of its call differ in the argument that is a thread"));
            }
        }
        flaws
    }

    /// Whether it allows a call, by the entries.
    #[must_use]
    pub fn allows(&self, number: i64, arguments: Arguments) -> bool {
        let holds = |entry: &&Entry| entry.when.iter().all(|condition| self.holds(*condition, arguments));
        self.entries.iter().filter(|entry| entry.call.number == number).any(|entry| holds(&entry))
    }

    fn holds(&self, condition: Condition, arguments: Arguments) -> bool {
        let whole = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
        let low = |index: u8| lower(whole(index));
        match condition {
            Condition::Is(index, value) => low(index) == value,
            Condition::Whole(index, value) => whole(index) == value,
            Condition::Has(index, bits) => low(index) & bits == bits,
            Condition::Lacks(index, bits) => low(index) & bits == 0,
            Condition::Within(index, bits) => low(index) & !bits == 0,
            Condition::Tracee(index) => self.is_tracee(low(index)),
        }
    }

    fn is_tracee(&self, tid: u32) -> bool {
        let within = |&(first, last): &(u32, u32)| (first..=last).contains(&tid);
        self.tracees.as_ref().is_none_or(|ranges| ranges.iter().any(within))
    }

    /// A call that meets an entry.
    #[must_use]
    pub fn met(&self, entry: &Entry) -> Attempt {
        let mut arguments = [u64::MAX; 6];
        for condition in entry.when {
            set(&mut arguments, index_of(*condition), 0);
        }
        for condition in entry.when {
            let index = index_of(*condition);
            match *condition {
                Condition::Is(_, value) => set(&mut arguments, index, u64::from(value)),
                Condition::Whole(_, value) => set(&mut arguments, index, value),
                Condition::Has(_, bits) => {
                    let before = arguments.get(usize::from(index)).copied().unwrap_or(0);
                    set(&mut arguments, index, before | u64::from(bits));
                }
                Condition::Lacks(..) | Condition::Within(..) => {}
                Condition::Tracee(_) => {
                    let first = self.tracees.as_ref().and_then(|ranges| ranges.first());
                    set(&mut arguments, index, u64::from(first.map_or(u32::MAX, |range| range.0)));
                }
            }
        }
        Attempt { name: entry.name(), number: entry.call.number, arguments }
    }

    /// For each condition of an entry: calls that meet all of its conditions but that one, by one bit each, and no
    /// other entry either.
    #[must_use]
    pub fn missed(&self, entry: &Entry) -> Vec<(Condition, Vec<Attempt>)> {
        let met = self.met(entry);
        let missed = entry.when.iter().map(|condition| {
            let index = index_of(*condition);
            let before = met.arguments.get(usize::from(index)).copied().unwrap_or(0);
            let attempts = self.beside(*condition, before).into_iter().filter_map(|value| {
                let mut arguments = met.arguments;
                set(&mut arguments, index, value);
                let allowed = self.allows(met.number, arguments);
                (!allowed).then(|| Attempt { arguments, ..met.clone() })
            });
            (*condition, attempts.collect())
        });
        missed.collect()
    }

    /// Values for which the condition does not hold.
    fn beside(&self, condition: Condition, value: u64) -> Vec<u64> {
        let flip = |bits: u64| (0..64).map(|bit| 1 << bit).filter(move |bit| bits & bit != 0);
        match condition {
            Condition::Is(..) => flip(u64::from(u32::MAX)).map(|bit| value ^ bit).collect(),
            Condition::Whole(..) => flip(usize::MAX as u64).map(|bit| value ^ bit).collect(),
            Condition::Has(_, bits) | Condition::Lacks(_, bits) => {
                flip(u64::from(bits)).map(|bit| value ^ bit).collect()
            }
            Condition::Within(_, bits) => flip(u64::from(!bits)).map(|bit| value ^ bit).collect(),
            Condition::Tracee(_) => {
                let ranges = self.tracees.iter().flatten();
                let beside = ranges.flat_map(|&(first, last)| [first.wrapping_sub(1), last.wrapping_add(1)]);
                let beside = beside.chain([0, 1, u32::MAX]).filter(|tid| !self.is_tracee(*tid));
                beside.map(u64::from).collect()
            }
        }
    }
}

fn index_of(condition: Condition) -> u8 {
    match condition {
        Condition::Is(index, _)
        | Condition::Whole(index, _)
        | Condition::Has(index, _)
        | Condition::Lacks(index, _)
        | Condition::Within(index, _)
        | Condition::Tracee(index) => index,
    }
}

fn set(arguments: &mut Arguments, index: u8, value: u64) {
    if let Some(argument) = arguments.get_mut(usize::from(index)) {
        *argument = value;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
fn lower(value: u64) -> u32 {
    value as u32
}

/// What became of a process that made a call under a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The filter killed it.
    Forbidden,
    /// The call came back, with ENOSYS.
    Absent,
    /// The call came back with anything else, or ended the process as it should.
    Lived,
    /// Another signal than the filter's killed it.
    Killed(i32),
}

/// Call numbers that are tried: all that there are, some that there are not, and those of x86-64's x32.
fn all_numbers() -> impl Iterator<Item = i64> {
    const X32: i64 = 0x4000_0000;
    (-1..=600).chain((0..=600).step_by(25).map(|number| X32 + number))
}

impl Filter {
    /// Tries everything, with `run` that makes one call in a process of its own under this filter: that each entry lets a
    /// call through; that the same call dies with each condition not met, for each single bit of it; that every
    /// call without an entry dies, but those that this kernel shows to no filter. Gives what was otherwise, and how
    /// many calls were tried.
    #[must_use]
    pub fn tried(&self, never_shown: &[i64], run: impl Fn(&Attempt) -> End) -> (Vec<String>, usize) {
        let (mut complaints, mut void, mut count) = (Vec::new(), Vec::new(), 0);
        let mut expect = |attempt: &Attempt, expected: End, what: &str| {
            count += 1;
            let end = run(attempt);
            if end != expected {
                complaints.push(format!(
                    "{} ({what}): {end:?} for call {} with {:x?}",
                    attempt.name, attempt.number, attempt.arguments
                ));
            }
        };
        for entry in self.entries().iter().filter(|entry| !entry.when.is_empty()) {
            expect(&self.met(entry), End::Lived, "conditions met");
            for (condition, attempts) in self.missed(entry) {
                let what = format!("not met: {condition}");
                attempts.iter().for_each(|attempt| expect(attempt, End::Forbidden, &what));
                // a condition that anything else makes void would be worth nothing
                if attempts.is_empty()
                    && !(self.tracees.is_none() && matches!(condition, Condition::Tracee(_)))
                {
                    void.push(format!("{} is never {what}", entry.name()));
                }
            }
        }
        for number in all_numbers().filter(|number| !self.knows(*number) && !never_shown.contains(number)) {
            let attempt = Attempt { name: format!("call {number}"), number, arguments: [u64::MAX; 6] };
            let is_absent = self.absent().is_some_and(|call| call.number == number);
            expect(&attempt, if is_absent { End::Absent } else { End::Forbidden }, "no entry");
        }
        complaints.append(&mut void);
        (complaints, count)
    }
}
