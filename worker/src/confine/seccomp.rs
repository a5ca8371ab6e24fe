//! Installing filters (Documentation/userspace-api/seccomp_filter.rst).

use crate::error::{Error, Result};
use memcr_filter::{Architecture, Filter, call};
use seccompiler::apply_filter;

/// Installs a filter for this thread and its future ones.
///
/// clone3 hides its flags in memory, so it answers "no such call" and libraries use clone, whose flags the
/// filter sees.
pub(super) fn install(filter: Filter) -> Result<()> {
    let failed =
        |error: &dyn std::fmt::Display| Error::Unsupported(format!("confining with seccomp: {error}"));
    let filter = filter.answering_absent(call!(SYS_clone3));
    let programs = Architecture::here().and_then(|architecture| filter.programs(architecture));
    let programs = programs.map_err(|error| failed(&error))?;
    programs.iter().try_for_each(|program| apply_filter(program)).map_err(|error| failed(&error))
}
