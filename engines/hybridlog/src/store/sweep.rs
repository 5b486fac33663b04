//! Visiting all keys of a space, bucket by bucket.
//!
//! The cursor counts with its bits reversed (as Redis' SCAN does): the bucket numbers whose low
//! bits were visited in a small table are exactly those of the buckets they split into in a larger
//! one. A key keeps its low bits, so it is met at least once however the index grows.

use std::ops::Range;

use ferrokit_engine::{CommitTicket, Entry as Lent, KeyspaceId, Op, Result};

use super::drive::Step;
use super::known::{Asked, Known};
use super::{Name, Store, shown_expiry};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::table::{Access, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::journal::Journal;
use crate::keyspaces::Space;
use crate::log::record::{Copied, Record, Unreadable};

/// Buckets looked into per entry of the budget, in a space that is sparse among others.
const BUCKETS_PER_ENTRY: usize = 4;
/// Buckets looked into at least.
const BUCKETS_MIN: usize = 64;

type VisitKey<'a> = dyn FnMut(&[u8], Lent<'_>) + Send + 'a;

/// The report of a part of a sweep.
pub(crate) struct SweptBuckets {
    /// The cursor to go on from; `None` at the end.
    pub(crate) next: Option<u32>,
    /// Entries visited.
    pub(crate) visited: usize,
    /// What to wait for before they are shown.
    pub(crate) ticket: CommitTicket,
}

/// A part of a sweep under way.
struct Sweep {
    keyspace: KeyspaceId,
    cursor: u32,
    budget: usize,
    /// Buckets that may still be looked into.
    buckets: usize,
    visited: usize,
    /// What to wait for of exchanges of keyspaces.
    ticket: CommitTicket,
}

/// A record that a sweep meets.
struct Met<'g> {
    table: &'g Table,
    address: LogicalAddress,
    record: Record<'g>,
    space: &'g Space,
}

/// Copies of the entries of one bucket.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    /// Where keys lie, and their values.
    entries: Vec<(Range<usize>, Place)>,
}

/// Where a key's value lies; nowhere if the key is absent.
type Place = Option<(Range<usize>, Copied)>;

impl Collected {
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    fn has(&self, key: &[u8]) -> bool {
        self.entries.iter().any(|(range, _)| &self.bytes[range.clone()] == key)
    }

