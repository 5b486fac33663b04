//! Finding a key's record in its chain, linking a newer one, unlinking dead ones.
//!
//! A chain is a list of records by descending address, newest first; its head is an index entry.
//! New records are linked at the head only, by an exchange of the entry: two threads that add the
//! same key meet there, and the second looks again. Dead records are unlinked by whoever passes
//! (Harris, DISC 2001: a dead record's own link never changes any more, so no live record can be
//! lost behind it). A chain ends at the first address before the log's begin: as addresses descend,
//! everything behind lies there too.

use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::index::entry::Entry;
use crate::index::table::{Access, Slot, Table};
use crate::interrupt::Attempt;
use crate::keyspaces::Space;
use crate::log::Purpose;
use crate::log::record::{Blueprint, End, Latched, Record};

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

/// The outcome of a search.
pub(super) enum Lookup<'g> {
    Found(Found<'g>),
    /// Not there; the entry of its chain, if there is one.
    Absent(Option<(Slot<'g>, Entry)>),
}

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
            let Some((slot, mut head)) = table.find(name.hash, access)? else {
                return Ok(Lookup::Absent(None));
            };
            let begin = self.log.begin();
            let mut predecessor = None;
            let mut address = head.address();
            while address != LogicalAddress::NULL && address >= begin {
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
    ) -> Attempt<LogicalAddress> {
        let address = self.log.allocate(plan.words(), purpose)?;
        self.log.record(address).write_new(plan, previous);
        if address.offset(self.log.page_words_log2()) == 0 {
            self.consider_compaction();
        }
        Ok(address)
    }

    /// Gives up a record that was written and not linked.
    pub(super) fn abandon_record(&self, address: LogicalAddress) {
        let record = self.log.record(address);
        record.abandon();
        self.log.count_dead(address, record.size_words());
    }

    /// Links a new record in place of the latched one; `false` if the chain is another by now.
    /// Either way the latch is given back.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(super) fn replace(
        &self,
        found: &Found<'_>,
        latched: Latched<'_>,
        plan: &Blueprint<'_>,
        purpose: Purpose,
    ) -> Attempt<bool> {
        let is_head = found.head.address() == found.address;
        // A head is left out of the new chain at once: under its latch its own link stays.
        let previous = if is_head { latched.previous() } else { found.head.address() };
        // The head was read before the address is allocated: the address is greater.
        let address = self.write_record(plan, previous, purpose)?;
        if !found.slot.exchange(found.head, found.head.with_address(address)) {
            self.abandon_record(address);
            return Ok(false);
        }
        self.retire(found, latched, End::Replaced);
        Ok(true)
    }

    /// Ends a record's life: it is dead to everybody once the latch is given back, then unlinked.
    pub(super) fn retire(&self, found: &Found<'_>, latched: Latched<'_>, end: End) {
        let previous = latched.previous();
        latched.end(end);
        self.log.count_dead(found.address, found.record.size_words());
        if found.predecessor.is_some() {
            self.unlink(found.predecessor, found.address, previous);
        } else if end == End::Removed {
            let next = live_address(previous, self.log.begin());
            // If it fails, a newer record was linked before it, and the next search unlinks it.
            let _ = found.slot.exchange(found.head, found.head.with_address(next));
        }
    }

    /// Removes a latched record's key.
    pub(super) fn remove(&self, found: &Found<'_>, latched: Latched<'_>, space: &Space) {
        self.retire(found, latched, End::Removed);
        space.count_removed();
    }

    /// Links the first record of a key that a search found absent; `false` if the chain is another
    /// by now.
    ///
    /// # Errors
    /// `NoSpace`, `IndexFull`, `Again`.
    pub(super) fn insert(
        &self,
        table: &Table,
        place: Option<(Slot<'_>, Entry)>,
        name: &Name<'_>,
        plan: &Blueprint<'_>,
        space: &Space,
    ) -> Attempt<bool> {
        let begin = self.log.begin();
        let (slot, head) = match place {
            Some(place) => place,
            None => {
                let made = table.find_or_create(name.hash, Access::Shared, begin)?;
                if made.1.address() != LogicalAddress::NULL {
                    // Somebody else made it, maybe for this key.
                    return Ok(false);
                }
                made
            }
        };
        let address = match self.write_record(plan, head.address(), Purpose::Write) {
            Ok(address) => address,
            Err(interrupt) => {
                if head.address() == LogicalAddress::NULL {
                    // An entry without a record is not left behind.
                    let _ = slot.exchange(head, Entry::FREE);
                }
                return Err(interrupt);
            }
        };
        if !slot.exchange(head, head.with_address(address)) {
            self.abandon_record(address);
            return Ok(false);
        }
        space.count_added();
        Ok(true)
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
