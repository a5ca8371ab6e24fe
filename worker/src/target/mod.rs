//! Reading about the target: who it is, what it has mapped, what forbids touching it.

pub(crate) mod clients;
pub(crate) mod executable;
pub(crate) mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod mappings;
pub(crate) mod namespaces;
pub(crate) mod numbers;
pub(crate) mod orphans;
pub(crate) mod pages;
pub(crate) mod proc_directory;
pub(crate) mod refusals;
pub(crate) mod socket_holder;
pub(crate) mod status;
pub(crate) mod tcp_clients;
