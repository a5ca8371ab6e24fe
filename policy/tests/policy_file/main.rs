//! Tests of policy files as their users see them: text in, decisions or error messages out.

mod accounts;
mod decisions;
mod document;
mod errors;
mod property;
