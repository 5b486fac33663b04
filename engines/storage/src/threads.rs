//! [`ThreadsFs`]: files on a bounded pool of I/O threads.
//!
//! Works wherever there are files, and is chosen by itself where io_uring is refused. A read of
//! bytes that are in the page cache is answered on the caller's thread (`preadv2` with
//! `RWF_NOWAIT`); everything else becomes a task of the pool.
//!
//! Invariants: tasks own their buffers and keep their file open; the queue is bounded, and where it
//! is full an operation waits for room in its own future, holding up nobody.
//!
//! Thread-safety: any thread may use any file. Operations on one file run in any order unless one
//! is awaited before the next is begun.

mod file;
pub(crate) mod pool;

use std::sync::Arc;

use ferrokit_engine::{Env, Result};

use self::file::ThreadsFile;
use self::pool::Pool;
use crate::dir_lock::FlockDirLock;
use crate::fs::{DirEntry, DirLock, File, Fs, OpenMode};
use crate::posix::namespace;

/// The size of a [`ThreadsFs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadsOptions {
    /// I/O threads: operations that are at the device at once.
    pub threads: usize,
    /// Operations queued for a thread. Further ones wait in their futures.
    pub queue_len: usize,
    /// Whether a read is first tried on the caller's thread, where it is answered if the page cache
    /// has it all. Without that every read goes through a thread, for comparison.
    pub reads_cached_inline: bool,
}

impl Default for ThreadsOptions {
    fn default() -> Self {
        Self { threads: 8, queue_len: 256, reads_cached_inline: true }
    }
}

/// The file system of the machine, on a pool of threads.
pub struct ThreadsFs {
    pool: Arc<Pool>,
    reads_cached_inline: bool,
}

impl ThreadsFs {
    /// A file system with a pool of its own. Dropping the last of it and its files waits for the
    /// operations that were begun.
    ///
    /// # Errors
    /// `InvalidArgument` for a pool of no threads or no queue, `Io` if no threads are to be had.
    pub fn new(env: &Env, options: ThreadsOptions) -> Result<Self> {
        let pool = Pool::start(env, "ferrokit-io", options.threads, options.queue_len)?;
        Ok(Self { pool, reads_cached_inline: options.reads_cached_inline })
    }
}

impl Fs for ThreadsFs {
    fn backend(&self) -> &'static str {
        "threads"
    }
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>> {
        let descriptor = namespace::open(path, mode, self.reads_cached_inline)?;
        Ok(Arc::new(ThreadsFile::new(descriptor, Arc::clone(&self.pool))))
    }
    fn create_like(&self, path: &str, like: &str) -> Result<Arc<dyn File>> {
        let descriptor = namespace::create_like(path, like, self.reads_cached_inline)?;
        Ok(Arc::new(ThreadsFile::new(descriptor, Arc::clone(&self.pool))))
    }
    fn create_dir_all(&self, path: &str) -> Result<()> {
        namespace::create_dir_all(path)
    }
    fn list(&self, path: &str) -> Result<Vec<DirEntry>> {
        namespace::list(path)
    }
    fn exists(&self, path: &str) -> Result<bool> {
        namespace::exists(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        namespace::rename(from, to)
    }
    fn hard_link(&self, from: &str, to: &str) -> Result<()> {
        namespace::hard_link(from, to)
    }
    fn remove_file(&self, path: &str) -> Result<()> {
        namespace::remove_file(path)
    }
    fn remove_dir_all(&self, path: &str) -> Result<()> {
        namespace::remove_dir_all(path)
    }
    fn sync_dir(&self, path: &str) -> Result<()> {
        namespace::sync_dir(path)
    }
    fn lock_dir(&self, path: &str) -> Result<Box<dyn DirLock>> {
        Ok(Box::new(FlockDirLock::acquire(path)?))
    }
}
