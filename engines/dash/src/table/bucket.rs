//! [`Bucket`]: 24 slots, and one line that finds the right one.
//!
//! Only the slots are persistent state: a slot that is not empty *is* an entry. The first line
//! (lock, bitmaps, fingerprints, identity) is derived from slots and segment header; recovery
//! rebuilds it, and so nothing of it is ever flushed.

use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_storage::PmemRegion;

use super::layout::{OVERFLOW_FINGERPRINTS, SLOTS, bucket};
use super::lock::VersionLock;
use crate::hash::KeyHash;
use crate::simd;

/// A slot: tag (16 bits) and record address (48 bits), or empty. Publishing an entry is the
/// store of this word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotWord(pub(crate) u64);

impl SlotWord {
    pub(crate) const EMPTY: Self = Self(0);

    #[inline]
    pub(crate) fn new(hash: KeyHash, record: u64) -> Self {
        Self(u64::from(hash.tag()) << 48 | record)
    }

    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    pub(crate) fn record(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The bitmaps of a bucket in one word.
///
/// ```text
/// bit 23..0   slots in use
/// bit 31..24  overflow fingerprints in use
/// bit 55..32  slots in use by entries whose home is the bucket before
/// bit 63..56  stashed entries of this home without an overflow fingerprint
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta(u64);

const SLOT_MASK: u64 = (1 << SLOTS) - 1;
const OVERFLOW_SHIFT: u32 = SLOTS as u32;
const GUEST_SHIFT: u32 = 32;
const UNTRACKED_SHIFT: u32 = 56;

impl Meta {
    #[inline]
    pub(crate) fn used(self) -> u32 {
        (self.0 & SLOT_MASK) as u32
    }

    /// Slots of entries whose home is the bucket before this one.
    #[inline]
    pub(crate) fn guests(self) -> u32 {
        (self.0 >> GUEST_SHIFT & SLOT_MASK) as u32
    }

    /// Slots of entries whose home is this bucket.
    #[inline]
    pub(crate) fn residents(self) -> u32 {
        self.used() & !self.guests()
    }

    #[inline]
    pub(crate) fn overflow_used(self) -> u32 {
        (self.0 >> OVERFLOW_SHIFT & 0xff) as u32
    }

    #[inline]
    pub(crate) fn untracked(self) -> u32 {
        (self.0 >> UNTRACKED_SHIFT) as u32
    }

    /// Whether entries of this home may lie in the stash.
    #[inline]
    pub(crate) fn has_overflow(self) -> bool {
        self.overflow_used() != 0 || self.untracked() != 0
    }

    #[inline]
    pub(crate) fn free_slot(self) -> Option<usize> {
        let slot = self.used().trailing_ones() as usize;
        (slot < SLOTS).then_some(slot)
    }

    pub(crate) fn with_slot(self, slot: usize, guest: bool) -> Self {
        Self(self.0 | 1 << slot | u64::from(guest) << (GUEST_SHIFT + slot as u32))
    }

    pub(crate) fn without_slot(self, slot: usize) -> Self {
        Self(self.0 & !(1 << slot | 1 << (GUEST_SHIFT + slot as u32)))
    }

    fn with_overflow(self, index: usize, used: bool) -> Self {
        let bit = 1 << (OVERFLOW_SHIFT + index as u32);
        Self(if used { self.0 | bit } else { self.0 & !bit })
    }

    /// One untracked entry more or fewer. There are at most 96 in a segment, so 8 bits hold them.
    fn with_untracked(self, count: u32) -> Self {
        Self(self.0 & !(0xff << UNTRACKED_SHIFT) | u64::from(count) << UNTRACKED_SHIFT)
    }
}

/// The positions of the bits of a mask.
#[inline]
pub(crate) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(bit)
    })
}

/// A bucket in a region. What reads is consistent under the version lock or a held latch; what
/// changes it needs the latch.
#[derive(Clone, Copy)]
pub(crate) struct Bucket<'a> {
    region: &'a PmemRegion,
    at: u64,
}

