//! What ferrokit engines stand on: files, the log, block codecs, persistent memory, background
//! jobs. Everything is reached through traits that a [`Host`] bundles, so that a test can put a
//! simulated machine under an engine.
//!
//! | module | subject |
//! |---|---|
//! | [`fs`] | the traits [`Fs`] and [`File`]: what a file system gives |
//! | [`background`] | named maintenance jobs |
//! | [`sim`] | the simulated machine: files, time, jobs, faults and crashes in memory |
//! | [`pmem`] | [`Pmem`]: persistent memory |
//! | [`host`] | [`Host`]: environment, files and jobs together |

pub mod background;
pub mod fs;
pub mod host;
pub mod pmem;
pub mod sim;

pub use background::{Background, Job, JobHandle, Progress};
pub use fs::{DirEntry, DirLock, File, Fs, Mapping, OpenMode};
pub use host::Host;
pub use pmem::{Pmem, PmemKind, PmemProvider, PmemRegion};