    /// Adds a key; `None` if it is there.
    fn add_key(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> Option<Range<usize>> {
        let start = self.bytes.len();
        append(&mut self.bytes);
        let key = start..self.bytes.len();
        if self.has(&self.bytes[key.clone()]) {
            self.bytes.truncate(start);
            return None;
        }
        Some(key)
    }
}

impl Store {
    /// Visits about `budget` entries from `cursor` on.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces; `Corruption`, `Io`.
    pub(crate) fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: u32,
        budget: usize,
        visit: &'a mut VisitKey<'a>,
    ) -> Op<'a, SweptBuckets> {
        let buckets = budget.saturating_mul(BUCKETS_PER_ENTRY).max(BUCKETS_MIN);
        let (budget, ticket) = (budget.max(1), CommitTicket::NONE);
        let mut sweep = Sweep { keyspace, cursor, budget, buckets, visited: 0, ticket };
        let mut known = Known::default();
        match self.sweep_now(&mut sweep, &mut known, visit) {
            Ok(Step::Done(swept)) => Op::ok(swept),
            Err(error) => Op::err(error),
            Ok(Step::Wait(wait)) => Op::pending(async move {
                let mut wait = wait;
                loop {
                    self.wait("sweep", wait, &mut known).await?;
                    match self.sweep_now(&mut sweep, &mut known, visit)? {
                        Step::Done(swept) => return Ok(swept),
                        Step::Wait(again) => wait = again,
                    }
                }
            }),
        }
    }

    fn sweep_now(
        &self,
        sweep: &mut Sweep,
        known: &mut Known,
        visit: &mut VisitKey<'_>,
    ) -> Result<Step<SweptBuckets>> {
        let mut collected = Collected::default();
        while sweep.buckets > 0 && sweep.visited < sweep.budget {
            let looked = self.run_now("sweep", |guard| {
                collected.clear();
                self.collect_bucket(guard, sweep.keyspace, sweep.cursor, known, &mut collected)
            })?;
            let primaries = match looked {
                Step::Done((primaries, ticket)) => {
                    sweep.ticket = sweep.ticket.join(ticket);
                    primaries
                }
                Step::Wait(wait) => return Ok(Step::Wait(wait)),
            };
            known.clear();
            for (key, value) in &collected.entries {
                let Some((value, copied)) = value else { continue };
                let entry = Lent {
                    value: &collected.bytes[value.clone()],
                    expire_at: shown_expiry(copied.expire_at),
                    sequence: None,
                };
                visit(&collected.bytes[key.clone()], entry);
                sweep.visited += 1;
            }
            sweep.buckets -= 1;
            sweep.cursor = next_cursor(sweep.cursor, primaries);
            if sweep.cursor == 0 {
                break;
            }
        }
        let next = Some(sweep.cursor).filter(|cursor| *cursor != 0);
        let keys = self.journal().map_or(CommitTicket::NONE, Journal::ticket_all);
        let ticket = sweep.ticket.join(keys);
        Ok(Step::Done(SweptBuckets { next, visited: sweep.visited, ticket }))
    }

    /// Copies the entries of the cursor's bucket; answers the size of the table, and what to wait for
    /// of exchanges of keyspaces.
    fn collect_bucket(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        cursor: u32,
        known: &Known,
        collected: &mut Collected,
    ) -> Attempt<(u64, CommitTicket)> {
        let spaces = self.keyspaces.load(guard)?;
        let space = spaces.of(keyspace)?.id();
        let table = self.index.settle(cursor, &*self.log, guard)?;
        let bucket = table.bucket_of(cursor);
        let control = table.control(bucket);
        if control.is_latched() || control.is_migrated() {
            return Err(Interrupt::Again);
        }
        let mut asked = Vec::new();
        for slot in table.slots(bucket) {
            // Before the entry: what compaction moves from here on is moved behind this look.
            let begin = self.log.begin();
            let entry = slot.load();
            if entry.is_held() {
                return Err(Interrupt::Again);
            }
            if entry.tag() == 0 || entry.is_tentative() {
                continue;
            }
            let in_memory = self.log.head();
            let mut address = entry.address();
            while address >= in_memory {
                let record = self.log.record(address);
                // Chains share their ends after a split: what belongs elsewhere is met there.
                if record.space() == space && table.bucket_of(record.hash_low()) == bucket {
                    let met = Met { table, address, record, space: spaces.of(keyspace)? };
                    self.collect_record(met, guard, known, collected)?;
                }
                address = record.header().previous();
            }
            if address < begin {
                continue;
            }
            if self.tiers.is_none() {
                return Err(Interrupt::Again);
            }
            let Some(records) = known.chain(address) else {
                asked.push(Asked::Chain { start: address, begin });
                continue;
            };
            for record in records {
                if record.space != space || table.bucket_of(record.hash_low) != bucket {
                    continue;
                }
                let key = collected.add_key(|bytes| bytes.extend_from_slice(&record.key));
                let Some(key) = key else { continue };
                let live = record.value.as_ref().filter(|it| !self.is_expired(it.expire_at));
                if record.value.is_some() && live.is_none() {
                    self.note_expired(space, &record.key);
                }
                let value = match live {
                    None => None,
                    Some(live) => {
                        let copied = self.copy_cold(known, space, live, &mut collected.bytes)?;
                        Some((key.end..key.end + copied.value_len, copied))
                    }
                };
                collected.entries.push((key, value));
            }
        }
        if !asked.is_empty() {
            return Err(Interrupt::Cold(asked));
        }
        Ok((table.primaries(), spaces.ticket()))
    }

    fn collect_record(
        &self,
        met: Met<'_>,
        guard: &Guard<'_>,
        known: &Known,
        collected: &mut Collected,
    ) -> Attempt<()> {
        let Met { table, address, record, space: counted } = met;
        let space = counted.id();
        let header = record.header();
        if header.is_dead() && !header.is_replaced() {
            return Ok(());
        }
        let Some(key) = collected.add_key(|bytes| record.copy_key(bytes)) else { return Ok(()) };
        let read = match record.read(&mut collected.bytes) {
            Ok(copied) if !self.is_expired(copied.expire_at) => {
                Some(self.resolve(known, space, copied, &mut collected.bytes, key.end)?)
            }
            Ok(_) => {
                self.note_expired(space, &collected.bytes[key.clone()]);
                if self.tiers.is_some() {
                    self.drop_expired(address, record, counted);
                }
                None
            }
            Err(Unreadable::Tombstone) => None,
            Err(Unreadable::Latched) => return Err(Interrupt::Again),
            // Its successor may lie where this sweep has been already.
            Err(Unreadable::Dead) => {
                let key = collected.bytes[key.clone()].to_vec();
                let name = self.name(space, &key);
                self.read_in(table, &name, Access::Shared, guard, known, &mut collected.bytes)?
            }
        };
        let value = read.map(|copied| (key.end..key.end + copied.value_len, copied));
        if value.is_none() {
            collected.bytes.truncate(key.end);
        }
        collected.entries.push((key, value));
        Ok(())
    }

    /// The name of a stored record, for compaction.
    pub(super) fn name_of<'k>(&self, record: Record<'_>, key: &'k mut Vec<u8>) -> Name<'k> {
        key.clear();
        record.copy_key(key);
        let name = self.name(record.space(), key);
        debug_assert_eq!(name.hash.low(), record.hash_low());
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
