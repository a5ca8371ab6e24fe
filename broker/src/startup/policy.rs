//! The policy: the file that was named, or the built-in one.

use super::identity::SystemNames;
use crate::error::{Attempt, BrokerError};
use memcr_policy::{Policy, SIZE_LIMIT};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// A policy file: read for the broker, and open for the launcher, which reads it itself.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// Path as it was given.
    pub(crate) path: String,
    /// Open at its beginning.
    pub(crate) file: File,
}

/// The policy to decide by, and its file.
///
/// # Errors
/// [`BrokerError`] when the file can't be read, a stranger could change it, or it has an error.
pub(crate) fn load(
    path: Option<&Path>,
    listen_group: Option<u32>,
) -> Result<(Policy, Option<PolicyFile>), BrokerError> {
    let Some(path) = path else {
        return Ok((Policy::builtin(listen_group), None));
    };
    let name = path.display().to_string();
    // NONBLOCK: a named pipe without a writer must not stop us here
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let mut file = File::from(open(path, flags, Mode::empty()).attempt("open the policy file", &name)?);
    let status = fstat(&file).attempt("look at", &name)?;
    if (status.st_uid != 0 && status.st_uid != geteuid().as_raw()) || status.st_mode & 0o022 != 0 {
        let reason = format!(
            "as a policy file it must belong to root or to the user who starts memcr, and be writable by its owner only (it is user {}'s, mode {:o})",
            status.st_uid,
            status.st_mode & 0o7777
        );
        return Err(BrokerError::Unsuitable { path: name, reason });
    }
    let mut text = Vec::new();
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    Read::by_ref(&mut file).take(limit).read_to_end(&mut text).attempt("read", &name)?;
    file.rewind().attempt("rewind", &name)?;
    let text = String::from_utf8(text)
        .map_err(|_| BrokerError::Unsuitable { path: name.clone(), reason: "is not UTF-8 text".into() })?;
    let policy = Policy::parse(&text, &SystemNames)
        .map_err(|cause| BrokerError::Policy { path: name.clone(), cause })?;
    Ok((policy, Some(PolicyFile { path: name, file })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_error_names_file_line_and_reason() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("policy.toml");
        fs::write(&path, "version = 1\nnonsense = true\n").unwrap();
        let refused = load(Some(&path), None).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{}: line 2", path.display())), "{refused}");
    }

    #[test]
    fn a_policy_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("policy.toml");
        fs::write(&path, "version = 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let refused = load(Some(&path), None).unwrap_err().to_string();
        assert!(refused.contains("writable by its owner only"), "{refused}");
    }
}
