//! Writes that become visible together.
//!
//! The buckets of all keys are latched in ascending order and the entries of the keys *held*, so
//! that no operation that was already under way changes them. All records are written to the tail
//! before the first one is linked: whatever can fail has failed by then, and nothing has happened.
//! Readers that begin meanwhile wait at the latches; those that began earlier see the keys before
//! the batch, or end after it.

use ferrokit_engine::{BatchOp, Result, WriteBatch};

use super::chain::{Found, Lookup};
use super::write::blueprint;
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::index::entry::Entry;
use crate::index::latches::Latches;
use crate::index::table::{Access, Slot, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::{Space, Spaces};
use crate::log::Purpose;
use crate::log::record::{End, Record};

/// One write of a batch, the last of its key.
struct Planned<'b> {
    name: Name<'b>,
    keyspace: ferrokit_engine::KeyspaceId,
    /// The value and its expiry; `None` removes.
    put: Option<(&'b [u8], u64)>,
}

/// The new record of a key, written and not linked.
struct Prepared<'t> {
    slot: Slot<'t>,
    /// The tag of its entry: another write of the batch may empty the entry meanwhile.
    tag: u64,
    address: LogicalAddress,
}

impl Store {
    /// Applies a batch; answers whether any of its keys was present before.
    ///
    /// # Errors
    /// `InvalidArgument`, `OutOfSpace`, `Busy`; nothing of the batch took effect then.
    pub(crate) fn write(&self, batch: &WriteBatch) -> Result<bool> {
        if batch.is_empty() {
            return Ok(false);
        }
        self.run("write", |guard| {
            let spaces = self.keyspaces.load(guard)?;
            let plan = self.plan(batch, spaces)?;
            let names: Vec<Name<'_>> = plan.iter().map(|write| write.name).collect();
            let table = self.table_for_all(&names, guard)?;
            let mut latches = Latches::take(table, names.iter().map(|name| name.hash))?;
            let prepared = self.prepare(table, &plan, &mut latches)?;
            latches.mark_changed();
            let existed = self.apply(table, &plan, prepared, spaces);
            drop(latches);
            self.help_index(guard);
            Ok(existed)
        })
    }

    /// The last write of each key.
    fn plan<'b>(&self, batch: &'b WriteBatch, spaces: &Spaces) -> Result<Vec<Planned<'b>>> {
        let mut plan = Vec::with_capacity(batch.len());
        for op in batch.iter() {
            let keyspace = op.keyspace();
            let name = self.name(spaces.of(keyspace)?.id(), op.key());
            let put = match op {
                BatchOp::Put { expire_at, .. } if self.is_past(expire_at) => None,
                BatchOp::Put { value, expire_at, .. } => {
                    Some((value, expire_at.map_or(0, |at| at.0)))
                }
                BatchOp::Delete { .. } => None,
            };
            plan.push(Planned { name, keyspace, put });
        }
        // Stable: of the writes to one key the last one stays last, and is kept.
        plan.reverse();
        plan.sort_by(|a, b| {
            let order = |write: &Planned<'b>| (write.name.hash, write.name.space, write.name.key);
            order(a).cmp(&order(b))
        });
        plan.dedup_by(|later, kept| {
            later.name.space == kept.name.space && later.name.key == kept.name.key
        });
        Ok(plan)
    }

    /// Holds the entries of all keys and writes their new records. Nothing is visible of it; if it
    /// is interrupted, nothing is left of it.
    fn prepare<'t>(
        &self,
        table: &'t Table,
        plan: &[Planned<'_>],
        latches: &mut Latches<'t>,
    ) -> Attempt<Vec<Option<Prepared<'t>>>> {
        let mut prepared: Vec<Option<Prepared<'t>>> = Vec::with_capacity(plan.len());
        for write in plan {
            match self.prepare_one(table, write, latches) {
                Ok(one) => prepared.push(one),
                Err(interrupt) => {
                    for one in prepared.into_iter().flatten() {
                        self.abandon_record(one.address);
                    }
                    return Err(match interrupt {
                        Interrupt::NoSpace { .. } => Interrupt::NoSpace { words: words(plan) },
                        other => other,
                    });
                }
            }
        }
        Ok(prepared)
    }

    fn prepare_one<'t>(
        &self,
        table: &'t Table,
        write: &Planned<'_>,
        latches: &mut Latches<'t>,
    ) -> Attempt<Option<Prepared<'t>>> {
        let Some((value, expire_at)) = write.put else {
            if let Some((slot, _)) = table.find(write.name.hash, Access::Holder)? {
                latches.hold(slot);
            }
            return Ok(None);
        };
        let hash = write.name.hash;
        let slot = loop {
            let (slot, seen) = table.find_or_create(hash, Access::Holder, self.log.begin())?;
            // Somebody who was under way may give the slot to another chain before it is held.
            let held = latches.hold(slot);
            if held.tag() == seen.tag() && !held.is_tentative() {
                break slot;
            }
        };
        let plan = blueprint(&write.name, value, expire_at, value.len());
        // From here on the head stays, so that this address is greater.
        let address = self.write_record(&plan, LogicalAddress::NULL, Purpose::Write)?;
        Ok(Some(Prepared { slot, tag: hash.tag(), address }))
    }

    /// Links all records and ends the ones they replace. Nothing here can fail.
    fn apply(
        &self,
        table: &Table,
        plan: &[Planned<'_>],
        prepared: Vec<Option<Prepared<'_>>>,
        spaces: &Spaces,
    ) -> bool {
        let mut existed = false;
        for (write, prepared) in plan.iter().zip(prepared) {
            // `plan` was made with the same spaces.
            let Ok(space) = spaces.of(write.keyspace) else { continue };
            let old = self.find_latched(table, &write.name);
            existed |= match prepared {
                Some(new) => self.apply_put(old, &new, space),
                None => self.apply_delete(old, space),
            };
        }
        existed
    }

    /// The record of a key whose bucket the caller has latched.
    fn find_latched<'g>(&'g self, table: &'g Table, name: &Name<'_>) -> Option<Found<'g>> {
        loop {
            match self.find(table, name, Access::Holder) {
                Ok(Lookup::Found(found)) => return Some(found),
                Ok(Lookup::Absent(_)) => return None,
                // A latched bucket is not migrated; nothing else interrupts its holder.
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    fn apply_put(&self, old: Option<Found<'_>>, new: &Prepared<'_>, space: &Space) -> bool {
        // A removal that was under way may end while the latch is waited for.
        let old = old.and_then(|old| old.record.latch().map(|latched| (old, latched)));
        let head = new.slot.load();
        let record: Record<'_> = self.log.record(new.address);
        record.set_previous(head.address());
        debug_assert!(head.is_held() && head.address() < new.address);
        new.slot.store_held(Entry::new(new.tag, new.address).held());
        match old {
            Some((old, latched)) => {
                let existed = !self.is_expired(latched.expire_at());
                self.retire(&old, latched, End::Replaced);
                existed
            }
            None => {
                space.count_added();
                false
            }
        }
    }

    fn apply_delete(&self, old: Option<Found<'_>>, space: &Space) -> bool {
        let Some(old) = old else { return false };
        let Some(latched) = old.record.latch() else { return false };
        let existed = !self.is_expired(latched.expire_at());
        self.remove(&old, latched, space);
        existed
    }
}

/// The words of all records of a batch.
fn words(plan: &[Planned<'_>]) -> u64 {
    plan.iter()
        .filter_map(|write| {
            let (value, expire_at) = write.put?;
            Some(blueprint(&write.name, value, expire_at, value.len()).words() as u64)
        })
        .sum()
}
