//! The policy file: read at the start from the descriptor that the broker passed, and anew from its path when the broker asks for
//! that. Then nothing that the broker says counts: who may own it, and where it is, was said at the set-up.

use crate::error::{Error, Result};
use crate::launcher::setup::Setup;
use crate::sys::status::{self, FileType, is};
use memcr_policy::{AccountFiles, Policy, Remembering, SIZE_LIMIT};
use memcr_protocol::deposit::Word;
use memcr_protocol::frame;
use memcr_protocol::launcher::{LauncherReport, PolicySource, PolicyText};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{Read as _, Seek as _};

/// Longest account file that is read.
const ACCOUNTS_LIMIT: u64 = 16 << 20;

/// The file of the policy in force.
pub(super) struct PolicyFile {
    source: PolicySource,
    text: PolicyText,
}

impl PolicyFile {
    /// Reads the file from its start, wherever the broker's own reading left off.
    pub(super) fn read(source: PolicySource, mut file: File) -> Result<(Policy, Self)> {
        file.rewind().map_err(|error| failed(&source.path, &error.to_string()))?;
        let (policy, text) = parse(&source.path, file)?;
        Ok((policy, Self { source, text }))
    }
}

impl Setup {
    /// Reads the policy anew and puts it in force; what becomes of it.
    pub(super) fn reload(&mut self) -> LauncherReport {
        let Some(PolicyFile { source, text }) = &mut self.policy else {
            return LauncherReport::PolicyKept { reason: "there is no policy file".into() };
        };
        match open_again(source).and_then(|file| parse(&source.path, file)) {
            Ok((policy, new)) => {
                self.authority.policy = policy;
                self.authority.generation =
                    self.authority.generation.map(|generation| generation.wrapping_add(1));
                text.clone_from(&new);
                LauncherReport::PolicyReloaded(new)
            }
            Err(error) => LauncherReport::PolicyKept { reason: error.to_string() },
        }
    }

    /// The answer to a worker that has the policy of this generation.
    pub(super) fn newer_policy(&self, generation: u32) -> Word {
        let own = self.authority.generation.unwrap_or_default();
        let file = self.policy.as_ref().filter(|_| own != generation);
        Word::Policy { generation: own, newer: file.map(|file| file.text.clone()) }
    }
}

fn failed(path: &str, reason: &str) -> Error {
    Error::Unsupported(format!("policy file {path}: {reason}"))
}

/// Opens what is at the path now, if it is fit for a policy.
fn open_again(source: &PolicySource) -> Result<File> {
    let PolicySource { path, owner } = source;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = open(path.as_str(), flags, Mode::empty()).map_err(|cause| match cause {
        Errno::EACCES => {
            failed(path, "the daemon's user may not read it: give it a group that may (mode 0640)")
        }
        cause => failed(path, cause.desc()),
    })?;
    let status = status::of(&opened).map_err(|cause| failed(path, cause.desc()))?;
    if !is(&status, FileType::RegularFile)
        || !(status.st_uid == 0 || status.st_uid == *owner)
        || status.st_mode & 0o022 != 0
    {
        let reason = format!(
            "it must be a file of root or of user {owner}, and be writable by its owner only (it is user {}'s, mode {:o})",
            status.st_uid,
            status.st_mode & 0o7777
        );
        return Err(failed(path, &reason));
    }
    Ok(opened.into())
}

/// The policy that a file holds, and its text for others.
fn parse(path: &str, file: File) -> Result<(Policy, PolicyText)> {
    let mut text = String::new();
    file.take(SIZE_LIMIT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(path, &error.to_string()))?;
    let (passwd, group) = (accounts("/etc/passwd"), accounts("/etc/group"));
    let files = AccountFiles { passwd: &passwd, group: &group };
    let names = Remembering::new(&files);
    let policy = Policy::parse(&text, &names).map_err(|error| failed(path, &error.to_string()))?;
    let text = PolicyText { text, accounts: names.found() };
    // it must go to workers and to the broker
    frame::encode(&text).map_err(|error| failed(path, &format!("too many names: {error}")))?;
    Ok((policy, text))
}

/// An account file that can't be read holds nobody: names in it are unknown then.
fn accounts(path: &str) -> String {
    let mut bytes = Vec::new();
    // what was read before a failure is no less true
    let _ = File::open(path).map(|file| file.take(ACCOUNTS_LIMIT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
