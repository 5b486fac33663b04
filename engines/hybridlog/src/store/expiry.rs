//! Removing expired keys so that every change feed hears of it, once.
//!
//! An expired record is absent to everybody at once, stored or not. As long as nobody listens, who meets
//! it removes it where it may be changed in place; elsewhere it is left to compaction and to the next
//! write of its key. While a feed is open, who meets it (a read, a
//! sweep) notes it for the job; who is about to write over it, or to drop it (compaction), removes it
//! first. The removal is logged under the record's latch as any other, so there is one for each
//! expiry, before whatever becomes of the key next.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use ferrokit_engine::{CommitTicket, Durability, KeyspaceId, Result, block_on};

use super::chain::{Append, Lookup};
use super::drive::{Step, Wait};
use super::erase::Before;
use super::known::{Asked, ColdKey, Known};
use super::tiers::Tiers;
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::table::Access;
use crate::interrupt::{Attempt, Interrupt};
use crate::journal::Change;
use crate::keyspaces::Space;
use crate::log::record::{Latched, Record};
use crate::primitive::Ordering;

/// Keys noted for the job at a time: who is not noted is met again.
const NOTED_MAX: usize = 4096;
/// Keys that a step of the job removes.
const KEYS_PER_STEP: usize = 64;

/// Expired keys that were met.
#[derive(Default)]
pub(crate) struct ExpiredKeys {
    noted: Mutex<VecDeque<(u64, Box<[u8]>)>>,
    /// Whether a record with an expiry may be on disk: if not, no write needs to look for one there.
    has_expiries: AtomicBool,
}

impl ExpiredKeys {
    /// Notes a key that was met.
    fn note(&self, space: u64, key: &[u8]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX {
            noted.push_back((space, key.into()));
        }
    }

    fn take(&self) -> Option<(u64, Box<[u8]>)> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn is_empty(&self) -> bool {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Notes that there may be records with an expiry.
    pub(super) fn note_expiries(&self) {
        if !self.has_expiries.load(Ordering::Relaxed) {
            self.has_expiries.store(true, Ordering::SeqCst);
        }
    }

    /// Whether there may be records with an expiry.
    pub(super) fn has_expiries(&self) -> bool {
        self.has_expiries.load(Ordering::SeqCst)
    }
}

impl Store {
    /// Whether somebody listens to changes.
    #[inline]
    pub(super) fn has_feeds(&self) -> bool {
        self.journal().is_some_and(|journal| journal.has_feeds())
    }

    /// Whether a write must know if what it replaces on disk has expired.
    #[inline]
    pub(super) fn tells_expiries(&self) -> bool {
        self.has_feeds() && self.tiers.as_ref().is_some_and(|tiers| tiers.expired.has_expiries())
    }

    /// Takes note of a record's expiry, if it has one.
    #[inline]
    pub(super) fn note_expiry(&self, expire_at: u64) {
        if expire_at != 0
            && let Some(tiers) = &self.tiers
        {
            tiers.expired.note_expiries();
        }
    }

    /// Takes note of an expired key that was met.
    #[inline]
    pub(super) fn note_expired(&self, space: u64, key: &[u8]) {
        if self.has_feeds()
            && let Some(tiers) = &self.tiers
        {
            tiers.expired.note(space, key);
            tiers.wake();
        }
    }

    /// Removes the newest record of a key, which has expired, where that takes no write: nobody is to
    /// be told, and nothing older can come back. Elsewhere compaction does it.
    pub(super) fn drop_expired(&self, address: LogicalAddress, record: Record<'_>, space: &Space) {
        if self.has_feeds() || !self.log.is_mutable(address) {
            return;
        }
        // A feed that is opened from here on begins behind this.
        if let Some(latched) = record.latch()
            && !self.has_feeds()
            && self.is_expired_key(&latched)
            && latched.fits(0, 0)
        {
            self.bury(address, latched, space);
        }
    }

    /// Whether a record's key has expired.
    #[inline]
    pub(super) fn is_expired_key(&self, latched: &Latched<'_>) -> bool {
        !latched.is_tombstone() && self.is_expired(latched.expire_at())
    }

    /// Whether a record is to be removed before its key is written.
    #[inline]
    pub(super) fn is_to_tell(&self, latched: &Latched<'_>) -> bool {
        self.is_expired_key(latched) && self.has_feeds()
    }

