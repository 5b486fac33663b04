//! [`Fs`] and [`File`]: what a file system gives an engine.
//!
//! Data operations ([`File::read_at`], [`File::write_at`], [`File::sync_data`], ...) answer an
//! [`Op`]: they never block the caller, their buffers belong to the backend while they are under
//! way, and dropping the operation is sound at any point (it still happens, or not). Namespace
//! operations (open, rename, list, ...) block and are for opening, closing and maintenance jobs.
//!
//! Paths are UTF-8 with `/` between components.

use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use ferrokit_engine::{Op, Result};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing; an existing one is an error.
    CreateNew,
    /// A file for reading and writing, created if absent, its content kept otherwise.
    OpenOrCreate,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The length of the file; 0 for a directory.
    pub bytes: u64,
}

/// An exclusive lock on a directory, released when dropped.
pub trait DirLock: Send + Sync {}

/// Read-only mapped bytes of a file.
pub trait Mapping: Deref<Target = [u8]> + Send + Sync {
    /// Says that few bytes will be read at a time, here and there: what lies around them is not
    /// worth reading with them.
    fn expect_random_reads(&self) {}
}

/// A file system.
pub trait Fs: Send + Sync {
    /// The backend's name: `uring`, `threads` or `sim`.
    fn backend(&self) -> &'static str;

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `Io`, `OutOfSpace`.
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>>;

    /// Creates a file, as [`OpenMode::CreateNew`] does, that those may read and write who may do so
    /// with the file `like`, and at no time anybody else.
    ///
    /// # Errors
    /// `NotFound` if `like` is not there; those of [`open`](Self::open).
    fn create_like(&self, path: &str, like: &str) -> Result<Arc<dyn File>>;

    /// Creates a directory and its parents, durably; existing ones are no error.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    fn create_dir_all(&self, path: &str) -> Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn list(&self, path: &str) -> Result<Vec<DirEntry>>;

    /// Whether a file or directory of that name exists.
    ///
    /// # Errors
    /// `Io`.
    fn exists(&self, path: &str) -> Result<bool>;

    /// Renames a file, replacing an existing one atomically. Durable after
    /// [`sync_dir`](Self::sync_dir) of the directory.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Gives an existing file a second name; `Unsupported` where the file system has no links.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Io`.
    fn hard_link(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file; its bytes live on until the last handle is dropped.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn remove_file(&self, path: &str) -> Result<()>;

    /// Removes a directory and everything in it; an absent one is no error.
    ///
    /// # Errors
    /// `Io`.
    fn remove_dir_all(&self, path: &str) -> Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn sync_dir(&self, path: &str) -> Result<()>;

    /// Locks a directory exclusively, across processes; never waits.
    ///
    /// # Errors
    /// `Locked` if it is locked elsewhere, `Io`.
    fn lock_dir(&self, path: &str) -> Result<Box<dyn DirLock>>;

    /// Gives the calling thread a way of its own to the device, where the backend has such a thing:
    /// what the thread begins is then completed by the thread itself (see [`ThreadIo`]). For the
    /// threads of a server; others have no need of it.
    ///
    /// # Errors
    /// `InvalidArgument` if the thread has one already, `Io`, `Unsupported` where a resource for it
    /// is refused.
    fn register_thread(&self) -> Result<Option<Box<dyn ThreadIo>>> {
        Ok(None)
    }
}

/// A thread's own way to the device. It stays on its thread.
///
/// Its descriptor is readable when there are completions: the thread's runtime polls it, and calls
/// [`drive`](Self::drive) when it is, and whenever it has begun operations that nobody polls yet.
/// Dropping it waits for the operations that are under way.
pub trait ThreadIo: AsRawFd {
    /// Submits what was begun, completes what is done, wakes the futures concerned; answers how
    /// many. Never waits.
    fn drive(&self) -> usize;
}

/// An open file.
pub trait File: Send + Sync {
    /// The path it was opened by, for messages.
    fn path(&self) -> &str;

    /// Exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// `Io` (source `UnexpectedEof` if the file ends before that).
    fn read_at(&self, offset: u64, len: usize) -> Op<'static, Vec<u8>>;

    /// Exactly `len` bytes from `offset`, on the calling thread, which is held up until they are
    /// here: where nothing else waits on it ([`may_block`](ferrokit_engine::may_block)).
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn read_now(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.read_at(offset, len).wait()
    }

    /// Writes all of `data` at `offset`, extending the file where needed, and gives the buffer
    /// back. Short writes are completed by the backend.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`. Any prefix, or any part in pieces, may have been written.
    fn write_at(&self, offset: u64, data: Vec<u8>) -> Op<'static, Vec<u8>>;

    /// Writes all of `data` at `offset` on the calling thread, which is held up for no longer than a
    /// copy into the system's cache takes: for short writes that a thread would else be woken for.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_now(&self, offset: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        self.write_at(offset, data).wait()
    }

    /// Makes the bytes written durable, and the metadata needed to read them back.
    ///
    /// # Errors
    /// `Io`. The bytes may be lost; a second call proves nothing about them.
    fn sync_data(&self) -> Op<'static, ()>;

    /// Makes bytes and all metadata durable.
    ///
    /// # Errors
    /// As [`sync_data`](Self::sync_data).
    fn sync_all(&self) -> Op<'static, ()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// `Io`.
    fn len(&self) -> Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// `Io`.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// `Io`, `OutOfSpace`.
    fn set_len(&self, len: u64) -> Op<'static, ()>;

    /// Reserves space for a range, extending the file with zeros.
    ///
    /// # Errors
    /// `OutOfSpace`, `Io`.
    fn allocate(&self, offset: u64, len: u64) -> Op<'static, ()>;

    /// Gives a range's space back; it reads as zeros. `Unsupported` where the file system cannot.
    ///
    /// # Errors
    /// `Unsupported`, `Io`.
    fn punch_hole(&self, offset: u64, len: u64) -> Op<'static, ()>;

    /// Maps a range that lies within the file, read-only. The file must not be cut short while it is
    /// mapped; what is written to it meanwhile may show or not. A device that fails under a mapping
    /// ends the process: who must survive that reads with [`read_at`](Self::read_at).
    ///
    /// # Errors
    /// `InvalidArgument` beyond the end, `Io`.
    fn map(&self, offset: u64, len: usize) -> Result<Box<dyn Mapping>>;
}
