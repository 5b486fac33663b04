//! Persistent memory: mapped bytes, and the steps that make stores to them survive.
//!
//! A store to persistent memory reaches the medium when its cache line is written back: by
//! [`Pmem::flush`] and a [`Pmem::fence`] after it, or at any moment before, by itself. What may be
//! assumed after a crash, on every backend:
//!
//! - a line that was flushed, and fenced by the thread that flushed it, is there;
//! - every other line holds one of the states it went through since, as a whole: stores to one
//!   line become persistent in program order, stores to different lines in any order;
//! - an aligned 8-byte store is never torn.
//!
//! | backend | memory | a fence |
//! |---|---|---|
//! | [`FilePmem`] | a shared mapping of a file | `msync` of the pages flushed; a failure poisons |
//! | [`EmulatedPmem`] | anonymous memory | `clwb`, `clflushopt` or `clflush`, then `sfence` |
//! | [`ShadowPmem`] | two images, volatile and persisted | moves lines from one image to the other |
//!
//! Engines go through [`PmemRegion`], the typed accessors over a backend. Accesses are atomic
//! words, so that racing readers and writers are defined, and so that the shadow backend sees
//! every store.

mod emulated;
mod file;
#[expect(unsafe_code, reason = "instructions of the CPU")]
mod intrinsics;
#[expect(unsafe_code, reason = "memory mappings")]
mod mapped;
mod provider;
#[expect(unsafe_code, reason = "words and bytes by address")]
mod raw;
mod region;
mod shadow;

use std::sync::atomic::AtomicU64;

use ferrokit_engine::Result;

pub use emulated::EmulatedPmem;
pub use file::FilePmem;
pub use intrinsics::WriteBack;
pub use provider::{EmulatedProvider, FileProvider, PmemProvider, ShadowProvider};
pub use region::PmemRegion;
pub use shadow::{CrashState, ShadowEvent, ShadowPmem, ShadowTrace, Survival};

/// The unit in which stores become persistent.
pub const CACHE_LINE_BYTES: u64 = 64;

/// The unit of atomic access.
pub const WORD_BYTES: u64 = 8;

/// Which backend a region lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PmemKind {
    /// A mapped file, made durable by `msync`.
    File,
    /// Anonymous memory with real cache-line write-back: for speed work. Nothing survives the
    /// process.
    Emulated,
    /// A simulation that keeps the volatile and the persisted image apart.
    Shadow,
}

/// A region of persistent memory. Offsets are in bytes from its start.
///
/// The region has its full length from the beginning, as address space; [`grow`](Self::grow)
/// gives it the space behind. A new region reads as zeros.
pub trait Pmem: Send + Sync {
    /// Which backend this is.
    fn kind(&self) -> PmemKind;

    /// The region as atomic words, at one address for as long as the backend lives.
    fn words(&self) -> &[AtomicU64];

    /// The backend as an observer, where it must see every store.
    fn observer(&self) -> Option<&dyn StoreObserver>;

    /// Makes sure that there is space behind the first `bytes`. To be called before anything is
    /// stored there.
    ///
    /// # Errors
    /// `OutOfSpace` beyond the region's length or the device's space; `Io`.
    fn grow(&self, bytes: u64) -> Result<()>;

    /// Starts the write-back of the lines that `offset .. offset + len` touches.
    ///
    /// # Panics
    /// If the range leaves the region.
    fn flush(&self, offset: u64, len: u64);

    /// Completes when the lines this thread flushed are persistent.
    ///
    /// # Errors
    /// `Io` if the device failed; from then on `Poisoned`, since what was flushed may be lost.
    fn fence(&self) -> Result<()>;

    /// Stores words past the cache (non-temporal stores where the CPU has them) and flushes them;
    /// persistent after the next [`fence`](Self::fence). Nobody else may access them until then.
    ///
    /// # Panics
    /// If the range leaves the region.
    fn stream(&self, first_word: usize, values: &[u64]);
}

/// A backend that sees every store, in the order in which they take effect.
pub trait StoreObserver: Send + Sync {
    /// Stores a word.
    fn store(&self, word: usize, value: u64);

    /// Stores `new` if the word is `current`; answers the word before, as `Err` if it differed.
    ///
    /// # Errors
    /// The word found, if it is not `current`.
    fn compare_exchange(&self, word: usize, current: u64, new: u64) -> Result<u64, u64>;
}

/// The lines that a range of bytes touches, as line numbers.
fn lines(offset: u64, len: u64) -> std::ops::Range<u64> {
    if len == 0 {
        return 0..0;
    }
    offset / CACHE_LINE_BYTES..(offset + len).div_ceil(CACHE_LINE_BYTES)
}
