//! Numbers of processes in other pid namespaces than ours: clients of the original name processes by the
//! numbers that they see.

use crate::error::{Error, Result};
use crate::sys::namespace;
use crate::sys::status;
use crate::target::proc_directory::ProcDirectory;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What a process sees.
pub(crate) struct PidNamespace {
    file: File,
    /// Device and inode of that: equal for the same namespace only.
    identity: (u64, u64),
    /// How many levels below ours.
    depth: usize,
}

impl PidNamespace {
    /// That of a process. Needs CAP_SYS_PTRACE in effect for those of others.
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        let directory = ProcDirectory::open(pid)?;
        let depth = depth(&numbers_of(&directory)?);
        let file = directory.file("ns/pid")?;
        Ok(Self { identity: identity(file.as_fd())?, file, depth })
    }

    /// Our number of the process that has `number` in this namespace; `None` if there is none. Who has it now
    /// may be another one than a moment ago: see [`Self::names`].
    pub(crate) fn find(&self, number: i32) -> Option<Pid> {
        if self.depth == 0 {
            return Some(Pid::from_raw(number));
        }
        match namespace::number_here(self.file.as_fd(), number) {
            Ok(here) => Some(Pid::from_raw(here)),
            Err(Errno::ESRCH) => None,
            // before Linux 6.11
            Err(_) => self.search(number),
        }
    }

    /// Whether every process is in it, and none in one below.
    pub(crate) fn has_everybody(&self) -> bool {
        let everyone = ProcDirectory::open_all().and_then(|all| all.numbers(".")).unwrap_or_default();
        let is_here = |pid: i32| match ProcDirectory::open(Pid::from_raw(pid)) {
            Ok(directory) => numbers_of(&directory).map_or(true, |numbers| depth(&numbers) == self.depth),
            // it has exited
            Err(_) => true,
        };
        !everyone.is_empty() && everyone.into_iter().all(is_here)
    }

    fn search(&self, number: i32) -> Option<Pid> {
        let everyone = ProcDirectory::open_all().and_then(|all| all.numbers(".")).unwrap_or_default();
        everyone.into_iter().map(Pid::from_raw).find(|pid| self.names(*pid, number))
    }

    /// Whether it is `pid` of ours that has `number` in this namespace. Needs CAP_SYS_PTRACE as above.
    pub(crate) fn names(&self, pid: Pid, number: i32) -> bool {
        self.is_named(pid, number).unwrap_or(false)
    }

    fn is_named(&self, pid: Pid, number: i32) -> Result<bool> {
        let directory = ProcDirectory::open(pid)?;
        let numbers = numbers_of(&directory)?;
        // cheap, and true of few
        if numbers.get(self.depth) != Some(&number) {
            return Ok(false);
        }
        let own = OwnedFd::from(directory.file("ns/pid")?);
        let levels = depth(&numbers).saturating_sub(self.depth);
        let above = (0..levels).try_fold(own, |namespace, _| {
            namespace::parent(namespace.as_fd()).map_err(Error::system("going up from", "a pid namespace"))
        })?;
        Ok(identity(above.as_fd())? == self.identity)
    }
}

/// Its numbers, from that in our namespace down to its own.
fn numbers_of(directory: &ProcDirectory) -> Result<Vec<i32>> {
    numbers_in(&directory.text("status")?)
}

/// The same from the text of its status.
pub(super) fn numbers_in(status: &str) -> Result<Vec<i32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.and_then(|line| line.split_whitespace().map(|word| word.parse().ok()).collect());
    numbers.ok_or_else(|| Error::Unsupported("this kernel's /proc/PID/status lacks NSpid".into()))
}

fn depth(numbers: &[i32]) -> usize {
    numbers.len().saturating_sub(1)
}

fn identity(file: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let status = status::of(file).map_err(Error::system("looking at", "a pid namespace"))?;
    Ok((status.st_dev, status.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process in a pid namespace of its own below ours, or two below; killed when dropped.
    struct Inside(Child);

    impl Inside {
        fn start(levels: usize) -> Self {
            let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
            let words: Vec<_> = std::iter::repeat_n(unshare, levels).flatten().chain(["cat"]).collect();
            let mut command = Command::new(words[0]);
            Self(command.args(&words[1..]).stdin(Stdio::piped()).spawn().unwrap())
        }

        /// The last of its line, and its numbers from ours to its own.
        fn innermost(&self, levels: usize) -> (Pid, Vec<i32>) {
            let mut pid = self.0.id().to_string();
            for _ in 0..levels {
                let path = format!("/proc/{pid}/task/{pid}/children");
                pid = loop {
                    let children = std::fs::read_to_string(&path).unwrap();
                    if let Some(child) = children.split_whitespace().next() {
                        break child.to_owned();
                    }
                    std::thread::yield_now();
                };
            }
            let pid = Pid::from_raw(pid.parse().unwrap());
            (pid, numbers_of(&ProcDirectory::open(pid).unwrap()).unwrap())
        }
    }

    impl Drop for Inside {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn in_our_own_namespace_a_number_is_what_it_is() {
        let ours = PidNamespace::of(nix::unistd::getpid()).unwrap();
        let own = nix::unistd::getpid();
        assert_eq!(ours.find(own.as_raw()), Some(own));
        assert!(ours.names(own, own.as_raw()) && !ours.names(own, own.as_raw() + 1));
    }

    #[test]
    fn a_process_below_is_found_by_its_number_there_and_by_that_of_each_namespace_between() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let inside = Inside::start(2);
        let (outer, numbers) = inside.innermost(1);
        assert_eq!(numbers.len(), 2);
        let (innermost, all) = inside.innermost(2);
        assert_eq!((all.len(), all[2]), (3, 1));
        let [upper, lower] = [outer, innermost].map(|pid| PidNamespace::of(pid).unwrap());
        assert_eq!((upper.depth, lower.depth), (1, 2));
        // by the kernel's own call, where there is one, and by a walk
        for find in [PidNamespace::find, PidNamespace::search] {
            assert_eq!(find(&lower, 1), Some(innermost));
            assert_eq!(find(&upper, all[1]), Some(innermost));
            assert_eq!(find(&upper, 1), Some(outer));
            for namespace in [&upper, &lower] {
                assert_eq!(find(namespace, i32::MAX), None);
                assert_eq!(find(namespace, std::process::id().try_into().unwrap()), None);
            }
        }
        assert!(upper.names(innermost, all[1]) && !lower.names(outer, 1) && !upper.names(innermost, 1));
    }

    #[test]
    fn the_same_number_in_another_namespace_is_another_process() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let both = [Inside::start(1), Inside::start(1)].map(|inside| (inside.innermost(1).0, inside));
        let [(first, _), (second, _)] = &both;
        let namespaces = [first, second].map(|pid| PidNamespace::of(*pid).unwrap());
        assert!(namespaces[0].names(*first, 1) && !namespaces[0].names(*second, 1));
        for (namespace, expected) in namespaces.iter().zip([first, second]) {
            assert_eq!((namespace.find(1), namespace.search(1)), (Some(*expected), Some(*expected)));
        }
    }

    #[test]
    fn a_namespace_below_ours_is_noticed() {
        let inside = Inside::start(1);
        let _ = inside.innermost(1);
        assert!(!PidNamespace::of(Pid::this()).unwrap().has_everybody());
    }
}
