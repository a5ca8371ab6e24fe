//! Who the daemon becomes, and the names of users and groups.

use crate::error::{Attempt, BrokerError};
use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgid, getgroups, getuid, setegid, seteuid, setgroups,
};
use std::collections::HashSet;
use std::fs;
use tracing::warn;

/// Account that is used if there is one and no other is named.
const ACCOUNT: &str = "memcr";

/// -1: chown(2) takes it for "leave the group as it is".
const NO_GROUP: u32 = u32::MAX;

/// What the kernel shows for a group that has no number in our user namespace (kernel-facts 9).
const OVERFLOW_GROUP: u32 = 65_534;

/// User ids that systemd keeps for users made on the fly; a sane system has no accounts there.
const UNUSED: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The user and group that the daemon runs as in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Real, effective and saved user id.
    pub(crate) uid: Uid,
    /// Real, effective and saved group id; the only group.
    pub(crate) gid: Gid,
    /// Whether this differs from who started the daemon; it does if and only if root did.
    pub(crate) changes: bool,
}

impl Identity {
    /// Does something with this as the effective user and group, and no other group; then it is root again.
    ///
    /// # Errors
    /// [`BrokerError`] when it can't become that, or not again what it was.
    pub(crate) fn acting<T>(&self, act: impl FnOnce() -> T) -> Result<T, BrokerError> {
        if !self.changes {
            return Ok(act());
        }
        let (group, groups) = (getegid(), getgroups().attempt("read", "supplementary groups")?);
        setgroups(&[]).attempt("drop", "supplementary groups")?;
        setegid(self.gid).attempt("become for a moment", format_args!("group {}", self.gid))?;
        seteuid(self.uid).attempt("become for a moment", format_args!("user {}", self.uid))?;
        let done = act();
        seteuid(Uid::from_raw(0)).attempt("become again", "root")?;
        setegid(group).attempt("become again", format_args!("group {group}"))?;
        setgroups(&groups).attempt("take again", "supplementary groups")?;
        Ok(done)
    }

    /// Whether files of this user may be ours: root's (who starts us), our own, or those of an
    /// earlier daemon that took another unused number.
    pub(crate) fn may_have_left(&self, owner: u32) -> bool {
        owner == 0
            || owner == self.uid.as_raw()
            || (UNUSED.contains(&self.uid.as_raw()) && UNUSED.contains(&owner))
    }
}

/// Chooses who to become: `user` (name or number), else the account `memcr`, else an unused user id.
///
/// # Errors
/// [`BrokerError::Identity`] when `user` can't be used, or memcr is set-user-id.
pub(crate) fn choose(user: Option<&str>) -> Result<Identity, BrokerError> {
    // a set-user-id memcr would act for its owner on behalf of whoever runs it
    if getuid() != geteuid() || getgid() != getegid() {
        return Err(BrokerError::Identity(
            "memcr must not be set-user-id or set-group-id: give it cap_sys_ptrace=ep instead".into(),
        ));
    }
    if !geteuid().is_root() {
        return stay(user);
    }
    let (uid, gid) = match user {
        Some(user) => named(user)?,
        None => match User::from_name(ACCOUNT).attempt("look up the user", ACCOUNT)? {
            Some(account) => (account.uid, account.gid),
            None => unused()?,
        },
    };
    if uid.is_root() || gid.as_raw() == 0 {
        return Err(BrokerError::Identity(
            "the daemon must not run as user or group root: give another --user".into(),
        ));
    }
    Ok(Identity { uid, gid, changes: true })
}

fn stay(user: Option<&str>) -> Result<Identity, BrokerError> {
    if let Some(user) = user {
        if named(user)?.0 != geteuid() {
            return Err(BrokerError::Identity(format!("--user {user}: only root can become another user")));
        }
    }
    Ok(Identity { uid: geteuid(), gid: getegid(), changes: false })
}

