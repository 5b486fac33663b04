//! Space in memory: compaction of the oldest page, and what a write does when it is short. With
//! tiers, pages go to disk instead ([`tiers`](super::tiers)).
//!
//! The log frees memory from its old end only. What is still alive in the oldest page is moved to
//! the tail, then the page is given up. In the background this happens once a configured share of
//! the pages is dead; a write that finds no room does it itself. A write is refused only when a
//! whole round over the log frees nothing.

use std::sync::PoisonError;

use ferrokit_engine::{Error, ErrorKind, Result, UnixMillis};

use super::Store;
use super::chain::Lookup;
use super::known::Known;
use super::write::{Stored, blueprint};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::Growth;
use crate::index::table::Access;
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::owner_of;
use crate::log::record::End;
use crate::log::{Purpose, RESERVED_FRAMES};
use crate::primitive::{Backoff, Ordering};

/// Below this many pages there is nothing worth compacting.
const MIN_PAGES: u64 = 4;
/// Buckets that a step of maintenance migrates.
const BUCKETS_PER_STEP: u64 = 1024;
/// How long a fruitless round stands before time alone (expired records) is a reason to try again.
const ROUND_STANDS_MILLIS: u64 = 1000;

/// What compaction remembers.
#[derive(Default)]
pub(super) struct Maintenance {
    /// The last round that freed nothing: when it was, and what was known to be dead after it.
    fruitless: Option<(UnixMillis, u64)>,
}

impl Store {
    /// Makes room for an ordinary write of `words` words. The caller is in no epoch.
    ///
    /// # Errors
    /// `OutOfSpace` if a whole round over the log makes none; `Busy` if an operation does not end.
    pub(super) fn make_space(&self, operation: &'static str, words: u64) -> Result<()> {
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        if self.log.has_room(words) {
            return Ok(());
        }
        let full = || {
            Error::new(
                ErrorKind::OutOfSpace,
                operation,
                "the live data fills the engine's memory; delete some, or open it with more",
            )
        };
        let page_words = self.log.page_words() as u64;
        if let Some((at, dead_words)) = maintenance.fruitless {
            let has_new_garbage = self.log.dead_words() >= dead_words + words.max(page_words)
                || self.has_cleared_pages()
                || self.clock.now() >= at.plus(ROUND_STANDS_MILLIS);
            if !has_new_garbage {
                return Err(full());
            }
        }
        let round_end = self.log.tail_page();
        while !self.log.has_room(words) {
            let page = self.log.begin_page();
            if page > round_end || page >= self.log.tail_page() || !self.compact(operation)? {
                maintenance.fruitless = Some((self.clock.now(), self.log.dead_words()));
                return Err(full());
            }
        }
        maintenance.fruitless = None;
        Ok(())
    }

    /// Lets the next write that is short go through the log again, whatever the last one found.
    pub(super) fn forget_fruitless_round(&self) {
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        maintenance.fruitless = None;
    }

    /// Asks for maintenance if enough of the log is dead. Called once per opened page.
    pub(super) fn consider_compaction(&self) {
        if let Some(tiers) = &self.tiers {
            tiers.wake();
        } else if self.wants_compaction() {
            self.want_maintenance();
        }
    }

    /// Begins to double the index, or has it done by whoever divides the memory.
    #[cold]
    pub(super) fn want_growth(&self, guard: &Guard<'_>) {
        if !self.ask_for_growth()
            && self.index.start_growth(guard).is_ok_and(|growth| growth == Growth::Begun)
        {
            self.want_maintenance();
        }
    }

    fn wants_compaction(&self) -> bool {
        let used_words = self.log.used_words();
        if used_words < MIN_PAGES * self.log.page_words() as u64 {
            return false;
        }
        let dead_words = self.log.dead_words();
        let is_low = self.log.free_frames() <= RESERVED_FRAMES + 1 + self.log.frames() / 16;
        self.has_cleared_pages()
            || dead_words > used_words / 100 * self.garbage_percent
            || (is_low && dead_words >= 2 * self.log.page_words() as u64)
    }

    fn has_cleared_pages(&self) -> bool {
        self.log.begin_page()
            < self.collect_before_page.load(Ordering::Acquire).min(self.log.tail_page())
    }

    /// Does one bounded step of what is to be done; whether more is.
    pub(crate) fn maintain(&self) -> bool {
        let is_growing = {
            let guard = self.epochs.enter();
            self.index.help_grow(BUCKETS_PER_STEP, &*self.log, &guard)
        };
        self.epochs.run_actions();
        if self.tiers.is_some() || !self.wants_compaction() {
            return is_growing;
        }
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure here is met again by the write that needs the space.
        let is_compacted = matches!(self.compact("compaction"), Ok(true));
        is_growing || (is_compacted && self.wants_compaction())
    }

