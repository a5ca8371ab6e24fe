//! Cgroups of a test's own, of whichever version the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup that limits memory; removed when dropped, once it is empty.
#[derive(Debug)]
pub struct MemoryCgroup {
    directory: PathBuf,
    limit_file: &'static str,
}

impl MemoryCgroup {
    /// Makes one without a limit.
    ///
    /// # Panics
    /// When the machine has no memory controller that root may use.
    pub fn new(name: &str) -> Self {
        let second = Path::new("/sys/fs/cgroup");
        let first = second.join("memory");
        let (parent, limit_file) = if first.join("cgroup.procs").exists() {
            (first.as_path(), "memory.limit_in_bytes")
        } else {
            // children have the controller only if their parent hands it down
            let _ = fs::write(second.join("cgroup.subtree_control"), "+memory");
            (second, "memory.max")
        };
        let directory = parent.join(format!("memcr-tests-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("cannot make a memory cgroup");
        let cgroup = Self { directory, limit_file };
        assert!(
            cgroup.directory.join(limit_file).exists(),
            "this test needs the memory controller of cgroups in {}",
            parent.display()
        );
        cgroup
    }

    /// Moves a process into it. What it has in memory stays charged where it was.
    pub fn add(&self, pid: i32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// Limits its memory to so many bytes.
    pub fn limit(&self, bytes: u64) {
        self.write(self.limit_file, &bytes.to_string());
    }

    /// Keeps the kernel from killing `pid`, its only process, when it reaches the limit.
    pub fn let_live(&self, pid: i32) {
        let switch = self.directory.join("memory.oom_control");
        if switch.exists() {
            fs::write(switch, "1").expect("cannot switch the OOM killer off");
        } else {
            fs::write(format!("/proc/{pid}/oom_score_adj"), "-1000")
                .expect("this test needs CAP_SYS_RESOURCE to keep the OOM killer away");
        }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.directory.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("write {text} to {}: {error}", path.display()));
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// A cgroup whose processes get a part of one processor; removed when dropped, once it is empty.
#[derive(Debug)]
pub struct SlowCgroup {
    directory: PathBuf,
}

impl SlowCgroup {
    /// Makes one whose processes together get so many percent of one processor.
    ///
    /// # Panics
    /// When the machine has no cpu controller that root may use.
    pub fn new(name: &str, percent: u32) -> Self {
        let second = Path::new("/sys/fs/cgroup");
        let first = second.join("cpu");
        let is_first = first.join("cgroup.procs").exists();
        if !is_first {
            // children have the controller only if their parent hands it down
            let _ = fs::write(second.join("cgroup.subtree_control"), "+cpu");
        }
        let parent = if is_first { first.as_path() } else { second };
        let directory = parent.join(format!("memcr-tests-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("cannot make a cpu cgroup");
        let cgroup = Self { directory };
        let quota = percent * 1000;
        let (file, text) = if is_first {
            ("cpu.cfs_quota_us", quota.to_string())
        } else {
            ("cpu.max", format!("{quota} 100000"))
        };
        let limited = fs::write(cgroup.directory.join(file), text);
        limited.unwrap_or_else(|error| panic!("this test needs the cpu controller of cgroups: {error}"));
        cgroup
    }

    /// Moves a process into it; those that it forks are in it too.
    pub fn add(&self, pid: i32) {
        move_to(&self.directory, pid);
    }

    /// Gives all the processors back.
    pub fn hurry(&self) {
        let (first, second) = (self.directory.join("cpu.cfs_quota_us"), self.directory.join("cpu.max"));
        let (file, text) = if first.exists() { (first, "-1") } else { (second, "max 100000") };
        fs::write(file, text).expect("cannot give the processors back");
    }
}

impl Drop for SlowCgroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// A cgroup in the version 2 hierarchy, whose path is what policies and audit records are about; removed when
/// dropped, once it is empty.
#[derive(Debug)]
pub struct NamedCgroup {
    parent: PathBuf,
    directory: PathBuf,
}

impl NamedCgroup {
    /// Makes one.
    ///
    /// # Panics
    /// When the version 2 hierarchy isn't mounted, or root may not make a cgroup in it.
    pub fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("cannot read the mounts");
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let second = mounts.find(|words| words.get(2) == Some(&"cgroup2"));
        let second = second.expect("this test needs the version 2 hierarchy of cgroups: mount -t cgroup2");
        let parent = PathBuf::from(second[1]);
        let directory = parent.join(format!("memcr-tests-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("cannot make a cgroup");
        Self { parent, directory }
    }

    /// Moves a process into it.
    pub fn add(&self, pid: i32) {
        move_to(&self.directory, pid);
    }

    /// Moves a process out of it.
    pub fn remove(&self, pid: i32) {
        move_to(&self.parent, pid);
    }
}

impl Drop for NamedCgroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// A cgroup in the version 2 hierarchy that can be frozen; thawed and removed when dropped.
#[derive(Debug)]
pub struct Freezer(NamedCgroup);

impl Freezer {
    /// Makes one.
    ///
    /// # Panics
    /// As above.
    pub fn new(name: &str) -> Self {
        Self(NamedCgroup::new(name))
    }

    /// Moves a process into it.
    pub fn add(&self, pid: i32) {
        self.0.add(pid);
    }

    /// Stops all that is in it.
    ///
    /// # Panics
    /// When it doesn't stop.
    pub fn freeze(&self) {
        self.set("1");
        crate::wait::until("the cgroup is frozen", || {
            let events = fs::read_to_string(self.0.directory.join("cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == "frozen 1")
        });
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When root may not.
    pub fn thaw(&self) {
        self.set("0");
    }

    fn set(&self, value: &str) {
        fs::write(self.0.directory.join("cgroup.freeze"), value).expect("root may freeze a cgroup");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.directory.join("cgroup.freeze"), "0");
    }
}

/// The path of a process's cgroup in the version 2 hierarchy.
pub fn path_of(pid: i32) -> String {
    let all = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process is there");
    let path = all.lines().find_map(|line| line.strip_prefix("0::"));
    path.expect("there is a version 2 hierarchy").to_owned()
}

fn move_to(directory: &Path, pid: i32) {
    let path = directory.join("cgroup.procs");
    fs::write(&path, pid.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn remove(directory: &Path) {
    let start = std::time::Instant::now();
    // a process that has just died is in it for a moment longer
    while fs::remove_dir(directory).is_err() && start.elapsed() < crate::wait::BOUND {
        crate::wait::let_pass(std::time::Duration::from_millis(5));
    }
}