fn named(user: &str) -> Result<(Uid, Gid), BrokerError> {
    let account = match user.parse::<u32>() {
        Ok(number) => {
            let uid = Uid::from_raw(number);
            let account = User::from_uid(uid).attempt("look up the user", user)?;
            return Ok(account.map_or((uid, Gid::from_raw(number)), |account| (account.uid, account.gid)));
        }
        Err(_) => User::from_name(user).attempt("look up the user", user)?,
    };
    account
        .map(|account| (account.uid, account.gid))
        .ok_or_else(|| BrokerError::Identity(format!("--user {user}: no such user")))
}

/// A number that no account, group or process has.
fn unused() -> Result<(Uid, Gid), BrokerError> {
    let taken = users_of_processes();
    for number in UNUSED {
        let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
        // some name services answer "not found" with an error
        let nobody = |result: Result<bool, Errno>| result.unwrap_or(false);
        if !taken.contains(&number)
            && !nobody(User::from_uid(uid).map(|user| user.is_some()))
            && !nobody(Group::from_gid(gid).map(|group| group.is_some()))
        {
            warn!(
                "there is no user `{ACCOUNT}`: running as the unused user id {number}; better make that account, or give --user"
            );
            return Ok((uid, gid));
        }
    }
    Err(BrokerError::Identity(format!(
        "no user id of {}-{} is unused: make a user `{ACCOUNT}` or give --user",
        UNUSED.start(),
        UNUSED.end()
    )))
}

fn users_of_processes() -> HashSet<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .flat_map(|status| {
            let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
            ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The group id of `group`, a name or a number that `option` was given.
///
/// # Errors
/// [`BrokerError::Identity`] when there is no such group, or its number stands for none.
pub(crate) fn group(option: &str, group: &str) -> Result<u32, BrokerError> {
    let refused = |why: &str| BrokerError::Identity(format!("{option} {group}: {why}"));
    let number = match group.parse() {
        Ok(number) => number,
        Err(_) => Group::from_name(group)
            .attempt("look up the group", group)?
            .map(|found| found.gid.as_raw())
            .ok_or_else(|| refused("no such group"))?,
    };
    match number {
        NO_GROUP => Err(refused("this number means \"no group\" to the kernel; give another group")),
        OVERFLOW_GROUP => Err(refused(
            "the kernel shows this group for everybody whose group has no number here; give another group",
        )),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_can_be_given_by_number_without_an_account() {
        assert_eq!(named("61999").unwrap(), (Uid::from_raw(61_999), Gid::from_raw(61_999)));
    }

    #[test]
    fn an_unknown_user_is_an_error_that_names_it() {
        let refused = named("no-such-user-here").unwrap_err();
        assert_eq!(refused.to_string(), "--user no-such-user-here: no such user");
    }

    #[test]
    fn a_group_that_stands_for_none_or_for_anybody_is_refused() {
        for number in ["4294967295", "65534", "4294967296", "-1"] {
            assert!(
                group("-g", number).unwrap_err().to_string().starts_with(&format!("-g {number}: ")),
                "{number}"
            );
        }
        if let Ok(Some(nobody)) = Group::from_gid(Gid::from_raw(65_534)) {
            assert!(group("-g", &nobody.name).is_err());
        }
        assert_eq!(group("-g", "4294967294").unwrap(), 4_294_967_294);
        assert_eq!(group("-g", "0").unwrap(), 0);
    }

    #[test]
    fn leftovers_of_another_unused_user_are_ours_only_if_we_run_as_one() {
        let unused = Identity { uid: Uid::from_raw(61_184), gid: Gid::from_raw(61_184), changes: true };
        assert!(unused.may_have_left(61_185) && unused.may_have_left(0));
        let account = Identity { uid: Uid::from_raw(990), ..unused };
        assert!(account.may_have_left(990) && !account.may_have_left(61_184));
        assert!(!account.may_have_left(1000));
    }
}
