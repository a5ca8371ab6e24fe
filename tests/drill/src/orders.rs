//! What is to be done, as the file beside the program says.
//!
//! A line is an order, `ROLE[@NUMBER] VERB [WORD]`, or a fact, `fact NAME VALUE`. The number tells in which sleep a
//! worker does it, or at which time that it comes to its point a broker or launcher does; without one, at each. The verbs:
//!
//! - `try NAME` one attempt; `try all` all of them
//! - `panic` as a mistake of ours would
//! - `without NAME` the role's filter lacks the entry of this name

use crate::ORDERS;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) role: String,
    pub(crate) number: Option<u32>,
    pub(crate) verb: String,
    pub(crate) word: String,
}

static LIST: OnceLock<Vec<Order>> = OnceLock::new();
static FACTS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Reads the orders; without a file there are none. Before anything is given up.
pub fn begin() {
    LIST.get_or_init(|| {
        let path = std::fs::read_link("/proc/self/exe").ok();
        let path = path.and_then(|path| path.parent().map(|directory| directory.join(ORDERS)));
        let text = std::fs::read_to_string(path.unwrap_or_default()).unwrap_or_default();
        text.lines().filter_map(line).collect()
    });
}

/// The order of a line, if it is one; takes note of facts.
fn line(text: &str) -> Option<Order> {
    let mut words = text.splitn(3, ' ');
    let (role, verb) = (words.next()?, words.next()?);
    let word = words.next().unwrap_or_default().to_owned();
    if role == "fact" {
        know(verb, &word);
        return None;
    }
    let (role, number) = match role.split_once('@') {
        None => (role, None),
        Some((role, number)) => (role, Some(number.parse().ok()?)),
    };
    Some(Order { role: role.to_owned(), number, verb: verb.to_owned(), word })
}

/// All orders.
pub(crate) fn orders() -> &'static [Order] {
    LIST.get().map(Vec::as_slice).unwrap_or_default()
}

fn facts() -> MutexGuard<'static, BTreeMap<String, String>> {
    FACTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of something that attempts need.
pub fn know(name: &str, value: &str) {
    facts().insert(name.to_owned(), value.to_owned());
}

/// The same unless something is known under this name.
pub fn know_first(name: &str, value: &str) {
    facts().entry(name.to_owned()).or_insert_with(|| value.to_owned());
}

/// A fact; empty if it isn't known.
#[must_use]
pub fn fact(name: &str) -> String {
    facts().get(name).cloned().unwrap_or_default()
}

/// A fact that is a number; 0 if it isn't known.
pub(crate) fn number(name: &str) -> u64 {
    fact(name).parse().unwrap_or(0)
}
