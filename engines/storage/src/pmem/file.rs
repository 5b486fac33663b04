//! [`FilePmem`]: a mapped file, correct on any disk.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Error, ErrorKind, Result};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::emulated::{check_growth, whole_pages};
use super::mapped::{MappedWords, page_bytes};
use super::{Pmem, PmemKind, StoreObserver, WORD_BYTES};

/// A shared mapping of a file. `flush` notes the pages touched; `fence` writes them with `msync`
/// and waits for the device. Blocks its caller: for recovery and maintenance threads.
///
/// Exclusive: the file is locked for as long as it is open.
///
/// Lock order: `syncing`, then `flushed`. A fence holds `syncing` while it writes, so that no
/// other fence answers before pages that it left to this one are on the device.
pub struct FilePmem {
    mapping: MappedWords,
    file: File,
    path: String,
    page_bytes: u64,
    flushed: Mutex<BTreeSet<u64>>,
    syncing: Mutex<Syncing>,
}

#[derive(Default)]
struct Syncing {
    failure: Option<Error>,
    #[cfg(test)]
    fail_next: bool,
}

impl FilePmem {
    /// Maps `bytes` (rounded up to pages) of the file at `path`, which is created if absent. An
    /// existing file keeps its content and is never shortened.
    ///
    /// # Errors
    /// `Locked` if the file is open elsewhere, `InvalidArgument` for an impossible length, `Io`.
    pub fn open(path: &str, bytes: u64) -> Result<Self> {
        let operation = "pmem.open";
        let failed = |error: io::Error| Error::io(operation, error).with_file(path);
        let bytes = whole_pages(operation, bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                return Error::new(ErrorKind::Locked, operation, "the region is open elsewhere")
                    .with_file(path);
            }
            failed(error.into())
        })?;
        let present = file.metadata().map_err(failed)?.len();
        let bytes = whole_pages(operation, present.max(bytes as u64))?;
        if present < bytes as u64 {
            file.set_len(bytes as u64).map_err(failed)?;
        }
        // The length; and what a process before this one has stored and never fenced, which reads
        // show from now on.
        file.sync_all().map_err(failed)?;
        // The name: fences that succeed are worth nothing if the file can vanish.
        crate::posix::namespace::sync_parent(path)?;
        let mapping = MappedWords::shared(&file, bytes).map_err(failed)?;
        Ok(Self {
            mapping,
            file,
            path: path.to_owned(),
            page_bytes: page_bytes(),
            flushed: Mutex::default(),
            syncing: Mutex::default(),
        })
    }

    fn sync_pages(&self, syncing: &mut Syncing, first: u64, pages: u64) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut syncing.fail_next) {
            return Err(io::Error::other("injected"));
        }
        let _ = syncing;
        self.mapping.sync((first * self.page_bytes) as usize, (pages * self.page_bytes) as usize)
    }
}

impl Pmem for FilePmem {
    fn kind(&self) -> PmemKind {
        PmemKind::File
    }

    fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        None
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        check_growth(self.words(), bytes)?;
        // Space taken now is an error here; taken by a store it would be a SIGBUS there.
        fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes)
            .map_err(|error| Error::io("pmem.grow", error.into()).with_file(&self.path))
    }

    fn flush(&self, offset: u64, len: u64) {
        assert!(
            offset
                .checked_add(len)
                .is_some_and(|end| end <= self.words().len() as u64 * WORD_BYTES),
            "flush of {offset}+{len} leaves the region"
        );
        if len > 0 {
            let pages = offset / self.page_bytes..(offset + len).div_ceil(self.page_bytes);
            locked(&self.flushed).extend(pages);
        }
    }

    fn fence(&self) -> Result<()> {
        let mut syncing = locked(&self.syncing);
        if let Some(failure) = &syncing.failure {
            return Err(failure.clone().into_poison());
        }
        let pages = std::mem::take(&mut *locked(&self.flushed));
        for (first, count) in runs(&pages) {
            if let Err(error) = self.sync_pages(&mut syncing, first, count) {
                let failure = Error::io("pmem.fence", error)
                    .with_file(&self.path)
                    .with_offset(first * self.page_bytes);
                syncing.failure = Some(failure.clone());
                return Err(failure);
            }
        }
        Ok(())
    }

    fn stream(&self, first_word: usize, values: &[u64]) {
        // The page cache is the medium's buffer: storing past the CPU's cache would gain nothing.
        for (word, value) in self.words()[first_word..].iter().zip(values) {
            word.store(*value, std::sync::atomic::Ordering::Release);
        }
        let bytes = WORD_BYTES * values.len() as u64;
        self.flush(first_word as u64 * WORD_BYTES, bytes);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runs of consecutive pages, as first page and count.
fn runs(pages: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == page => *count += 1,
            _ => runs.push((page, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmem::PmemRegion;
    use crate::pmem::provider::tests::ScratchDir;
    use std::sync::Arc;

    #[test]
    fn what_was_persisted_is_there_after_reopening() {
        let dir = ScratchDir::new("file-reopen");
        let path = dir.path("region");
        let region = PmemRegion::new(Arc::new(FilePmem::open(&path, 100_000).unwrap()));
        region.grow(100_000).unwrap();
        region.write(4096, b"persistent bytes");
        region.persist(4096, 16).unwrap();
        let error = FilePmem::open(&path, 100_000).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Locked);
        let len_bytes = region.len_bytes();
        drop(region);
        // A shorter wish does not cut the file.
        let region = PmemRegion::new(Arc::new(FilePmem::open(&path, 1).unwrap()));
        assert_eq!(region.len_bytes(), len_bytes);
        let mut out = [0; 16];
        region.read(4096, &mut out);
        assert_eq!(&out, b"persistent bytes");
    }

    #[test]
    fn a_fence_writes_what_was_flushed_and_nothing_twice() {
        let dir = ScratchDir::new("file-pages");
        let pmem = FilePmem::open(&dir.path("region"), 1 << 20).unwrap();
        pmem.flush(10, 1);
        pmem.flush(pmem.page_bytes - 1, 2);
        pmem.flush(5 * pmem.page_bytes, 1);
        assert_eq!(runs(&locked(&pmem.flushed)), [(0, 2), (5, 1)]);
        pmem.fence().unwrap();
        assert!(locked(&pmem.flushed).is_empty());
    }

    #[test]
    fn a_failed_sync_poisons() {
        let dir = ScratchDir::new("file-poison");
        let pmem = FilePmem::open(&dir.path("region"), 1 << 16).unwrap();
        locked(&pmem.syncing).fail_next = true;
        pmem.flush(0, 8);
        assert_eq!(pmem.fence().unwrap_err().kind(), ErrorKind::Io);
        for _ in 0..2 {
            let error = pmem.fence().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned);
            assert!(error.to_string().contains("injected"), "{error}");
        }
    }
}
