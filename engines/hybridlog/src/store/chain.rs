//! Finding a key's record in its chain, linking a newer one, unlinking dead ones.
//!
//! A chain is a list of records by descending address, newest first; its head is an index entry.
//! New records are linked at the head only, by an exchange of the entry: two threads that add the
//! same key meet there, and the second looks again. Dead records are unlinked by whoever passes
//! (Harris, DISC 2001: a dead record's own link never changes any more, so no live record can be
//! lost behind it). A chain ends at the first address before the log's begin: as addresses descend,
//! everything behind lies there too. In the same way, from the first address before the log's head
//! on, all of it is *cold*: on disk, where nothing is unlinked.

use ferrokit_engine::{CommitTicket, Result};

use super::known::ColdKey;
use super::long::{MANIFEST_BYTES, Manifest};
use super::write::Stored;
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::index::entry::Entry;
use crate::index::table::{Access, Slot, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::Space;
use crate::log::Purpose;
use crate::log::record::{Blueprint, Born, End, Latched, Record};

/// A key's record and the way to it.
pub(super) struct Found<'g> {
    pub(super) slot: Slot<'g>,
    /// The entry by which it was found.
    pub(super) head: Entry,
    /// The record before it in the chain, unless it is the head.
    pub(super) predecessor: Option<LogicalAddress>,
    pub(super) address: LogicalAddress,
    pub(super) record: Record<'g>,
}

/// The part of a chain that is not in memory, where the key may be.
pub(super) struct Cold<'g> {
    pub(super) slot: Slot<'g>,
    /// The entry by which it was found.
    pub(super) head: Entry,
    /// Where the cold part begins.
    pub(super) address: LogicalAddress,
    /// Where the log began then.
    pub(super) begin: LogicalAddress,
}

