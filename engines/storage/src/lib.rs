//! What ferrokit engines stand on: files, the log, block codecs, persistent memory, background
//! jobs. Everything is reached through traits that a [`Host`] bundles, so that a test can put a
//! simulated machine under an engine.
//!
//! | module | subject |
//! |---|---|
//! | [`fs`] | the traits [`Fs`] and [`File`]: what a file system gives |
//! | [`threads`] | [`ThreadsFs`]: files on a pool of I/O threads |
//! | `uring` | `UringFs`: files through io_uring (Linux) |
//! | [`atomic_file`] | replacing a file atomically |
//! | [`codec`] | [`BlockCodec`]: blocks compressed, encrypted, checksummed |
//! | [`background`] | named maintenance jobs |
//! | [`sim`] | the simulated machine: files, time, jobs, faults and crashes in memory |
//! | [`pmem`] | [`Pmem`]: persistent memory |
//! | [`log`] | the one logical [`Log`] of an engine, with group commit |
//! | [`commit_gate`] | what a reader must wait for before it shows what it saw |
//! | [`object`] | [`ObjectTier`]: whole objects in a directory or a cloud's store |
//! | [`Notify`] | waiting for something to have changed |
//! | [`host`] | [`Host`]: environment, files and jobs together |
//! | [`testing`] | the behaviour every [`Fs`] shares, as cases to run |

#![deny(unsafe_code)]

pub mod atomic_file;
mod atomics;
pub mod background;
mod bounded_queue;
pub mod codec;
pub mod commit_gate;
mod completion;
mod dir_lock;
pub mod fs;
pub mod host;
pub mod log;
mod notify;
pub mod object;
pub mod pmem;
mod posix;
pub mod sim;
pub mod testing;
pub mod threads;
#[cfg(target_os = "linux")]
pub mod uring;

pub use atomic_file::{remove_temporary_files, replace_file};
pub use background::{Background, Job, JobControl, JobHandle, Progress, ThreadBackground};
pub use codec::{BlockCodec, BlockContext, Compression, FileKey, KeyId, KeyRing, WrappedKey};
pub use commit_gate::CommitGate;
pub use dir_lock::LOCK_FILE_NAME;
pub use fs::{DirEntry, DirLock, File, Fs, Mapping, OpenMode, ThreadIo};
pub use host::{Host, IoBackend};
pub use log::{Appended, Log, LogConfig, LogFeed, LogPosition, LogReader};
pub use notify::Notify;
pub use object::ObjectTier;
pub use pmem::{Pmem, PmemKind, PmemProvider, PmemRegion};
pub use threads::{ThreadsFs, ThreadsOptions};
#[cfg(target_os = "linux")]
pub use uring::{UringFs, UringOptions};
