//! [`Latches`]: the latches of all buckets that a batch touches.

use super::entry::{Entry, KeyHash};
use super::table::{Slot, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::primitive::Backoff;

/// How often a latch is tried before all are given back.
const TRIES: u32 = 64;

/// Bucket latches of one table, taken in ascending order, and the entries held under them; all
/// given back when dropped.
///
/// Single operations take no latch: they look whether one is taken when they begin. One that began
/// before the batch latched its keys goes on; it cannot change an entry that is held, and what it
/// reads it read before the batch or after it. One that begins later waits.
pub(crate) struct Latches<'t> {
    table: &'t Table,
    buckets: Vec<u64>,
    held: Vec<Slot<'t>>,
    changed: bool,
}

impl<'t> Latches<'t> {
    /// Latches the buckets of `hashes`, which are settled in `table`.
    ///
    /// # Errors
    /// `Again` if one cannot be had soon, or was migrated.
    pub(crate) fn take(table: &'t Table, hashes: impl Iterator<Item = KeyHash>) -> Attempt<Self> {
        let mut wanted: Vec<u64> = hashes.map(|hash| table.bucket_of(hash.low())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let buckets = Vec::with_capacity(wanted.len());
        let mut latches = Self { table, buckets, held: Vec::new(), changed: false };
        for bucket in wanted {
            let mut backoff = Backoff::default();
            while table.latch(bucket).is_err() {
                if table.control(bucket).is_migrated() || backoff.waits() >= TRIES {
                    return Err(Interrupt::Again);
                }
                backoff.wait();
            }
            latches.buckets.push(bucket);
        }
        Ok(latches)
    }

    /// Makes `slot`, of a latched bucket, changeable by the holder alone.
    pub(crate) fn hold(&mut self, slot: Slot<'t>) -> Entry {
        // Under the latch nobody else holds entries; two keys may share one.
        if !slot.load().is_held() {
            self.held.push(slot);
        }
        slot.hold()
    }

    /// From here on something is changed under the latches: readers of several keys must notice.
    pub(crate) fn mark_changed(&mut self) {
        self.changed = true;
    }
}

impl Drop for Latches<'_> {
    fn drop(&mut self) {
        for slot in &self.held {
            let entry = slot.load().released();
            // An entry whose record never came is a free slot again.
            let empty = entry.address() == crate::address::LogicalAddress::NULL;
            slot.store_held(if empty { Entry::FREE } else { entry });
        }
        for &bucket in &self.buckets {
            self.table.unlatch(bucket, self.changed);
        }
    }
}
