//! The policy: the file that was named, or the built-in one.

use super::identity::Identity;
use super::paths::{Place, Purpose};
use crate::error::{Attempt, BrokerError};
use crate::sys::process::has_more_rights_than_its_caller;
use crate::sys::status::{self, Stat};
use memcr_policy::{AccountFiles, Policy, PolicyError, SIZE_LIMIT};
use memcr_protocol::launcher::PolicySource;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access, geteuid};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tracing::warn;

/// A policy file: read for the broker, and open for the launcher, which reads it itself.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// Path as it was given.
    pub(crate) path: String,
    /// Where it is, and whose it may be, when it is read anew.
    pub(crate) source: PolicySource,
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
    identity: &Identity,
) -> Result<(Policy, Option<PolicyFile>), BrokerError> {
    let Some(path) = path else {
        return Ok((Policy::builtin(listen_group), None));
    };
    let place = Place { purpose: Purpose::PolicyFile, path };
    // NONBLOCK: a named pipe without a writer must not stop us here
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    // by the path without links, at which it is read anew; what has none (a pipe) can't be
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut file = File::from(open(&whole, flags, Mode::empty()).attempt_at("open", place)?);
    let status = status::of(&file).attempt_at("look at", place)?;
    let owner = trusted_owner()?;
    require_trusted(&status, owner, place)?;
    warn_unless_it_can_be_read_anew(&whole, identity, place)?;
    let mut text = Vec::new();
    let limit = u64::try_from(SIZE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    Read::by_ref(&mut file).take(limit).read_to_end(&mut text).attempt_at("read", place)?;
    file.rewind().attempt_at("rewind", place)?;
    let policy = parse(&text).map_err(|cause| BrokerError::Policy { path: place.to_string(), cause })?;
    let source = PolicySource { path: whole.display().to_string(), owner };
    Ok((policy, Some(PolicyFile { path: path.display().to_string(), source, file })))
}

/// The policy in a text, whose names are looked up as the launcher does.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn parse(text: &[u8]) -> Result<Policy, PolicyError> {
    // names in a file that can't be read are unknown
    let read =
        |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    Policy::parse_bytes(text, &AccountFiles { passwd: &passwd, group: &group })
}

fn warn_unless_it_can_be_read_anew(
    path: &Path,
    identity: &Identity,
    place: Place<'_>,
) -> Result<(), BrokerError> {
    if let Err(cause) = identity.acting(|| access(path, AccessFlags::R_OK))? {
        warn!(
            "{place} can't be read anew (SIGHUP): user {} may not read it ({cause}); let its group be one of that user's, mode 0640",
            identity.uid
        );
    }
    Ok(())
}

/// Whose policy counts besides root's: that of the user who starts memcr, unless this memcr has file
/// capabilities. Then it has more rights than that user, who must not say who may use them; the owner of
/// the program may.
fn trusted_owner() -> Result<u32, BrokerError> {
    if !has_more_rights_than_its_caller() {
        return Ok(geteuid().as_raw());
    }
    // the kernel's link to the file that runs, whatever its name stands for by now
    Ok(fs::metadata("/proc/self/exe").attempt("look at", "/proc/self/exe")?.uid())
}

/// Whether nobody but root and `owner` can change it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn require_trusted(status: &Stat, owner: u32, place: Place<'_>) -> Result<(), BrokerError> {
    if (status.st_uid == 0 || status.st_uid == owner) && status.st_mode & 0o022 == 0 {
        return Ok(());
    }
    let reason = format!(
        "it must belong to root or to user {owner}, and be writable by its owner only: change that, or name another (it is user {}'s, mode {:o})",
        status.st_uid,
        status.st_mode & 0o7777
    );
    Err(BrokerError::Unsuitable { path: place.to_string(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn user() -> Identity {
        Identity { uid: geteuid(), gid: nix::unistd::getegid(), changes: false }
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("policy.toml");
        fs::write(&path, "version = 1\nnonsense = true\n").unwrap();
        let refused = load(Some(&path), None, &user()).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("policy file {} (--policy): line 2", path.display())),
            "{refused}"
        );
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_error_with_its_line_and_a_long_file_one_of_its_length() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("policy.toml");
        fs::write(&path, b"version = 1\n# caf\xe9\n").unwrap();
        let refused = load(Some(&path), None, &user()).unwrap_err().to_string();
        assert!(refused.contains("line 2, column 6: not UTF-8 text"), "{refused}");
        fs::write(&path, [0xe9; SIZE_LIMIT + 1]).unwrap();
        let refused = load(Some(&path), None, &user()).unwrap_err().to_string();
        assert!(refused.contains("longer than"), "{refused}");
    }

    #[test]
    fn a_policy_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("policy.toml");
        fs::write(&path, "version = 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let refused = load(Some(&path), None, &user()).unwrap_err().to_string();
        assert!(refused.contains("writable by its owner only"), "{refused}");
    }
}