    /// As [`is_to_tell`](Self::is_to_tell), of a record on disk.
    pub(super) fn is_cold_to_tell(&self, known: &ColdKey) -> bool {
        known.value.as_ref().is_some_and(|value| self.is_expired(value.expire_at))
            && self.has_feeds()
    }

    /// Runs `remove` with what appends a key's expiry to the log.
    pub(super) fn with_append_of_expiry<T>(
        &self,
        keyspace: KeyspaceId,
        name: &Name<'_>,
        remove: impl FnOnce(Option<&Append<'_>>) -> T,
    ) -> T {
        let Some(journal) = self.journal() else { return remove(None) };
        let change = Change::Expired { keyspace, key: name.key };
        // Not told of and lost in a crash, it would be told of again.
        let append = || journal.append(name.hash.0, self.clock.now(), change, Durability::Os);
        remove(Some(&append))
    }

    /// Removes a key if it has expired.
    fn try_expire(&self, guard: &Guard<'_>, known: &Known, space: u64, key: &[u8]) -> Attempt<()> {
        let spaces = self.keyspaces.load(guard)?;
        let Some((keyspace, space)) = spaces.named(space) else { return Ok(()) };
        let name = self.name(space.id(), key);
        let table = self.table_for(&name, guard)?;
        let removed: Option<CommitTicket> = match self.find(table, &name, Access::Shared)? {
            Lookup::Absent(_) => return Ok(()),
            Lookup::Found(found) => {
                let Some(latched) = found.record.latch() else { return Err(Interrupt::Again) };
                if !self.is_expired_key(&latched) {
                    return Ok(());
                }
                self.with_append_of_expiry(keyspace, &name, |append| {
                    self.erase_logged(&name, space, &found, latched, append)
                })?
            }
            Lookup::Cold(cold) => {
                let Some(record) = known.key(cold.address, &name) else {
                    return Err(Interrupt::Cold(vec![Asked::key(&cold, &name)]));
                };
                if !record.value.as_ref().is_some_and(|it| self.is_expired(it.expire_at)) {
                    return Ok(());
                }
                let before = Before { cold: &cold, link: Some(record.link), old: Some(record) };
                self.with_append_of_expiry(keyspace, &name, |append| {
                    self.erase_over_logged(&name, space, &before, append)
                })?
            }
        };
        removed.map(drop).ok_or(Interrupt::Again)
    }

    /// Removes expired keys for a write that waits for it.
    ///
    /// # Errors
    /// Those of the log and of cold reads; `OutOfSpace`.
    pub(super) async fn expire_all(&self, keys: Vec<(u64, Box<[u8]>)>) -> Result<()> {
        for (space, key) in keys {
            let mut known = Known::default();
            loop {
                let step =
                    self.run_now("expiry", |guard| self.try_expire(guard, &known, space, &key))?;
                match step {
                    Step::Done(()) => break,
                    Step::Wait(Wait::Cold(asked)) => self.read_records(asked, &mut known).await?,
                    Step::Wait(Wait::Space { words }) => {
                        self.wait_for_space("expiry", words).await?;
                    }
                    Step::Wait(Wait::Growth) => self.wait_for_growth().await?,
                    // An attempt to do just that asks for no more of it.
                    Step::Wait(Wait::Expired(_)) => {}
                }
            }
        }
        Ok(())
    }

    /// Removes a key if it has expired: a part of the job, which nobody else makes room for.
    ///
    /// # Errors
    /// Those of the log, of cold reads, and of flushing pages.
    pub(super) fn expire_in_job(&self, tiers: &Tiers, space: u64, key: &[u8]) -> Result<()> {
        let mut known = Known::default();
        loop {
            let step =
                self.run_now("expiry", |guard| self.try_expire(guard, &known, space, key))?;
            match step {
                Step::Done(()) => return Ok(()),
                Step::Wait(Wait::Space { .. }) => self.move_pages(tiers)?,
                // For reads of the device alone: nothing here adds an entry to the index.
                Step::Wait(wait) => block_on(self.wait("expiry", wait, &mut known))?,
            }
        }
    }

    /// Removes keys that were noted; whether there are more.
    pub(super) fn collect_expired(&self, tiers: &Tiers) -> Result<bool> {
        for _ in 0..KEYS_PER_STEP {
            let Some((space, key)) = tiers.expired.take() else { return Ok(false) };
            // After the last feed nobody is to be told.
            if self.has_feeds() {
                self.expire_in_job(tiers, space, &key)?;
            }
        }
        Ok(!tiers.expired.is_empty())
    }
}
