//! What a run costs: processor time, resident memory, bytes on disk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::raw;

/// The unit of `st_blocks`, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// Processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuTime {
    /// In the program, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub system_ns: u64,
}

impl CpuTime {
    /// Of this process so far, all threads.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of_process() -> io::Result<Self> {
        let (user_ns, system_ns) = raw::process_times_ns()?;
        Ok(Self { user_ns, system_ns })
    }

    /// What was used after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
}

/// Resident memory of this process in bytes.
///
/// # Errors
/// Those of reading `/proc/self/statm`.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm has another form"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Bytes allocated to the files under `directory`; 0 if it is not there. Files that go away
/// meanwhile do not count.
///
/// # Errors
/// Those of the file system.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let path = entry?.path();
            let Some(metadata) = unless_gone(std::fs::symlink_metadata(&path))? else { continue };
            if metadata.is_dir() {
                directories.push(path);
            } else {
                bytes += metadata.blocks() * BLOCK_BYTES;
            }
        }
    }
    Ok(bytes)
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let before = CpuTime::of_process().unwrap();
        let mut sum = 0_u64;
        while CpuTime::of_process().unwrap().since(before).user_ns < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        assert!(CpuTime::of_process().unwrap().since(before).user_ns >= 1_000_000);
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = resident_bytes().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident_bytes().unwrap();
        assert!(after >= before + (48 << 20), "{before} {after}");
        drop(touched);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "real files are what is counted")]
    fn files_count_with_what_is_allocated_to_them() {
        let directory =
            std::env::temp_dir().join(format!("ferrokit-bench-usage-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("inner")).unwrap();
        std::fs::write(directory.join("inner/file"), vec![1; 1 << 20]).unwrap();
        let sparse = std::fs::File::create(directory.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        sparse.sync_all().unwrap();
        std::fs::File::open(directory.join("inner/file")).unwrap().sync_all().unwrap();
        let bytes = disk_bytes(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(((1 << 20)..(2 << 20)).contains(&bytes), "{bytes}");
        assert_eq!(disk_bytes(&directory).unwrap(), 0);
    }
}
