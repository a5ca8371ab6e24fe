//! Test builds only: an attacker at the points where a target's bytes, an image's, or the broker's could have taken over
//! the launcher or a worker. What he does is in the crate `memcr-drill`; here is what takes part in the protocols.

mod deposits;

pub(crate) use memcr_drill::{Role, begin, know, know_first, next_sleep, successor};

use memcr_filter::Filter;

/// Does what is ordered for this point.
pub(crate) fn reached(role: Role) {
    role.reached(deposits::attempt);
}

/// A filter without the entries that it is to lack.
pub(crate) fn altered(filter: Filter, name: &str) -> Filter {
    Role::removed(name).into_iter().fold(filter, Filter::without)
}
