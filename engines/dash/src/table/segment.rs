//! [`Segment`]: 64 normal buckets and 4 stash buckets.
//!
//! An entry with home *b* lies in bucket *b*, in *b + 1* (as a guest), or in the stash. Whatever
//! happens to it happens while *b* is latched: so one version, that of *b*, vouches for a read.
//! Changing which slots of a bucket are in use needs that bucket's latch, too.

use crossbeam_epoch::Guard;
use ferrokit_engine::Result;
use ferrokit_storage::PmemRegion;

use super::bucket::{Bucket, SlotWord, bits};
use super::layout::{BUCKET_BYTES, BUCKETS, NORMAL_BUCKETS, SEGMENT_HEADER_BYTES, SLOTS};
use crate::hash::KeyHash;
use crate::record::{Probe, RecordHeader, RecordView};

/// Which hashes a segment holds: those that start with `prefix`, `depth` bits long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) depth: u32,
    pub(crate) prefix: u64,
}

impl Identity {
    pub(crate) fn from_word(word: u64) -> Self {
        Self { depth: (word >> 56) as u32, prefix: word & ((1 << 56) - 1) }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.depth) << 56 | self.prefix
    }

    #[inline]
    pub(crate) fn holds(self, hash: KeyHash) -> bool {
        hash.prefix(self.depth & 63) == self.prefix
    }

    /// The lower and the upper half.
    pub(crate) fn halves(self) -> (Self, Self) {
        let depth = self.depth + 1;
        let prefix = self.prefix << 1;
        (Self { depth, prefix }, Self { depth, prefix: prefix | 1 })
    }

    /// The first hash held.
    pub(crate) fn first_hash(self) -> KeyHash {
        KeyHash(self.prefix.checked_shl(64 - self.depth).unwrap_or(0))
    }

    /// How many hashes belong to each home bucket.
    pub(crate) fn hashes_per_home(self) -> u64 {
        1 << 58_u32.saturating_sub(self.depth)
    }

    /// The first hash behind; `None` at the end of all.
    pub(crate) fn next_hash(self) -> Option<KeyHash> {
        if self.depth == 0 {
            return None;
        }
        let next = u128::from(self.prefix + 1) << (64 - self.depth);
        u64::try_from(next).ok().map(KeyHash)
    }
}

/// Where an entry lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: usize,
    pub(crate) slot: usize,
}

impl Location {
    pub(crate) fn is_stashed(self) -> bool {
        self.bucket >= NORMAL_BUCKETS
    }
}

