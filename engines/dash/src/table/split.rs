//! Splitting a full segment.
//!
//! All buckets of the segment are latched, and those of the new one, until the end. Steps, each
//! persistent before the next:
//!
//! 1. the directory is deep enough for the halves;
//! 2. the new segment holds a copy of every slot that belongs to the upper half, in the same place;
//! 3. the directory's entries of the upper half lead to the new segment;
//! 4. the old segment's identity is the lower half;
//! 5. the old segment's slots of the upper half are empty.
//!
//! A crash before 3 leaves the old segment whole and the new one unreachable. A crash in 3 leaves
//! some entries leading to each: recovery sees two segments of which the deeper holds the upper
//! half of the other, and goes on from 3. After 3 recovery does 4 and 5.

use crossbeam_epoch::Guard;
use ferrokit_engine::Result;

use std::sync::atomic::Ordering;

use super::bucket::{SlotWord, bits};
use super::layout::{BUCKETS, NORMAL_BUCKETS, SEGMENT_BYTES, SLOTS};
use super::lock::Latch;
use super::segment::{Identity, Segment};
use super::{Liveness, Table};
use crate::record::{RecordHeader, RecordView};

impl Table {
    /// Makes place in the segment that holds `hash`, unless its identity is no longer the one
    /// `seen` full: drops the dead, or splits it.
    ///
    /// # Errors
    /// `OutOfSpace`; nothing changed then.
    pub(super) fn split(
        &self,
        hash: crate::hash::KeyHash,
        seen: Identity,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<()> {
        let segment = self.directory.segment(hash, pinned);
        let latches: Vec<Latch<'_>> =
            segment.buckets().map(|bucket| bucket.lock().lock()).collect();
        if Identity::from_word(segment.bucket(0).identity()) != seen {
            latches.into_iter().for_each(Latch::release_unchanged);
            return Ok(());
        }
        if self.drop_dead(&segment, liveness, pinned)? > 0 {
            return Ok(());
        }
        self.directory.ensure_depth(seen.depth + 1, &self.alloc, pinned)?;
        let new = self.segment_at(self.alloc.allocate(SEGMENT_BYTES)?);
        let (lower, upper) = seen.halves();
        // Latched before it can be reached: its writers must wait until the old segment forgot
        // what they might retire.
        let new_latches = self.fill_upper_half(&segment, &new, upper)?;
        self.directory.point(upper, new.at())?;
        segment.store_identity(lower);
        self.region.fence()?;
        self.empty_other_half(&segment, lower)?;
        segment.rebuild(lower);
        segment.unstash()?;
        self.segments.fetch_add(1, Ordering::Relaxed);
        drop(new_latches);
        drop(latches);
        Ok(())
    }

    /// Copies the slots of the upper half to the same places of the new segment.
    fn fill_upper_half<'a>(
        &self,
        old: &Segment<'_>,
        new: &Segment<'a>,
        upper: Identity,
    ) -> Result<Vec<Latch<'a>>> {
        let latches = new
            .buckets()
            .map(|bucket| {
                bucket.reset_lock();
                bucket.lock().lock()
            })
            .collect();
        for index in 0..BUCKETS {
            for slot in 0..SLOTS {
                let word = old.bucket(index).slot(slot);
                let moves = !word.is_empty() && upper.holds(self.hash_of(word));
                new.bucket(index).store_slot(slot, if moves { word } else { SlotWord::EMPTY });
            }
        }
        new.rebuild(upper);
        new.unstash()?;
        new.store_identity(upper);
        self.region.persist(new.at(), SEGMENT_BYTES)?;
        Ok(latches)
    }

    /// Empties the slots of a segment that its identity does not hold.
    fn empty_other_half(&self, segment: &Segment<'_>, identity: Identity) -> Result<()> {
        for bucket in segment.buckets() {
            for slot in 0..SLOTS {
                let word = bucket.slot(slot);
                if !word.is_empty() && !identity.holds(self.hash_of(word)) {
                    bucket.store_slot(slot, SlotWord::EMPTY);
                }
            }
        }
        self.region.fence()
    }

    /// Drops the dead records of a segment whose buckets are all latched.
    fn drop_dead(
        &self,
        segment: &Segment<'_>,
        liveness: &dyn Liveness,
        pinned: &Guard,
    ) -> Result<usize> {
        let mut dead = Vec::new();
        for index in 0..BUCKETS {
            let bucket = segment.bucket(index);
            for slot in bits(bucket.meta().used()) {
                let view = RecordView::new(&self.region, bucket.slot(slot).record(), pinned);
                if liveness.is_dead(&view.header) {
                    bucket.vacate(slot);
                    if index >= NORMAL_BUCKETS {
                        let hash = view.header.hash;
                        segment.bucket(hash.home()).forget_overflow(hash, index - NORMAL_BUCKETS);
                    }
                    dead.push(view);
                }
            }
        }
        self.region.fence()?;
        for view in &dead {
            liveness.dropped(&view.header);
            self.retire(pinned, view);
        }
        Ok(dead.len())
    }

    fn hash_of(&self, word: SlotWord) -> crate::hash::KeyHash {
        RecordHeader::load(&self.region, word.record()).hash
    }
}