    /// Moves what lives in the oldest page to the tail and gives the page up. `false` if there is
    /// no closed page, or no room to move to. The caller has `maintenance` and is in no epoch.
    fn compact(&self, operation: &'static str) -> Result<bool> {
        let stalled = |_| Error::new(ErrorKind::Busy, operation, "an operation does not end");
        let page = self.log.begin_page();
        if page >= self.log.tail_page() {
            return Ok(false);
        }
        let mut backoff = Backoff::default();
        let closed = loop {
            match self.log.closed_epoch(page) {
                Some(epoch) => break epoch,
                // Whoever opened the next page is about to say so.
                None => backoff.wait(),
            }
        };
        // All who allocated in the page have written their records.
        self.epochs.wait_safe(closed).map_err(stalled)?;
        let log2 = self.log.page_words_log2();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut offset = 0;
        while offset + 4 <= self.log.page_words() as u64 {
            let address = LogicalAddress::new(page, offset, log2);
            match self.compact_record(operation, address, &mut key, &mut value)? {
                Some(0) => break,
                Some(words) => offset += words as u64,
                None => return Ok(false),
            }
        }
        let released = self.log.release_oldest();
        self.pages_compacted.fetch_add(1, Ordering::Relaxed);
        self.epochs.wait_safe(released).map_err(stalled)?;
        Ok(true)
    }

    /// Moves one record if it lives. Its words, 0 at the end of the page; `None` without room.
    fn compact_record(
        &self,
        operation: &'static str,
        address: LogicalAddress,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let mut backoff = Backoff::default();
        loop {
            let guard = self.epochs.enter();
            let attempt = self.move_record(&guard, address, key, value);
            drop(guard);
            match attempt {
                Ok(words) => return Ok(Some(words)),
                // Nothing is on disk.
                Err(Interrupt::Again | Interrupt::Cold(_) | Interrupt::Expired(_)) => {
                    backoff.wait();
                }
                Err(Interrupt::NoSpace { .. }) => return Ok(None),
                Err(Interrupt::IndexFull) => {
                    self.grow_index(operation)?;
                }
                Err(Interrupt::Failed(error)) => return Err(error),
            }
        }
    }

    fn move_record(
        &self,
        guard: &Guard<'_>,
        address: LogicalAddress,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Attempt<usize> {
        let record = self.log.record(address);
        let words = record.size_words();
        if words == 0 || record.header().is_dead() {
            return Ok(words);
        }
        let spaces = self.keyspaces.load(guard)?;
        let name = self.name_of(record, key);
        let table = self.table_for(&name, guard)?;
        let found = match self.find(table, &name, Access::Mover)? {
            Lookup::Found(found) if found.address == address => found,
            // It died meanwhile, or this search missed it: look at it again.
            _ if record.header().is_dead() => return Ok(words),
            _ => return Err(Interrupt::Again),
        };
        let mut is_in_use = spaces.has_records_of(name.space);
        if is_in_use && owner_of(name.space).is_some() {
            value.clear();
            // Nobody writes to a piece.
            is_in_use = record.read(value).is_ok()
                && self.is_in_use(guard, &Known::default(), &name, value)?;
        }
        let Some(latched) = record.latch() else { return Ok(words) };
        match spaces.by_id(name.space) {
            _ if !is_in_use => self.retire(&found, latched, End::Removed),
            Some(space) if self.is_expired(latched.expire_at()) => {
                self.remove(&found, latched, space);
            }
            _ => {
                value.clear();
                let copied = latched.copy_value(value);
                // Room that a value grew to is kept, room it left is not.
                let room = latched.capacity();
                let capacity = if copied.value_len * 2 < room { copied.value_len } else { room };
                let stored = Stored { bytes: value, is_long: copied.is_long };
                let plan = blueprint(&name, stored, copied.expire_at, capacity);
                let moved = self.replace(&found, latched, &plan, Purpose::Compaction, None)?;
                if moved.is_none() {
                    return Err(Interrupt::Again);
                }
                self.records_moved.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(words)
    }

    /// Makes room in the index: finishes a growth under way, or begins one; `false` while a
    /// checkpoint needs the index as it is. The caller is in no epoch.
    ///
    /// # Errors
    /// `OutOfSpace` if the index is as large as it may become.
    pub(super) fn grow_index(&self, operation: &'static str) -> Result<bool> {
        {
            let guard = self.epochs.enter();
            if !self.index.is_growing(&guard) {
                if self.tiers.is_some() && self.journal().is_none() {
                    // What was once accepted is opened: the log may hold what compaction has made
                    // room for before the crash, and does so again only later.
                    self.index.start_growth_beyond(&guard)?;
                    return Ok(true);
                }
                if self.index.is_at_limit(&guard) {
                    return Err(Error::new(
                        ErrorKind::OutOfSpace,
                        operation,
                        "the index is full; open the engine with a larger index_max",
                    ));
                }
                if self.ask_for_growth() {
                    return Ok(false);
                }
                if self.index.start_growth(&guard)? == Growth::Begun {
                    self.want_maintenance();
                }
                return Ok(true);
            }
        }
        let mut backoff = Backoff::default();
        loop {
            let guard = self.epochs.enter();
            if !self.index.help_grow(BUCKETS_PER_STEP, &*self.log, &guard) {
                return Ok(true);
            }
            drop(guard);
            // A bucket that is left may be latched by a batch.
            backoff.wait();
        }
    }
}