/// A segment in a region.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    region: &'a PmemRegion,
    at: u64,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(crate) fn new(region: &'a PmemRegion, at: u64) -> Self {
        Self { region, at }
    }

    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    #[inline]
    pub(crate) fn bucket(&self, index: usize) -> Bucket<'a> {
        Bucket::new(self.region, self.at + SEGMENT_HEADER_BYTES + index as u64 * BUCKET_BYTES)
    }

    pub(crate) fn buckets(&self) -> impl Iterator<Item = Bucket<'a>> + use<'a> {
        let segment = *self;
        (0..BUCKETS).map(move |index| segment.bucket(index))
    }

    /// The persistent identity; buckets have copies for readers.
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_word(self.region.load(self.at))
    }

    /// Stores the identity and starts its write-back; the buckets' copies stay as they are.
    pub(crate) fn store_identity(&self, identity: Identity) {
        self.region.store(self.at, identity.word());
        self.region.flush(self.at, 8);
    }

    /// Finds the entry of a key.
    #[inline]
    pub(crate) fn find<'g>(
        &self,
        probe: &Probe<'_>,
        pinned: &'g Guard,
    ) -> Option<(Location, RecordView<'g>)>
    where
        'a: 'g,
    {
        let fingerprint = probe.hash.fingerprint();
        let home = self.bucket(probe.hash.home());
        let matches = home.matches(fingerprint);
        let meta = home.meta();
        let at_home = self.find_in(probe.hash.home(), matches & meta.residents(), probe, pinned);
        if at_home.is_some() {
            return at_home;
        }
        let next = next_of(probe.hash.home());
        let bucket = self.bucket(next);
        let guests = bucket.matches(fingerprint) & bucket.meta().guests();
        let at_next = self.find_in(next, guests, probe, pinned);
        if at_next.is_some() || !meta.has_overflow() {
            return at_next;
        }
        let mut stashes = bits(matches >> SLOTS & meta.overflow_used())
            .fold(0_u32, |stashes, index| stashes | 1 << (home.overflow_bucket(index) & 31));
        if meta.untracked() > 0 {
            stashes = u32::MAX;
        }
        (NORMAL_BUCKETS..BUCKETS)
            .filter(|stash| stashes & 1 << (stash - NORMAL_BUCKETS) != 0)
            .find_map(|stash| {
                let bucket = self.bucket(stash);
                let matches = bucket.matches(fingerprint) & bucket.meta().used();
                self.find_in(stash, matches, probe, pinned)
            })
    }

    #[inline]
    fn find_in<'g>(
        &self,
        bucket: usize,
        candidates: u32,
        probe: &Probe<'_>,
        pinned: &'g Guard,
    ) -> Option<(Location, RecordView<'g>)>
    where
        'a: 'g,
    {
        bits(candidates).find_map(|slot| {
            let word = self.bucket(bucket).slot(slot);
            if word.is_empty() || word.tag() != probe.hash.tag() {
                return None;
            }
            let view = RecordView::new(self.region, word.record(), pinned);
            view.is_of(probe).then_some((Location { bucket, slot }, view))
        })
    }

    /// Asks for the record that the fingerprints point to, without waiting for it.
    pub(crate) fn prefetch_record(&self, hash: KeyHash) {
        let bucket = self.bucket(hash.home());
        let candidates = bucket.matches(hash.fingerprint()) & bucket.meta().residents();
        for slot in bits(candidates).take(1) {
            let word = bucket.slot(slot);
            if !word.is_empty() && word.tag() == hash.tag() {
                self.region.prefetch(word.record());
            }
        }
    }

    /// Puts an entry into one of its buckets: the emptier one (balanced insert); else after
    /// displacing another entry to its other bucket; else into the stash. `None` if the segment
    /// has no place for it. The caller has latched home and next bucket, has made the record
    /// persistent, and fences afterwards. Without `displace` only places that no other entry
    /// leaves are taken.
    pub(crate) fn insert(
        &self,
        hash: KeyHash,
        word: SlotWord,
        displace: bool,
    ) -> Result<Option<Location>> {
        if let Some(location) = self.insert_balanced(hash, word) {
            return Ok(Some(location));
        }
        if displace {
            let home = hash.home();
            let next = next_of(home);
            // The next bucket's own entries may go one further, guests here may go home.
            for (from, to, wanted) in [(next, next_of(next), false), (home, before(home), true)] {
                if let Some(slot) = self.displace(from, to, wanted)? {
                    self.bucket(from).fill(slot, hash, word, from == next);
                    return Ok(Some(Location { bucket: from, slot }));
                }
            }
        }
        Ok(self.insert_stashed(hash, word))
    }

    /// Puts an entry into the emptier one of its two buckets, if there is a free slot.
    pub(crate) fn insert_balanced(&self, hash: KeyHash, word: SlotWord) -> Option<Location> {
        let home = hash.home();
        let next = next_of(home);
        let (here, there) = (self.bucket(home).meta(), self.bucket(next).meta());
        let to_next = there.used().count_ones() < here.used().count_ones();
        let (bucket, meta) = if to_next { (next, there) } else { (home, here) };
        let slot = meta.free_slot()?;
        self.bucket(bucket).fill(slot, hash, word, to_next);
        Some(Location { bucket, slot })
    }

    fn insert_stashed(&self, hash: KeyHash, word: SlotWord) -> Option<Location> {
        (NORMAL_BUCKETS..BUCKETS).find_map(|index| {
            let bucket = self.bucket(index);
            let latch = bucket.lock().lock();
            let Some(slot) = bucket.meta().free_slot() else {
                latch.release_unchanged();
                return None;
            };
            bucket.fill(slot, hash, word, false);
            self.bucket(hash.home()).note_overflow(hash, index - NORMAL_BUCKETS);
            Some(Location { bucket: index, slot })
        })
    }

    /// Moves one entry of `from` to `to`, its other bucket, and answers the slot it left: a guest
    /// if `guest`, else a resident. The entry's home and `from` are among `from`, latched by the
    /// caller, and `to`, which is only tried: waiting would break the lock order.
    fn displace(&self, from: usize, to: usize, guest: bool) -> Result<Option<usize>> {
        let (source, target) = (self.bucket(from), self.bucket(to));
        let movable = if guest { source.meta().guests() } else { source.meta().residents() };
        let Some(slot) = bits(movable).next() else { return Ok(None) };
        let Some(latch) = target.lock().try_lock() else { return Ok(None) };
        let Some(free) = target.meta().free_slot() else {
            latch.release_unchanged();
            return Ok(None);
        };
        let word = source.slot(slot);
        let hash = RecordHeader::load(self.region, word.record()).hash;
        target.fill(free, hash, word, !guest);
        // There before it is gone here; recovery drops one of two equal slots.
        self.region.fence()?;
        source.vacate(slot);
        self.region.fence()?;
        Ok(Some(slot))
    }

    /// Empties an entry's slot. The caller has latched the home bucket and, unless it is a stash
    /// bucket, the entry's; and fences afterwards.
    pub(crate) fn remove(&self, hash: KeyHash, location: Location) {
        let bucket = self.bucket(location.bucket);
        if !location.is_stashed() {
            bucket.vacate(location.slot);
            return;
        }
        let _latch = bucket.lock().lock();
        bucket.vacate(location.slot);
        self.bucket(hash.home()).forget_overflow(hash, location.bucket - NORMAL_BUCKETS);
    }

    /// The entries whose home is `home`, as location and record.
    pub(crate) fn entries_of<'g>(
        &self,
        home: usize,
        pinned: &'g Guard,
        found: &mut Vec<(Location, RecordView<'g>)>,
    ) where
        'a: 'g,
    {
        let mut collect = |bucket: usize, slots: u32, filter: bool| {
            for slot in bits(slots) {
                let word = self.bucket(bucket).slot(slot);
                if word.is_empty() {
                    continue;
                }
                let view = RecordView::new(self.region, word.record(), pinned);
                if !filter || view.header.hash.home() == home {
                    found.push((Location { bucket, slot }, view));
                }
            }
        };
        let meta = self.bucket(home).meta();
        collect(home, meta.residents(), false);
        collect(next_of(home), self.bucket(next_of(home)).meta().guests(), false);
        if meta.has_overflow() {
            for stash in NORMAL_BUCKETS..BUCKETS {
                collect(stash, self.bucket(stash).meta().used(), true);
            }
        }
    }

    /// Rebuilds the first lines of all buckets from their slots. Locks stay as they are.
    pub(crate) fn rebuild(&self, identity: Identity) {
        for bucket in self.buckets() {
            bucket.set_meta(Default::default());
            bucket.set_identity(identity.word());
        }
        for index in 0..BUCKETS {
            let bucket = self.bucket(index);
            for slot in 0..SLOTS {
                let word = bucket.slot(slot);
                if word.is_empty() {
                    continue;
                }
                let hash = RecordHeader::load(self.region, word.record()).hash;
                bucket.note(slot, hash, index < NORMAL_BUCKETS && hash.home() != index);
                if index >= NORMAL_BUCKETS {
                    self.bucket(hash.home()).note_overflow(hash, index - NORMAL_BUCKETS);
                }
            }
        }
    }

    /// Moves what it can from the stash to normal buckets. All buckets are latched, or the segment
    /// is not yet reachable.
    pub(crate) fn unstash(&self) -> Result<()> {
        let mut moved = Vec::new();
        for stash in NORMAL_BUCKETS..BUCKETS {
            for slot in bits(self.bucket(stash).meta().used()) {
                let word = self.bucket(stash).slot(slot);
                let hash = RecordHeader::load(self.region, word.record()).hash;
                if self.insert_balanced(hash, word).is_some() {
                    moved.push((hash, stash, slot));
                }
            }
        }
        self.region.fence()?;
        for (hash, stash, slot) in moved {
            self.bucket(stash).vacate(slot);
            self.bucket(hash.home()).forget_overflow(hash, stash - NORMAL_BUCKETS);
        }
        self.region.fence()
    }
}

/// The bucket after, around the end.
#[inline]
pub(crate) fn next_of(bucket: usize) -> usize {
    (bucket + 1) % NORMAL_BUCKETS
}

fn before(bucket: usize) -> usize {
    (bucket + NORMAL_BUCKETS - 1) % NORMAL_BUCKETS
}
