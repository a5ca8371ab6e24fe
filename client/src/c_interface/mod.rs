//! The C library: what `client/include/memcrclient.h` declares, which is made from the comments here.
//!
//! Only [`original`], [`ours`] and `pointers` have `unsafe` code: they take pointers from C.

pub mod codes;
mod guard;
pub mod original;
pub mod ours;
mod pointers;
mod session;
pub mod structures;
mod table;
#[cfg(test)]
mod tests;
