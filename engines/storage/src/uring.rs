//! [`UringFs`]: files through io_uring.
//!
//! Two ways to a ring:
//! - a thread that has [registered](crate::Fs::register_thread) has a ring of its own: what it
//!   begins is pushed there without a system call, goes to the kernel in batches, and is completed
//!   by the thread itself, between its other work ([`ThreadRing`]);
//! - everything else goes through a bounded queue to one shared ring and its thread, which takes
//!   what has queued up in one batch.
//!
//! A read of bytes that are in the page cache needs neither: it is answered on the caller's thread.
//!
//! Invariants: buffers and descriptors belong to the ring from the push to the completion, whatever
//! becomes of the future; a ring never has more operations under way than its completion queue
//! holds, so that none overflows. Short reads and writes go on where they stopped.
//!
//! Thread-safety: any thread may use any file. Operations on one file run in any order unless one
//! is awaited before the next is begun.

mod event;
mod file;
mod request;
mod ring;
mod shared;
mod thread_ring;

pub use thread_ring::ThreadRing;

use std::sync::Arc;

use ferrokit_engine::{Env, Error, ErrorKind, Result};

use self::file::UringFile;
use self::shared::Shared;
use crate::dir_lock::FlockDirLock;
use crate::fs::{DirEntry, DirLock, File, Fs, OpenMode, ThreadIo};
use crate::posix::namespace;

/// The size of a [`UringFs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringOptions {
    /// Operations under way on the shared ring. A power of two, 2 to 4096.
    pub shared_entries: u32,
    /// Operations under way on the ring of a registered thread. A power of two, 2 to 4096.
    pub thread_entries: u32,
    /// Operations queued for the shared ring. Further ones wait in their futures.
    pub queue_len: usize,
    /// Whether a read is first tried on the caller's thread, where it is answered if the page cache
    /// has it all. Without that every read goes through a ring, for comparison.
    pub reads_cached_inline: bool,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { shared_entries: 256, thread_entries: 128, queue_len: 256, reads_cached_inline: true }
    }
}

/// The file system of the machine, through io_uring.
pub struct UringFs {
    shared: Arc<Shared>,
}

impl UringFs {
    /// A file system with a shared ring of its own. Dropping the last of it and its files waits for
    /// the operations that were begun.
    ///
    /// # Errors
    /// `Unsupported` where the kernel or a security policy refuses io_uring, or it lacks an
    /// operation; `InvalidArgument` for sizes out of range; `Io` if no thread is to be had.
    pub fn new(env: &Env, options: UringOptions) -> Result<Self> {
        for entries in [options.shared_entries, options.thread_entries] {
            if !entries.is_power_of_two() || !(2..=4096).contains(&entries) {
                return Err(Error::invalid(
                    "uring.start",
                    format!("a ring of {entries} entries: powers of two from 2 to 4096"),
                ));
            }
        }
        if options.queue_len == 0 {
            return Err(Error::invalid("uring.start", "a queue of no length"));
        }
        Ok(Self { shared: Shared::start(env, options)? })
    }
}

/// A refused ring.
#[cold]
fn refused(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "uring.start",
        "io_uring is refused here (by the kernel, or by a security policy such as that of a \
         container); use the threads backend",
    )
    .with_source(error)
}

impl Fs for UringFs {
    fn backend(&self) -> &'static str {
        "uring"
    }
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>> {
        let descriptor = namespace::open(path, mode, self.shared.options.reads_cached_inline)?;
        Ok(Arc::new(UringFile::new(descriptor, Arc::clone(&self.shared))))
    }
    fn create_like(&self, path: &str, like: &str) -> Result<Arc<dyn File>> {
        let reads_cached_inline = self.shared.options.reads_cached_inline;
        let descriptor = namespace::create_like(path, like, reads_cached_inline)?;
        Ok(Arc::new(UringFile::new(descriptor, Arc::clone(&self.shared))))
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
    fn register_thread(&self) -> Result<Option<Box<dyn ThreadIo>>> {
        Ok(Some(Box::new(ThreadRing::register(&self.shared)?)))
    }
}