/// The outcome of a search.
pub(super) enum Lookup<'g> {
    Found(Found<'g>),
    /// Not there; the entry of its chain, if there is one.
    Absent(Option<(Slot<'g>, Entry)>),
    /// Not in memory.
    Cold(Cold<'g>),
}

/// What writes a change into the log, of a record that is linked and that nobody sees yet.
pub(super) type Append<'a> = dyn Fn() -> Result<CommitTicket> + 'a;

impl Store {
    /// Searches a key's newest record, unlinking dead ones on the way.
    pub(super) fn find<'g>(
        &'g self,
        table: &'g Table,
        name: &Name<'_>,
        access: Access,
    ) -> Attempt<Lookup<'g>> {
        // The newest replaced record for which the search was begun anew.
        let mut replaced = LogicalAddress::NULL;
        'anew: loop {
            // Before the entry: what compaction moves from here on, it moves behind this look.
            let begin = self.log.begin();
            let Some((slot, mut head)) = table.find(name.hash, access)? else {
                return Ok(Lookup::Absent(None));
            };
            #[cfg(all(test, not(loom)))]
            super::races::pause();
            // Read after the begin, and neither ever falls: not before it.
            let in_memory = self.log.head();
            let mut predecessor = None;
            let mut address = head.address();
            while address >= in_memory {
                let record = self.log.record(address);
                let header = record.header();
                let is_named = record.is_of(name.space, name.hash.low(), name.key);
                if !header.is_dead() {
                    if is_named {
                        return Ok(Lookup::Found(Found {
                            slot,
                            head,
                            predecessor,
                            address,
                            record,
                        }));
                    }
                    predecessor = Some(address);
                } else if is_named && header.is_replaced() && address > replaced {
                    // Its successor was linked before it died, maybe after this search read the
                    // head. A search begun from here on finds the successor of this one, and so of
                    // every older one, unless that is dead too.
                    replaced = address;
                    continue 'anew;
                } else if predecessor.is_some() {
                    self.unlink(predecessor, address, header.previous());
                } else {
                    let next = live_address(header.previous(), begin);
                    if slot.exchange(head, head.with_address(next)) {
                        head = head.with_address(next);
                        if head == Entry::FREE {
                            return Ok(Lookup::Absent(None));
                        }
                    }
                }
                address = header.previous();
            }
            if address >= begin {
                if self.tiers.is_none() {
                    // Its page was given up since.
                    return Err(Interrupt::Again);
                }
                return Ok(Lookup::Cold(Cold { slot, head, address, begin }));
            }
            return Ok(Lookup::Absent(Some((slot, head))));
        }
    }

    fn unlink(
        &self,
        predecessor: Option<LogicalAddress>,
        dead: LogicalAddress,
        next: LogicalAddress,
    ) {
        if let Some(predecessor) = predecessor {
            self.log.record(predecessor).unlink(dead, next);
        }
    }

    /// Allocates and writes a record that is not linked yet.
    pub(super) fn write_record(
        &self,
        plan: &Blueprint<'_>,
        previous: LogicalAddress,
        purpose: Purpose,
        born: Born,
    ) -> Attempt<LogicalAddress> {
        let address = self.log.allocate(plan.words(), purpose)?;
        self.log.record(address).write_new(plan, previous, born);
        if plan.expire_at != 0 && purpose == Purpose::Write {
            self.count_expiring(plan);
        }
        if plan.is_tombstone {
            // It goes with its page: all of it is garbage from the beginning.
            self.log.count_dead(address, plan.words());
        }
        if address.offset(self.log.page_words_log2()) == 0 {
            self.consider_compaction();
        }
        Ok(address)
    }

    /// Counts a new record, and what it alone leads to, by its expiry.
    #[cold]
    fn count_expiring(&self, plan: &Blueprint<'_>) {
        if let Some(tiers) = &self.tiers {
            let stored = Stored { bytes: plan.value, is_long: plan.is_long };
            tiers.expiring.add(plan.expire_at, plan.words() + Manifest::words_of(stored));
        }
    }

    /// The words that are dead from now on of a record that goes before it expires, or after: none if
    /// its expiry has counted them.
    pub(super) fn newly_dead(&self, expire_at: u64, words: usize) -> usize {
        let is_new =
            self.tiers.as_ref().is_none_or(|tiers| tiers.expiring.remove(expire_at, words));
        if is_new { words } else { 0 }
    }

    /// Gives up a record that was written and not linked.
    pub(super) fn abandon_record(&self, address: LogicalAddress) {
        let record = self.log.record(address);
        if !record.header().is_tombstone() {
            self.log.count_dead(address, record.size_words());
        }
        record.abandon();
    }

    /// Links a new record in place of the latched one; `None` if the chain is another by now.
    /// Either way the latch is given back. With `append`, nobody sees the new record before that
    /// has succeeded.
    ///
    /// # Errors
    /// `NoSpace`; those of `append`, and the latched record lives on.
    pub(super) fn replace(
        &self,
        found: &Found<'_>,
        latched: Latched<'_>,
        plan: &Blueprint<'_>,
        purpose: Purpose,
        append: Option<&Append<'_>>,
    ) -> Attempt<Option<CommitTicket>> {
        // A head is left out of the new chain: under its latch its own link stays.
        let is_head = found.head.address() == found.address;
        let behind = if is_head { latched.previous() } else { found.head.address() };
        // The head was read before the address is allocated: the address is greater.
        let Some(append) = append else {
            let address = self.write_record(plan, behind, purpose, Born::Free)?;
            if !found.slot.exchange(found.head, found.head.with_address(address)) {
                self.abandon_record(address);
                return Ok(None);
            }
            self.retire(found, latched, End::Replaced);
            return Ok(Some(CommitTicket::NONE));
        };
        let head = found.head.address();
        let Some((mut new, ticket)) =
            self.link(found.slot, found.head, head, plan, purpose, append)?
        else {
            return Ok(None);
        };
        new.set_previous(behind);
        self.retire(found, latched, End::Replaced);
        drop(new);
        Ok(Some(ticket))
    }

    /// Links a new record, latched, at the head of a chain and appends its change; `None` if the
    /// chain is another by now.
    ///
    /// # Errors
    /// `NoSpace`; those of `append`, and the new record is dead.
    pub(super) fn link<'g>(
        &'g self,
        slot: Slot<'_>,
        head: Entry,
        previous: LogicalAddress,
        plan: &Blueprint<'_>,
        purpose: Purpose,
        append: &Append<'_>,
    ) -> Attempt<Option<(Latched<'g>, CommitTicket)>> {
        let address = self.write_record(plan, previous, purpose, Born::Latched)?;
        if !slot.exchange(head, head.with_address(address)) {
            self.abandon_record(address);
            return Ok(None);
        }
        let new = self.log.record(address).born_latched();
        match append() {
            Ok(ticket) => Ok(Some((new, ticket))),
            Err(error) => {
                new.end(End::Removed);
                if !plan.is_tombstone {
                    self.log.count_dead(address, plan.words());
                }
                Err(error.into())
            }
        }
    }

    /// Makes a latched record in memory a tombstone where it is, if that fits.
    pub(super) fn bury(&self, address: LogicalAddress, mut latched: Latched<'_>, space: &Space) {
        self.log.count_dead(address, self.words_that_die(&latched));
        latched.bury();
        space.count_removed();
    }

    /// Ends a record's life: it is dead to everybody once the latch is given back, then unlinked.
    pub(super) fn retire(&self, found: &Found<'_>, latched: Latched<'_>, end: End) {
        let previous = latched.previous();
        if !latched.is_tombstone() {
            self.log.count_dead(found.address, self.words_that_die(&latched));
        }
        latched.end(end);
        if found.predecessor.is_some() {
            self.unlink(found.predecessor, found.address, previous);
        } else if end == End::Removed {
            let next = live_address(previous, self.log.begin());
            // If it fails, a newer record was linked before it, and the next search unlinks it.
            let _ = found.slot.exchange(found.head, found.head.with_address(next));
        }
    }

    /// The words of a record that dies, and of what it alone leads to.
    fn words_that_die(&self, latched: &Latched<'_>) -> usize {
        let mut words = latched.record().size_words();
        if latched.is_long() {
            let (mut key, mut manifest) = (Vec::new(), Vec::with_capacity(MANIFEST_BYTES));
            self.uncount_long(&self.name_of(latched.record(), &mut key));
            latched.copy_value(&mut manifest);
            words += Manifest::words_of(Stored { bytes: &manifest, is_long: true });
        }
        match latched.expire_at() {
            0 => words,
            expire_at => self.newly_dead(expire_at, words),
        }
    }

    /// Counts as dead what a new record of `words` words replaces on disk, or about as much as itself
    /// if that is not known.
    pub(super) fn count_cold_dead(&self, name: &Name<'_>, old: Option<&ColdKey>, words: usize) {
        let words = match old {
            None => words,
            Some(ColdKey { value: None, .. }) => 0,
            Some(ColdKey { value: Some(old), .. }) => {
                if old.is_long {
                    self.uncount_long(name);
                }
                let words = old.words(name) + Manifest::words_of(old.stored());
                self.newly_dead(old.expire_at, words)
            }
        };
        self.count_cold_dead_words(words);
    }

    /// Removes a latched record's key.
    pub(super) fn remove(&self, found: &Found<'_>, latched: Latched<'_>, space: &Space) {
        self.retire(found, latched, End::Removed);
        space.count_removed();
    }

    /// Links the first record in memory of a key, before what `previous` says of the chain; `None`
    /// if the chain is another by now.
    ///
    /// # Errors
    /// `NoSpace`; those of `append`.
    pub(super) fn insert_at(
        &self,
        (slot, head): (Slot<'_>, Entry),
        previous: LogicalAddress,
        plan: &Blueprint<'_>,
        purpose: Purpose,
        append: Option<&Append<'_>>,
    ) -> Attempt<Option<CommitTicket>> {
        if let Some(append) = append {
            let Some((mut new, ticket)) =
                self.link(slot, head, head.address(), plan, purpose, append)?
            else {
                return Ok(None);
            };
            new.set_previous(previous);
            return Ok(Some(ticket));
        }
        let address = self.write_record(plan, previous, purpose, Born::Free)?;
        if !slot.exchange(head, head.with_address(address)) {
            self.abandon_record(address);
            return Ok(None);
        }
        Ok(Some(CommitTicket::NONE))
    }

    /// Links the first record of a key that a search found absent; `None` if the chain is another
    /// by now.
    ///
    /// # Errors
    /// `NoSpace`, `IndexFull`, `Again`; those of `append`.
    pub(super) fn insert(
        &self,
        table: &Table,
        place: Option<(Slot<'_>, Entry)>,
        name: &Name<'_>,
        plan: &Blueprint<'_>,
        append: Option<&Append<'_>>,
    ) -> Attempt<Option<CommitTicket>> {
        let (slot, head) = match place {
            Some(place) => place,
            None => {
                let made = table.find_or_create(name.hash, Access::Shared, self.log.begin())?;
                if made.1.address() != LogicalAddress::NULL {
                    // Somebody else made it, maybe for this key.
                    return Ok(None);
                }
                made
            }
        };
        let inserted = self.insert_at((slot, head), head.address(), plan, Purpose::Write, append);
        if inserted.is_err() && head.address() == LogicalAddress::NULL {
            // An entry without a record is not left behind.
            let _ = slot.exchange(head, Entry::FREE);
        }
        inserted
    }

    /// The table for a key, or an interrupt if its bucket is being migrated.
    #[inline]
    pub(super) fn table_for<'g>(
        &'g self,
        name: &Name<'_>,
        guard: &'g crate::epoch::Guard<'_>,
    ) -> Attempt<&'g Table> {
        self.index.settle(name.hash.low(), &*self.log, guard)
    }
}

/// The address, or null if nothing lives there or behind it.
fn live_address(address: LogicalAddress, begin: LogicalAddress) -> LogicalAddress {
    if address < begin { LogicalAddress::NULL } else { address }
}
