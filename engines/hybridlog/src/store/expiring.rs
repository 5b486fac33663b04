//! [`Expiring`]: how much of what is on disk expires when.
//!
//! What expires on disk is dead without a write that says so. The words of each record with an expiry
//! are counted by the moment, and taken off again when the record is overwritten or removed before:
//! when a moment has passed, what is left of its count is dead, and compaction learns of it.
//!
//! It is an estimate: what was replaced on disk unread stays in its moment's count.

use crate::primitive::{AtomicU64, Ordering};

/// Bits of an expiry's milliseconds that do not tell moments apart: 65.5 s are one.
const MOMENT_BITS: u32 = 16;
/// Moments that are counted: 49 days. What expires later is not counted before.
const MOMENTS: u64 = 1 << 16;

/// Words of records by the moment of their expiry.
pub(crate) struct Expiring {
    /// By the moment modulo its length: 512 KiB, beside the configured memory.
    words: Box<[AtomicU64]>,
    /// The first moment that has not been taken.
    next: AtomicU64,
}

impl Expiring {
    /// Nothing so far, at a time in milliseconds.
    pub(super) fn new(now: u64) -> Self {
        let words = (0..MOMENTS).map(|_| AtomicU64::new(0)).collect();
        Self { words, next: AtomicU64::new(now >> MOMENT_BITS) }
    }

    fn count_of(&self, moment: u64) -> &AtomicU64 {
        &self.words[(moment % MOMENTS) as usize]
    }

    /// The count that a record's expiry goes to, if there is one for it and it was not taken yet.
    fn place(&self, expire_at: u64) -> Option<&AtomicU64> {
        let (moment, next) = (expire_at >> MOMENT_BITS, self.next.load(Ordering::Acquire));
        (expire_at != 0 && (next..next + MOMENTS).contains(&moment)).then(|| self.count_of(moment))
    }

    /// Counts a record that is to expire.
    pub(super) fn add(&self, expire_at: u64, words: usize) {
        if let Some(count) = self.place(expire_at) {
            count.fetch_add(words as u64, Ordering::Relaxed);
        }
    }

    /// Takes a record off again that is no more; `false` if it was taken for dead already.
    pub(super) fn remove(&self, expire_at: u64, words: usize) -> bool {
        if let Some(count) = self.place(expire_at) {
            let less = |count: u64| Some(count.saturating_sub(words as u64));
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            return true;
        }
        expire_at == 0 || expire_at >> MOMENT_BITS >= self.next.load(Ordering::Acquire)
    }

    /// Takes the words of all records whose moment has passed. By one thread at a time.
    pub(super) fn take_past(&self, now: u64) -> u64 {
        let (first, now) = (self.next.load(Ordering::Acquire), now >> MOMENT_BITS);
        if now <= first {
            return 0;
        }
        self.next.store(now, Ordering::Release);
        let last = now.min(first + MOMENTS);
        (first..last).map(|moment| self.count_of(moment).swap(0, Ordering::Relaxed)).sum()
    }

    /// What a checkpoint keeps: moments and their words.
    pub(super) fn counts(&self) -> Vec<(u64, u64)> {
        let next = self.next.load(Ordering::Acquire);
        let count = |moment| (moment, self.count_of(moment).load(Ordering::Relaxed));
        (next..next + MOMENTS).map(count).filter(|(_, words)| *words > 0).collect()
    }

    /// Counts what a checkpoint kept.
    pub(super) fn set_counts(&self, counts: &[(u64, u64)]) {
        // As if it were the time of the checkpoint, so that what has passed since is taken.
        let Some((first, _)) = counts.first() else { return };
        self.next.fetch_min(*first, Ordering::AcqRel);
        for (moment, words) in counts {
            self.count_of(*moment).fetch_add(*words, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const MOMENT: u64 = 1 << MOMENT_BITS;

    #[test]
    fn what_is_left_is_dead_once_its_moment_has_passed() {
        let expiring = Expiring::new(100 * MOMENT);
        expiring.add(0, 1000);
        expiring.add(100 * MOMENT + 5, 10);
        expiring.add(103 * MOMENT, 20);
        expiring.add((100 + MOMENTS) * MOMENT, 40);
        assert!(expiring.remove(103 * MOMENT, 5));
        assert_eq!(expiring.take_past(100 * MOMENT + 6), 0, "the moment is not over");
        assert_eq!(expiring.take_past(101 * MOMENT), 10);
        assert!(!expiring.remove(100 * MOMENT + 5, 10), "it was taken");
        assert!(expiring.remove(0, 10) && expiring.remove(1 << 60, 10), "they never were counted");
        assert_eq!(expiring.counts(), [(103, 15)]);
        let later = Expiring::new(500 * MOMENT);
        later.set_counts(&expiring.counts());
        assert_eq!(later.take_past(500 * MOMENT), 15);
        assert_eq!(expiring.take_past(1 << 60), 15, "whatever the clock does");
    }
}