impl<'a> Bucket<'a> {
    #[inline]
    pub(crate) fn new(region: &'a PmemRegion, at: u64) -> Self {
        Self { region, at }
    }

    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    #[inline]
    pub(crate) fn lock(&self) -> VersionLock<'a> {
        VersionLock::new(self.word(bucket::LOCK))
    }

    /// Forgets whoever held the lock before a crash.
    pub(crate) fn reset_lock(&self) {
        self.word(bucket::LOCK).store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn meta(&self) -> Meta {
        Meta(self.word(bucket::META).load(Ordering::Relaxed))
    }

    pub(crate) fn set_meta(&self, meta: Meta) {
        self.word(bucket::META).store(meta.0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn identity(&self) -> u64 {
        self.word(bucket::IDENTITY).load(Ordering::Relaxed)
    }

    pub(crate) fn set_identity(&self, identity: u64) {
        self.word(bucket::IDENTITY).store(identity, Ordering::Relaxed);
    }

    /// The lanes whose fingerprint is `wanted`: slots first, overflow fingerprints above them.
    /// Lanes not in use may match, too.
    #[inline]
    pub(crate) fn matches(&self, wanted: u8) -> u32 {
        let word = |index: u64| self.word(bucket::FINGERPRINTS + index * 8).load(Ordering::Relaxed);
        simd::match_mask([word(0), word(1), word(2), word(3)], wanted)
    }

    /// Asks for the line that finds slots.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.region.prefetch(self.at);
    }

    #[inline]
    pub(crate) fn slot(&self, slot: usize) -> SlotWord {
        SlotWord(self.region.load(self.slot_at(slot)))
    }

    /// Stores a slot and starts its write-back.
    pub(crate) fn store_slot(&self, slot: usize, word: SlotWord) {
        let at = self.slot_at(slot);
        self.region.store(at, word.0);
        self.region.flush(at, 8);
    }

    /// Puts an entry into a free slot.
    pub(crate) fn fill(&self, slot: usize, hash: KeyHash, word: SlotWord, guest: bool) {
        self.store_slot(slot, word);
        self.note(slot, hash, guest);
    }

    /// Notes in the first line what a slot holds.
    pub(crate) fn note(&self, slot: usize, hash: KeyHash, guest: bool) {
        self.set_lane(slot, hash.fingerprint());
        self.set_meta(self.meta().with_slot(slot, guest));
    }

    /// Empties a slot.
    pub(crate) fn vacate(&self, slot: usize) {
        self.store_slot(slot, SlotWord::EMPTY);
        self.set_meta(self.meta().without_slot(slot));
    }

    /// Notes that an entry of this home lies in a stash bucket.
    pub(crate) fn note_overflow(&self, hash: KeyHash, stash: usize) {
        let meta = self.meta();
        let index = meta.overflow_used().trailing_ones() as usize;
        if index >= OVERFLOW_FINGERPRINTS {
            self.set_meta(meta.with_untracked(meta.untracked() + 1));
            return;
        }
        self.set_lane(SLOTS + index, hash.fingerprint());
        self.set_byte(bucket::OVERFLOW_BUCKETS, index, stash as u8);
        self.set_meta(meta.with_overflow(index, true));
    }

    /// Takes back one [`note_overflow`](Self::note_overflow).
    pub(crate) fn forget_overflow(&self, hash: KeyHash, stash: usize) {
        let meta = self.meta();
        let tracked = bits(self.matches(hash.fingerprint()) >> SLOTS & meta.overflow_used())
            .find(|index| self.overflow_bucket(*index) == stash);
        self.set_meta(match tracked {
            Some(index) => meta.with_overflow(index, false),
            None => meta.with_untracked(meta.untracked().saturating_sub(1)),
        });
    }

    /// The stash bucket of an overflow fingerprint.
    #[inline]
    pub(crate) fn overflow_bucket(&self, index: usize) -> usize {
        let word = self.word(bucket::OVERFLOW_BUCKETS).load(Ordering::Relaxed);
        usize::from((word >> (index * 8)) as u8)
    }

    fn set_lane(&self, lane: usize, fingerprint: u8) {
        self.set_byte(bucket::FINGERPRINTS, lane, fingerprint);
    }

    fn set_byte(&self, field: u64, index: usize, byte: u8) {
        let word = self.word(field + index as u64 / 8 * 8);
        let shift = index as u32 % 8 * 8;
        let kept = word.load(Ordering::Relaxed) & !(0xff << shift);
        word.store(kept | u64::from(byte) << shift, Ordering::Relaxed);
    }

    #[inline]
    fn slot_at(&self, slot: usize) -> u64 {
        self.at + bucket::SLOTS + slot as u64 * 8
    }

    #[inline]
    fn word(&self, field: u64) -> &'a AtomicU64 {
        self.region.transient_word(self.at + field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_storage::pmem::EmulatedPmem;
    use std::sync::Arc;

    #[test]
    fn slots_fingerprints_and_bitmaps_agree() {
        let region = PmemRegion::new(Arc::new(EmulatedPmem::new(4096).unwrap()));
        let bucket = Bucket::new(&region, 256);
        let hash = KeyHash(0xab << 8 | 0x1234 << 16);
        bucket.fill(3, hash, SlotWord::new(hash, 4096), true);
        bucket.fill(23, hash, SlotWord::new(hash, 8192), false);
        assert_eq!(bucket.slot(3).record(), 4096);
        assert_eq!(bucket.slot(3).tag(), 0x1234);
        assert_eq!(bucket.matches(0xab), 1 << 3 | 1 << 23);
        assert_eq!((bucket.meta().guests(), bucket.meta().residents()), (1 << 3, 1 << 23));
        bucket.vacate(3);
        assert_eq!((bucket.meta().used(), bucket.meta().guests()), (1 << 23, 0));
        assert_eq!(bucket.meta().free_slot(), Some(0));
    }

    #[test]
    fn overflow_is_tracked_by_fingerprint_and_then_counted() {
        let region = PmemRegion::new(Arc::new(EmulatedPmem::new(4096).unwrap()));
        let bucket = Bucket::new(&region, 0);
        for entry in 0..10_u64 {
            bucket.note_overflow(KeyHash(entry << 8), entry as usize % 4);
        }
        assert_eq!((bucket.meta().overflow_used(), bucket.meta().untracked()), (0xff, 2));
        assert_eq!(bucket.overflow_bucket(6), 2);
        bucket.forget_overflow(KeyHash(6 << 8), 2);
        assert_eq!(bucket.meta().overflow_used(), 0xff & !(1 << 6));
        for entry in [8_u64, 9, 0, 1, 2, 3, 4, 5, 7] {
            assert!(bucket.meta().has_overflow());
            bucket.forget_overflow(KeyHash(entry << 8), entry as usize % 4);
        }
        assert!(!bucket.meta().has_overflow());
    }
}
