//! What a run costs: processor time, resident memory, bytes on disk.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ferrokit_engine::{Error, Result};

use crate::raw;

/// The unit of `st_blocks`, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// What this process used so far, and what it has.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time of all threads, in the program and in the kernel, in seconds.
    pub cpu_s: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// The part of it that is the process' own.
    pub anonymous_bytes: u64,
    /// The part of it that is mapped files.
    pub file_mapped_bytes: u64,
    /// Bytes that it caused to be written to storage, as the kernel counts: pages made dirty, less
    /// those that were dropped before they were written.
    pub written_bytes: u64,
    /// Bytes that it caused to be fetched from storage.
    pub read_bytes: u64,
}

impl Usage {
    /// At this moment.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub fn now() -> Result<Self> {
        Self::read().map_err(|error| Error::io("bench.usage", error))
    }

    /// Seconds of CPU time the calling thread has used.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn thread_cpu_s() -> Result<f64> {
        let times = raw::thread_times_ns().map_err(|error| Error::io("bench.usage", error))?;
        Ok((times.0 + times.1) as f64 / 1e9)
    }

    fn read() -> io::Result<Self> {
        let (user_ns, system_ns) = raw::process_times_ns()?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kilobytes = |name: &str| field(&status, name).map(|kilobytes| kilobytes << 10);
        let io = std::fs::read_to_string("/proc/self/io")?;
        let written = field(&io, "write_bytes:")?;
        let cancelled = field(&io, "cancelled_write_bytes:")?;
        Ok(Self {
            cpu_s: (user_ns + system_ns) as f64 / 1e9,
            rss_bytes: kilobytes("VmRSS:")?,
            anonymous_bytes: kilobytes("RssAnon:")?,
            file_mapped_bytes: kilobytes("RssFile:")? + kilobytes("RssShmem:")?,
            written_bytes: written.saturating_sub(cancelled),
            read_bytes: field(&io, "read_bytes:")?,
        })
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc has no {name}")))
}

/// Bytes allocated to the files under `directory`; 0 if it is not there. Files that go away
/// meanwhile do not count.
///
/// # Errors
/// Those of the file system.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    each_file(directory, |_, metadata| {
        bytes += metadata.blocks() * BLOCK_BYTES;
        Ok(())
    })?;
    Ok(bytes)
}

/// Has the kernel write what it keeps in memory of the files under `directory`, whoever changed
/// them, so that none of their pages is dirty.
///
/// # Errors
/// Those of the file system.
pub fn flush_files(directory: &Path) -> io::Result<()> {
    each_file(directory, |path, metadata| {
        // Sockets and the like have nothing to be written.
        if !metadata.is_file() {
            return Ok(());
        }
        match unless_gone(OpenOptions::new().read(true).open(path))? {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    })
}

/// Shows each file under a directory.
fn each_file(
    directory: &Path,
    mut visit: impl FnMut(&Path, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let path = entry?.path();
            let Some(metadata) = unless_gone(std::fs::symlink_metadata(&path))? else { continue };
            if metadata.is_dir() {
                directories.push(path);
            } else {
                visit(&path, &metadata)?;
            }
        }
    }
    Ok(())
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
        let before = Usage::now().unwrap();
        let mut sum = 0_u64;
        while Usage::now().unwrap().cpu_s < before.cpu_s + 0.001 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = Usage::now().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Usage::now().unwrap();
        assert!(after.rss_bytes >= before.rss_bytes + (48 << 20), "{before:?} {after:?}");
        assert!(after.anonymous_bytes >= before.anonymous_bytes + (48 << 20));
        drop(touched);
    }

    #[test]
    fn a_field_is_found_at_the_beginning_of_its_line() {
        let text = "cancelled_write_bytes: 3\nwrite_bytes: 17\n";
        assert_eq!(field(text, "write_bytes:").unwrap(), 17);
        assert!(field(text, "bytes:").is_err());
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

    #[test]
    #[expect(clippy::disallowed_methods, reason = "real files are what is counted")]
    fn a_page_that_is_dirtied_again_after_a_flush_is_written_again() {
        let directory =
            std::env::temp_dir().join(format!("ferrokit-bench-flush-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("inner")).unwrap();
        let path = directory.join("inner/file");
        let write = || std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let written = || Usage::now().unwrap().written_bytes;
        write();
        flush_files(&directory).unwrap();
        // Nothing is dirty: a flush has nothing to write, and new bytes are counted in full.
        let before = written();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, &vec![2; 1 << 20]).unwrap();
        let after = written();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(after - before >= 1 << 20, "{before} {after}");
        assert!(flush_files(&directory).is_ok(), "no directory, nothing to do");
    }
}
