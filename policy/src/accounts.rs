//! Names of users and groups, from the text of /etc/passwd and /etc/group.
//!
//! No name service is asked: its modules would be loaded into a process that has CAP_SYS_PTRACE, and could not be asked again by one
//! that is confined. Accounts that are elsewhere can be given by number.

use crate::Names;
use memcr_protocol::launcher::Accounts;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Accounts by the text of the two files.
#[derive(Debug)]
pub struct AccountFiles<'t> {
    /// Of /etc/passwd, passwd(5).
    pub passwd: &'t str,
    /// Of /etc/group, group(5).
    pub group: &'t str,
}

impl Names for AccountFiles<'_> {
    fn user(&self, name: &str) -> Option<u32> {
        number(self.passwd, name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        number(self.group, name)
    }
}

/// The third field of the line whose first is `name`, as in both files.
fn number(file: &str, name: &str) -> Option<u32> {
    let found = file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)).flatten()
    });
    found?.parse().ok()
}

/// Accounts that were looked up before.
impl Names for Accounts {
    fn user(&self, name: &str) -> Option<u32> {
        self.users.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }
}

/// Remembers what is looked up, for others who can't look.
pub struct Remembering<'n> {
    names: &'n dyn Names,
    users: RefCell<BTreeMap<String, u32>>,
    groups: RefCell<BTreeMap<String, u32>>,
}

impl<'n> Remembering<'n> {
    /// Has `names` looked up.
    #[must_use]
    pub fn new(names: &'n dyn Names) -> Self {
        Self { names, users: RefCell::default(), groups: RefCell::default() }
    }

    /// All that was found.
    #[must_use]
    pub fn found(self) -> Accounts {
        let list = |map: RefCell<BTreeMap<String, u32>>| map.into_inner().into_iter().collect();
        Accounts { users: list(self.users), groups: list(self.groups) }
    }
}

impl Names for Remembering<'_> {
    fn user(&self, name: &str) -> Option<u32> {
        let id = self.names.user(name)?;
        self.users.borrow_mut().insert(name.to_owned(), id);
        Some(id)
    }

    fn group(&self, name: &str) -> Option<u32> {
        let id = self.names.group(name)?;
        self.groups.borrow_mut().insert(name.to_owned(), id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: AccountFiles<'_> = AccountFiles {
        passwd: "root:x:0:0:root:/root:/bin/bash\n# a comment\n+nis\napp:x:1001:7::/:\nodd:x:\nbig:x:99999999999:1::/:\n",
        group: "root:x:0:\nmedia:x:44:app,root\n",
    };

    #[test]
    fn names_are_looked_up_in_the_files_and_nothing_else_is_taken_for_one() {
        assert_eq!(
            (FILES.user("root"), FILES.user("app"), FILES.group("media")),
            (Some(0), Some(1001), Some(44))
        );
        for nobody in ["", "ap", "app:x", "1001", "+nis", "odd", "big", "media", "# a comment"] {
            assert_eq!(FILES.user(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn what_was_looked_up_can_be_looked_up_again_without_the_files() {
        let remembering = Remembering::new(&FILES);
        assert_eq!(
            (remembering.user("app"), remembering.user("nobody"), remembering.group("media")),
            (Some(1001), None, Some(44))
        );
        let found = remembering.found();
        assert_eq!(
            (found.user("app"), found.user("root"), found.group("media")),
            (Some(1001), None, Some(44))
        );
    }
}
