//! Compaction of what is on disk, so that it follows the live data: the records of the oldest page
//! that are still their keys' newest move to the tail, then the log begins after it.
//!
//! A segment's file goes once a checkpoint that begins after it is in force: until then an older
//! checkpoint, or a reader who came before, may lead into it.

use std::sync::PoisonError;

use ferrokit_engine::{Result, block_on};

use super::Store;
use super::chain::Lookup;
use super::drive::{Step, Wait};
use super::known::{Asked, Known};
use super::long::Manifest;
use super::tiers::Tiers;
use super::write::{Stored, blueprint};
use crate::address::LogicalAddress;
use crate::disk::image::{StoredRecord, read_record};
use crate::index::table::Access;
use crate::interrupt::{Attempt, Interrupt};
use crate::log::Purpose;
use crate::primitive::Ordering;

/// Pages on disk below which there is nothing worth compacting.
const MIN_PAGES: u64 = 4;

/// A round of compaction through the pages that there were at its beginning.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The last of them.
    last_page: u64,
    /// Words counted as dead then, less those that were met since.
    not_met_words: u64,
}

impl Store {
    /// Compacts a page if enough is dead; whether to go on.
    pub(super) fn compact_disk(&self, tiers: &Tiers) -> Result<bool> {
        // A record that moves may need a larger index.
        if self.index.is_growth_paused()
            || tiers.journal.get().is_none()
            || !self.wants_disk_compaction(tiers)
        {
            return Ok(false);
        }
        let page = self.log.begin_page();
        let Some(bytes) = self.page_to_compact(tiers, page)? else { return Ok(false) };
        let (mut at, mut moved_words) = (0, 0);
        while at < bytes.len() {
            let address = LogicalAddress::new(page, at as u64 / 8, tiers.page_words_log2);
            let record = read_record(&bytes[at..], address).ok_or_else(|| {
                tiers.segments.corruption(page, at as u64, "a record does not match its checksum")
            })?;
            if self.keep(tiers, &record, address)? {
                moved_words += record.size_bytes as u64 / 8;
            }
            at += record.size_bytes;
        }
        self.log.truncate(page + 1);
        self.pages_compacted.fetch_add(1, Ordering::Relaxed);
        let dead_words = (bytes.len() as u64 / 8).saturating_sub(moved_words);
        self.note_compacted(tiers, page, dead_words);
        if tiers.segments.segment_of(page) != tiers.segments.segment_of(page + 1) {
            // The file goes with the next checkpoint.
            let lock = tiers.checkpoints.lock();
            lock.unwrap_or_else(std::sync::PoisonError::into_inner).is_wanted = true;
        }
        Ok(true)
    }

    /// Corrects the estimate of what is dead by what a page had. What was counted as dead before a
    /// round of all pages, and not met in it, was not there: else compaction would look for it forever.
    fn note_compacted(&self, tiers: &Tiers, page: u64, dead_words: u64) {
        let mut round = tiers.round.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = dead_words;
        round.not_met_words = round.not_met_words.saturating_sub(dead_words);
        let is_over = page >= round.last_page;
        if is_over {
            gone += round.not_met_words;
        }
        let dead = &tiers.cold_dead_words.0;
        let _ = dead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |words| {
            Some(words.saturating_sub(gone))
        });
        if is_over {
            let not_met_words = dead.load(Ordering::Relaxed);
            *round = Round { last_page: self.log.tail_page(), not_met_words };
        }
    }

    fn wants_disk_compaction(&self, tiers: &Tiers) -> bool {
        self.count_cold_dead_words(tiers.expiring.take_past(self.clock.now().0) as usize);
        let (begin, head) = (self.log.begin_page(), self.log.head_page());
        if head < begin + MIN_PAGES {
            return false;
        }
        let used_words = (head - begin) << tiers.page_words_log2;
        let dead_words = tiers.cold_dead_words.0.load(Ordering::Relaxed);
        begin < self.collect_before_page.load(Ordering::Acquire).min(head)
            || dead_words > used_words / 100 * self.garbage_percent
    }

    /// Moves a record of the oldest page to the tail if its key has no newer one and has not expired;
    /// whether it did.
    fn keep(
        &self,
        tiers: &Tiers,
        record: &StoredRecord<'_>,
        address: LogicalAddress,
    ) -> Result<bool> {
        // Behind a tombstone there is nothing left to hide.
        if record.header.is_removed() || record.header.is_tombstone() {
            return Ok(false);
        }
        if self.is_expired(record.expire_at) && self.has_feeds() {
            self.expire_in_job(tiers, record.space, record.key)?;
            return Ok(false);
        }
        let mut known = Known::default();
        loop {
            let step = self.run_now("compaction", |guard| {
                let spaces = self.keyspaces.load(guard)?;
                if !spaces.has_records_of(record.space) {
                    return Ok(false);
                }
                self.try_keep(guard, record, address, &known)
            })?;
            match step {
                Step::Done(is_kept) => return Ok(is_kept),
                // What only this job can bring about.
                Step::Wait(Wait::Space { .. }) => self.move_pages(tiers)?,
                Step::Wait(Wait::Growth) => {
                    self.move_pages(tiers)?;
                    self.grow_if_wanted(tiers)?;
                }
                Step::Wait(cold) => block_on(self.wait("compaction", cold, &mut known))?,
            }
        }
    }

    fn try_keep(
        &self,
        guard: &crate::epoch::Guard<'_>,
        record: &StoredRecord<'_>,
        address: LogicalAddress,
        known: &Known,
    ) -> Attempt<bool> {
        let name = self.name(record.space, record.key);
        if !self.is_in_use(guard, known, &name, record.value)? {
            return Ok(false);
        }
        let table = self.table_for(&name, guard)?;
        let cold = match self.find(table, &name, Access::Mover)? {
            Lookup::Cold(cold) => cold,
            Lookup::Absent(_) => return Ok(false),
            // One that is latched may yet fail.
            Lookup::Found(found) => {
                return found.record.latch().map(|_| false).ok_or(Interrupt::Again);
            }
        };
        if cold.address != address {
            let Some(newest) = known.key(cold.address, &name) else {
                return Err(Interrupt::Cold(vec![Asked::key(&cold, &name)]));
            };
            if newest.address != address {
                return Ok(false);
            }
        }
        if self.is_expired(record.expire_at) {
            if let Some(space) = self.keyspaces.load(guard)?.by_id(record.space) {
                space.count_removed();
            }
            let stored = Stored { bytes: record.value, is_long: record.header.is_long() };
            let (words, pieces) = (record.size_bytes / 8, Manifest::words_of(stored));
            if self.newly_dead(record.expire_at, words + pieces) > 0 {
                // The record goes with its page.
                self.count_cold_dead_words(pieces);
            }
            if stored.is_long {
                self.uncount_long(&name);
            }
            return Ok(false);
        }
        let stored = Stored { bytes: record.value, is_long: record.header.is_long() };
        let plan = blueprint(&name, stored, record.expire_at, record.value.len());
        let place = (cold.slot, cold.head);
        let previous = cold.head.address();
        match self.insert_at(place, previous, &plan, Purpose::Compaction, None)? {
            None => Err(Interrupt::Again),
            Some(_) => {
                self.records_moved.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
        }
    }
}
