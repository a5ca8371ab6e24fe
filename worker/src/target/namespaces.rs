//! How the target sees us: its namespaces against ours (namespaces(7), user_namespaces(7)).

use crate::error::{Error, Result};
use crate::target::facts::OVERFLOW_ID;
use crate::target::proc_directory::ProcDirectory;
use nix::errno::Errno;
use nix::unistd::{geteuid, getpid};

/// Whether a thread is in the same namespace of a kind (`net`, `pid`, `user`) as this process.
pub(crate) fn is_shared(thread: &ProcDirectory, kind: &str) -> Result<bool> {
    let name = format!("ns/{kind}");
    let ours = match ProcDirectory::open(getpid())?.stat(&name) {
        // a kernel that has no such namespaces
        Err(Error::System { cause: Errno::ENOENT, .. }) => return Ok(true),
        ours => ours?,
    };
    let theirs = thread.stat(&name)?;
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}

/// The process and user id that the kernel shows a thread of this process. A target that we see is in our own
/// pid namespace or in one below, where we have no number.
pub(crate) fn ids_of_us(thread: &ProcDirectory) -> Result<(i32, u32)> {
    let pid = if is_shared(thread, "pid")? { getpid().as_raw() } else { 0 };
    let uid = id_there(thread, "uid_map", geteuid().as_raw())?;
    Ok((pid, uid.unwrap_or(OVERFLOW_ID)))
}

/// The number that a group of ours has for a thread; `None` if it has none there.
pub(crate) fn group_there(thread: &ProcDirectory, group: u32) -> Result<Option<u32>> {
    id_there(thread, "gid_map", group)
}

fn id_there(thread: &ProcDirectory, map: &str, id: u32) -> Result<Option<u32>> {
    // of a namespace that is our own the map tells what the ids are in the one above
    if is_shared(thread, "user")? {
        return Ok(Some(id));
    }
    Ok(mapped(&thread.text(map)?, id))
}

/// Each line has the first id inside, the first one here, and how many there are.
fn mapped(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, here, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = id.checked_sub(here).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::mapped;

    #[test]
    fn an_id_is_found_in_the_range_that_holds_it() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(mapped(map, 1000), Some(0));
        assert_eq!(mapped(map, 100_000), Some(1));
        assert_eq!(mapped(map, 165_535), Some(65_536));
        for outside in [0, 999, 1001, 99_999, 165_536, u32::MAX] {
            assert_eq!(mapped(map, outside), None, "{outside}");
        }
    }

    #[test]
    fn a_map_of_all_ids_and_an_empty_one_are_read() {
        assert_eq!(mapped("0 0 4294967295\n", 4_294_967_294), Some(4_294_967_294));
        assert_eq!(mapped("", 0), None);
    }
}
