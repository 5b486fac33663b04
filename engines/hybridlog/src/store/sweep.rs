//! Visiting all keys of a space, bucket by bucket.
//!
//! The cursor counts with its bits reversed (as Redis' SCAN does): the bucket numbers whose low
//! bits were visited in a small table are exactly those of the buckets they split into in a larger
//! one. A key keeps its low bits, so it is met at least once however the index grows.

use std::ops::Range;

use ferrokit_engine::{Entry as Lent, KeyspaceId, Result};

use super::{Name, Store, shown_expiry};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::entry::KeyHash;
use crate::index::table::{Access, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::log::record::{Copied, Record, Unreadable};

/// Buckets looked into per entry of the budget, in a space that is sparse among others.
const BUCKETS_PER_ENTRY: usize = 4;
/// Buckets looked into at least.
const BUCKETS_MIN: usize = 64;

/// The report of a part of a sweep.
pub(crate) struct SweptBuckets {
    /// The cursor to go on from; `None` at the end.
    pub(crate) next: Option<u32>,
    /// Entries visited.
    pub(crate) visited: usize,
}

/// Copies of the entries of one bucket.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    entries: Vec<(Range<usize>, Range<usize>, Copied)>,
}

impl Collected {
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    fn has(&self, key: &[u8]) -> bool {
        self.entries.iter().any(|(range, ..)| &self.bytes[range.clone()] == key)
    }
}

impl Store {
    /// Visits about `budget` entries from `cursor` on.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    pub(crate) fn sweep(
        &self,
        keyspace: KeyspaceId,
        cursor: u32,
        budget: usize,
        visit: &mut (dyn FnMut(&[u8], Lent<'_>) + Send + '_),
    ) -> Result<SweptBuckets> {
        let mut collected = Collected::default();
        let mut visited = 0;
        let mut cursor = cursor;
        let buckets = budget.saturating_mul(BUCKETS_PER_ENTRY).max(BUCKETS_MIN);
        for _ in 0..buckets {
            let primaries = self.run("sweep", |guard| {
                collected.clear();
                self.collect_bucket(guard, keyspace, cursor, &mut collected)
            })?;
            for (key, value, copied) in &collected.entries {
                let entry = Lent {
                    value: &collected.bytes[value.clone()],
                    expire_at: shown_expiry(copied.expire_at),
                    sequence: None,
                };
                visit(&collected.bytes[key.clone()], entry);
            }
            visited += collected.entries.len();
            cursor = match next_cursor(cursor, primaries) {
                0 => return Ok(SweptBuckets { next: None, visited }),
                next => next,
            };
            if visited >= budget.max(1) {
                break;
            }
        }
        Ok(SweptBuckets { next: Some(cursor), visited })
    }

    /// Copies the entries of the cursor's bucket; answers the size of the table.
    fn collect_bucket(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        cursor: u32,
        collected: &mut Collected,
    ) -> Attempt<u64> {
        let space = self.keyspaces.load(guard)?.of(keyspace)?.id();
        let table = self.index.settle(cursor, &*self.log, guard)?;
        let bucket = table.bucket_of(cursor);
        let control = table.control(bucket);
        if control.is_latched() || control.is_migrated() {
            return Err(Interrupt::Again);
        }
        for slot in table.slots(bucket) {
            let entry = slot.load();
            if entry.is_held() {
                return Err(Interrupt::Again);
            }
            if entry.tag() == 0 || entry.is_tentative() {
                continue;
            }
            let begin = self.log.begin();
            let mut address = entry.address();
            while address != LogicalAddress::NULL && address >= begin {
                let record = self.log.record(address);
                // Chains share their ends after a split: what belongs elsewhere is met there.
                if record.space() == space && table.bucket_of(record.hash_low()) == bucket {
                    self.collect_record(table, space, record, guard, collected)?;
                }
                address = record.header().previous();
            }
        }
        Ok(table.primaries())
    }

    fn collect_record(
        &self,
        table: &Table,
        space: u64,
        record: Record<'_>,
        guard: &Guard<'_>,
        collected: &mut Collected,
    ) -> Attempt<()> {
        let header = record.header();
        if header.is_dead() && !header.is_replaced() {
            return Ok(());
        }
        let start = collected.bytes.len();
        record.copy_key(&mut collected.bytes);
        let key = start..collected.bytes.len();
        if collected.has(&collected.bytes[key.clone()]) {
            collected.bytes.truncate(start);
            return Ok(());
        }
        let read = match record.read(&mut collected.bytes) {
            Ok(copied) => Some(copied).filter(|copied| !self.is_expired(copied.expire_at)),
            Err(Unreadable::Latched) => return Err(Interrupt::Again),
            // Its successor may lie where this sweep has been already.
            Err(Unreadable::Dead) => {
                let key = collected.bytes[key.clone()].to_vec();
                let name = self.name(space, &key);
                self.read_in(table, &name, Access::Shared, guard, &mut collected.bytes)?
            }
        };
        match read {
            Some(copied) => {
                let value = key.end..key.end + copied.value_len;
                collected.entries.push((key, value, copied));
            }
            None => collected.bytes.truncate(start),
        }
        Ok(())
    }

    /// The name of a stored record, for compaction.
    pub(super) fn name_of<'k>(&self, record: Record<'_>, key: &'k mut Vec<u8>) -> Name<'k> {
        key.clear();
        record.copy_key(key);
        let name = self.name(record.space(), key);
        debug_assert_eq!(KeyHash(name.hash.0).low(), record.hash_low());
        name
    }
}

/// Adds one to the reversed low bits of a cursor; 0 at the end.
fn next_cursor(cursor: u32, primaries: u64) -> u32 {
    let mask = (primaries - 1) as u32;
    ((cursor | !mask).reverse_bits().wrapping_add(1)).reverse_bits()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_meets_every_bucket_once() {
        for log2 in [0, 1, 5, 10] {
            let primaries = 1_u64 << log2;
            let mut seen = vec![0; primaries as usize];
            let mut cursor = 0;
            loop {
                seen[cursor as usize & (primaries as usize - 1)] += 1;
                cursor = next_cursor(cursor, primaries);
                if cursor == 0 {
                    break;
                }
            }
            assert!(seen.iter().all(|&times| times == 1));
        }
    }

    #[test]
    fn growth_in_the_middle_loses_no_bucket() {
        for grow_after in 0..8 {
            let mut seen = [false; 16];
            let mut cursor = 0;
            for step in 0.. {
                let primaries = if step < grow_after { 8 } else { 16 };
                for (bucket, seen) in seen.iter_mut().enumerate() {
                    *seen |= bucket as u64 % primaries == u64::from(cursor) % primaries;
                }
                cursor = next_cursor(cursor, primaries);
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, [true; 16], "grown after {grow_after}");
        }
    }
}
