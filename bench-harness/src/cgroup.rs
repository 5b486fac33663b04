//! [`MemoryGroup`]: a memory cgroup, so that page cache and mapped files count as an engine's memory.
//!
//! A cache setting bounds what an engine keeps for itself; what the kernel caches of its files it
//! does not see. In a cgroup of one size for all engines both compete for the same bytes. The run
//! joins its group when its data are generated, right before it opens the engine: only what is
//! allocated from then on counts. Both versions of cgroups are known; where none may be made (no
//! right to, no memory controller), runs are not confined, and the report says so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ferrokit_engine::{Error, Result};

/// Memory beyond the budget for what no cache setting covers (indexes, filters, stacks, code): a
/// quarter of the budget and this.
const SPARE_BYTES: u64 = 64 << 20;

/// The size of the group of an engine with a budget of `memory_bytes` for caches and buffers.
pub fn limit_bytes(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_add(memory_bytes / 4).saturating_add(SPARE_BYTES)
}

/// A memory cgroup; removed when it is dropped, by which time its processes must be gone.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
}

/// Where the memory cgroup of this process is, and which version it is of.
struct Hierarchy {
    own: PathBuf,
    is_unified: bool,
}

impl MemoryGroup {
    /// Makes one that holds `limit_bytes`.
    ///
    /// # Errors
    /// `Io` where that is not possible.
    pub fn create(limit_bytes: u64) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let hierarchy = Hierarchy::find()?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ferrokit-bench-{}-{number}", std::process::id());
        let path = hierarchy.own.join(name);
        std::fs::DirBuilder::new()
            .create(&path)
            .map_err(|error| Error::io("bench.cgroup", error).with_file(&path.to_string_lossy()))?;
        let group = Self { path };
        let limit = limit_bytes.to_string();
        if hierarchy.is_unified {
            write(&group.path.join("memory.max"), &limit)?;
            // No swap; where there is none, there is no such file.
            let _ = write(&group.path.join("memory.swap.max"), "0");
        } else {
            write(&group.path.join("memory.limit_in_bytes"), &limit)?;
            let _ = write(&group.path.join("memory.swappiness"), "0");
        }
        Ok(group)
    }

    /// Its name, for [`join`].
    pub fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Whether a process was killed because the group was full.
    pub fn was_exhausted(&self) -> bool {
        ["memory.events", "memory.oom_control"].iter().any(|file| {
            let text = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
            let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            kills.is_some_and(|kills| kills.trim() != "0")
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group that is still in use stays behind; nobody else minds.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Moves this process into the group of that name.
///
/// # Errors
/// `Io`.
pub fn join(name: &str) -> Result<()> {
    write(&Path::new(name).join("cgroup.procs"), &std::process::id().to_string())
}

impl Hierarchy {
    fn find() -> Result<Self> {
        let failed = |error| Error::io("bench.cgroup", error);
        let text = std::fs::read_to_string("/proc/self/cgroup").map_err(failed)?;
        let own = |matches: &dyn Fn(&str) -> bool| {
            text.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                matches(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        if let Some(path) = own(&|list| list.split(',').any(|name| name == "memory")) {
            let own = Path::new("/sys/fs/cgroup/memory").join(path);
            return Ok(Self { own, is_unified: false });
        }
        match own(&str::is_empty) {
            Some(path) => {
                Ok(Self { own: Path::new("/sys/fs/cgroup").join(path), is_unified: true })
            }
            None => Err(failed(std::io::Error::other("there is no memory cgroup"))),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::io("bench.cgroup", error).with_file(&path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_there_until_it_is_dropped() {
        let Ok(group) = MemoryGroup::create(limit_bytes(64 << 20)) else {
            println!("no memory cgroup may be made here");
            return;
        };
        let path = PathBuf::from(group.name());
        assert!(path.join("cgroup.procs").is_file());
        assert!(!group.was_exhausted());
        drop(group);
        assert!(!path.exists());
    }

    #[test]
    fn the_limit_leaves_room_beyond_the_budget() {
        assert_eq!(limit_bytes(256 << 20), (320 + 64) << 20);
        assert_eq!(limit_bytes(u64::MAX), u64::MAX);
    }
}
