//! The table: Dash extendible hashing (Lu, Hao, Wang, Lo, "Dash: Scalable Hashing on Persistent
//! Memory", VLDB 2020) over a region.
//!
//! | module | subject |
//! |---|---|
//! | [`layout`] | offsets and sizes |
//! | [`lock`] | version locks and the lock order |
//! | [`bucket`], [`segment`], [`directory`] | the structure |
//! | [`modify`], [`batch`], [`split`] | what changes it |
//! | [`purge`] | collecting the dead |
//! | [`recovery`] | from an image to a table |
//!
//! Readers are optimistic and lock nothing; writers latch buckets. A latch is held until what was
//! published under it is persistent: so no reader ever answers with what a crash could take back.

pub(crate) mod batch;
pub(crate) mod bucket;
pub(crate) mod directory;
pub(crate) mod layout;
pub(crate) mod lock;
pub(crate) mod modify;
pub(crate) mod purge;
pub(crate) mod recovery;
pub(crate) mod segment;
mod split;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::Guard;
use ferrokit_engine::{Result, UnixMillis};
use ferrokit_storage::PmemRegion;

use crate::alloc::Allocator;
use crate::hash::KeyHash;
use crate::record::{self, Probe, RecordHeader, RecordView, record_bytes};
use bucket::SlotWord;
use directory::Directory;
use lock::{Version, VersionLock};
use segment::{Identity, Segment};

/// A hash table in a region.
pub(crate) struct Table {
    region: PmemRegion,
    seed: u64,
    directory: Directory,
    alloc: Allocator,
    segments: AtomicU64,
    retries: AtomicU64,
}

/// What the table asks about records whose time may be over.
pub(crate) trait Liveness {
    /// Whether the record means nothing any more.
    fn is_dead(&self, header: &RecordHeader) -> bool;

    /// A dead record was dropped.
    fn dropped(&self, header: &RecordHeader);
}

/// A read that was consistent, and what tells whether it still is.
#[derive(Clone, Copy)]
pub(crate) struct Found<'g> {
    pub(crate) view: Option<RecordView<'g>>,
    lock: VersionLock<'g>,
    version: Version,
}

impl Found<'_> {
    /// Whether nothing changed at this key's bucket since it was read.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.lock.validate(self.version)
    }
}

/// A record that is persistent and not yet published; freed unless it will be.
pub(crate) struct Prepared<'t> {
    alloc: &'t Allocator,
    at: u64,
    bytes: u64,
}

impl Prepared<'_> {
    /// Gives up a record that was published and taken back: readers may have seen it.
    fn retire(self, pinned: &Guard) {
        self.alloc.retire(pinned, self.at, self.bytes);
        std::mem::forget(self);
    }

    /// The slot that publishes the record.
    fn publish(self, hash: KeyHash) -> SlotWord {
        let word = SlotWord::new(hash, self.at);
        std::mem::forget(self);
        word
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.alloc.free(self.at, self.bytes);
    }
}

impl Table {
    /// The hash of a key in this table.
    #[inline]
    pub(crate) fn hash(&self, space: crate::keyspaces::SpaceWord, key: &[u8]) -> KeyHash {
        KeyHash::new(self.seed, space, key)
    }

    /// Reads a key.
    #[inline]
    pub(crate) fn read<'g>(&'g self, probe: &Probe<'_>, pinned: &'g Guard) -> Found<'g> {
        let mut attempt = 0;
        loop {
            let segment = self.directory.segment(probe.hash, pinned);
            let home = segment.bucket(probe.hash.home());
            let lock = home.lock();
            let version = lock.read_begin();
            if Identity::from_word(home.identity()).holds(probe.hash) {
                let view = segment.find(probe, pinned).map(|(_, view)| view);
                if lock.validate(version) {
                    return Found { view, lock, version };
                }
            }
            // Written meanwhile, or split.
            self.retries.fetch_add(1, Ordering::Relaxed);
            lock::pause(attempt);
            attempt = attempt.saturating_add(1);
        }
    }

    /// Asks for the bucket of a hash.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, hash: KeyHash, pinned: &Guard) {
        self.directory.segment(hash, pinned).bucket(hash.home()).prefetch();
    }

    /// Asks for the record of a hash, by what its bucket says.
    #[inline]
    pub(crate) fn prefetch_record(&self, hash: KeyHash, pinned: &Guard) {
        self.directory.segment(hash, pinned).prefetch_record(hash);
    }

    /// The entries of the home bucket `home` in the segment that holds `hash`, and that segment's
    /// identity; consistent with each other.
    pub(crate) fn read_home<'g>(
        &'g self,
        hash: KeyHash,
        home: usize,
        pinned: &'g Guard,
        entries: &mut Vec<RecordView<'g>>,
    ) -> Identity {
        let mut located = Vec::new();
        loop {
            let segment = self.directory.segment(hash, pinned);
            let bucket = segment.bucket(home);
            let lock = bucket.lock();
            let version = lock.read_begin();
            let identity = Identity::from_word(bucket.identity());
            located.clear();
            segment.entries_of(home, pinned, &mut located);
            if lock.validate(version) && identity.holds(hash) {
                entries.clear();
                entries.extend(located.iter().map(|(_, view)| *view));
                return identity;
            }
        }
    }

    /// Writes a record that nobody sees yet.
    pub(crate) fn prepare(
        &self,
        probe: &Probe<'_>,
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<Prepared<'_>> {
        let bytes = record_bytes(probe.key.len(), value.len());
        let at = self.alloc.allocate(bytes)?;
        let prepared = Prepared { alloc: &self.alloc, at, bytes };
        record::write(&self.region, at, probe, value, expire_at)?;
        Ok(prepared)
    }

    pub(crate) fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    pub(crate) fn directory_depth(&self) -> u32 {
        self.directory.root().depth
    }

    pub(crate) fn read_retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn taken_bytes(&self) -> u64 {
        self.alloc.taken_bytes()
    }

    /// Records and directories retired and not yet free.
    pub(crate) fn retired(&self) -> usize {
        self.alloc.retired()
    }

    /// See [`Allocator::settle`].
    pub(crate) fn settle(&self, target: usize, own: bool) {
        self.alloc.settle(target, own);
    }

    fn segment_at(&self, at: u64) -> Segment<'_> {
        Segment::new(&self.region, at)
    }

    fn retire(&self, pinned: &Guard, view: &RecordView<'_>) {
        self.alloc.retire(pinned, view.at(), view.header.record_bytes());
    }
}
