//! Writes that become visible together.
//!
//! The buckets of all keys are latched in ascending order and the entries of the keys *held*, so
//! that no operation that was already under way changes them. All records are written to the tail
//! and all old ones latched before the first one is linked: whatever can fail has failed by then,
//! and nothing has happened. The last of it is the one record of the log. Readers that begin
//! meanwhile wait at the latches; those that began earlier see the keys before the batch, or end
//! after it.

use ferrokit_engine::{BatchOp, CommitTicket, Durability, Op, Result, WriteBatch};

use super::chain::{Found, Lookup};
use super::erase::is_counted;
use super::known::{Asked, ColdKey, Known};
use super::long::Unlinked;
use super::write::{NewValue, Outcome, tombstone};
use super::{Name, Store};
use crate::address::LogicalAddress;
use crate::epoch::Guard;
use crate::index::entry::Entry;
use crate::index::latches::Latches;
use crate::index::table::{Access, Slot, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::{Space, Spaces};
use crate::log::Purpose;
use crate::log::record::{Born, End, Latched, Record};

/// One write of a batch, the last of its key.
struct Planned<'b> {
    name: Name<'b>,
    keyspace: ferrokit_engine::KeyspaceId,
    /// The value; `None` removes.
    put: Option<NewValue<'b>>,
    /// The pieces of a value that is long.
    pieces: Option<&'b Unlinked>,
}

/// The new record of a key, written and not linked.
struct Prepared<'t> {
    slot: Slot<'t>,
    /// The tag of its entry: another write of the batch may empty the entry meanwhile.
    tag: u64,
    address: LogicalAddress,
}

/// What a batch finds of a key.
enum Old<'g> {
    Nothing,
    /// Its record in memory, latched.
    Record(Found<'g>, Latched<'g>),
    /// Something on disk; whether the key is present, or a guess.
    Cold {
        existed: bool,
        /// What it is, where that is known.
        known: Option<&'g ColdKey>,
    },
}

impl Old<'_> {
    /// Whether the key is counted among the entries of its keyspace.
    fn is_counted(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Record(_, latched) => !latched.is_tombstone(),
            Self::Cold { known, .. } => is_counted(*known),
        }
    }
}

impl Store {
    /// Applies a batch; whether any of its keys was present before, if that is to be reported.
    ///
    /// # Errors
    /// `InvalidArgument`, `OutOfSpace`, `Busy`; those of the log and of cold reads. Nothing of the
    /// batch took effect then.
    pub(crate) fn write<'a>(
        &'a self,
        batch: &'a WriteBatch,
        durability: Durability,
        reports_existed: bool,
    ) -> Op<'a, Outcome> {
        if batch.is_empty() {
            return Op::ok(Outcome { existed: false, ticket: CommitTicket::NONE });
        }
        if self.has_long_values(batch) {
            return self.write_long(batch, durability, reports_existed);
        }
        self.drive("write", move |guard, known| {
            self.write_batch(guard, known, batch, &[], durability, reports_existed)
        })
    }

    /// Applies a batch with values that are longer than a record: first their pieces, then all of it.
    #[cold]
    fn write_long<'a>(
        &'a self,
        batch: &'a WriteBatch,
        durability: Durability,
        reports_existed: bool,
    ) -> Op<'a, Outcome> {
        Op::pending(async move {
            loop {
                let pieces = self.write_pieces_of(batch).await?;
                let write = self.drive("write", |guard, known| {
                    let spaces = self.keyspaces.load(guard)?;
                    for (op, pieces) in batch.iter().zip(&pieces) {
                        let space = spaces.of(op.keyspace())?.id();
                        if pieces.as_ref().is_some_and(|it| it.space() != space) {
                            return Ok(None);
                        }
                    }
                    self.write_batch(guard, known, batch, &pieces, durability, reports_existed)
                        .map(Some)
                });
                // Else a keyspace was exchanged since.
                if let Some(outcome) = write.await? {
                    return Ok(outcome);
                }
            }
        })
    }

    fn write_batch(
        &self,
        guard: &Guard<'_>,
        known: &Known,
        batch: &WriteBatch,
        pieces: &[Option<Unlinked>],
        durability: Durability,
        reports_existed: bool,
    ) -> Attempt<Outcome> {
        let spaces = self.keyspaces.load(guard)?;
        let plan = self.plan(batch, pieces, spaces)?;
        let names: Vec<Name<'_>> = plan.iter().map(|write| write.name).collect();
        let table = self.table_for_all(&names, guard)?;
        let mut latches = Latches::take(table, names.iter().map(|name| name.hash))?;
        let prepared = self.prepare(table, &plan, &mut latches)?;
        let appended = self.latch_all(table, &plan, known, reports_existed).and_then(|olds| {
            let ticket = match self.logging(durability) {
                None => CommitTicket::NONE,
                Some(journal) => {
                    let hashes = names.iter().map(|name| name.hash.0);
                    journal.append_batch(hashes, self.clock.now(), batch, durability)?
                }
            };
            Ok((olds, ticket))
        });
        let (olds, ticket) = match appended {
            Ok(appended) => appended,
            Err(interrupt) => {
                self.abandon_all(prepared);
                return Err(interrupt);
            }
        };
        latches.mark_changed();
        let existed = self.apply_batch(&plan, prepared, olds, spaces);
        plan.iter().filter_map(|write| write.pieces).for_each(Unlinked::set_linked);
        drop(latches);
        self.help_index(guard);
        let seen = names.iter().map(|name| self.ticket_of(spaces, name));
        let saw = if reports_existed { seen.fold(ticket, CommitTicket::join) } else { ticket };
        Ok(Outcome { existed, ticket: saw })
    }

    /// The last write of each key; `pieces` are those of long values, by their places.
    fn plan<'b>(
        &self,
        batch: &'b WriteBatch,
        pieces: &'b [Option<Unlinked>],
        spaces: &Spaces,
    ) -> Result<Vec<Planned<'b>>> {
        let mut plan = Vec::with_capacity(batch.len());
        for (place, op) in batch.iter().enumerate() {
            let keyspace = op.keyspace();
            let name = self.name(spaces.of(keyspace)?.id(), op.key());
            let (put, pieces) = match op {
                BatchOp::Put { expire_at, .. } if self.is_past(expire_at) => (None, None),
                BatchOp::Put { value, expire_at, .. } => {
                    let expire_at = expire_at.map_or(0, |at| at.0);
                    self.note_expiry(expire_at);
                    let pieces = pieces.get(place).and_then(Option::as_ref);
                    let stored = pieces.map_or(value.into(), Unlinked::stored);
                    (Some(NewValue { whole: value, stored, expire_at }), pieces)
                }
                BatchOp::Delete { .. } => (None, None),
            };
            plan.push(Planned { name, keyspace, put, pieces });
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
                    self.abandon_all(prepared);
                    return Err(match interrupt {
                        Interrupt::NoSpace { .. } => Interrupt::NoSpace { words: words(plan) },
                        other => other,
                    });
                }
            }
        }
        Ok(prepared)
    }

    fn abandon_all(&self, prepared: Vec<Option<Prepared<'_>>>) {
        for one in prepared.into_iter().flatten() {
            self.abandon_record(one.address);
        }
    }

    fn prepare_one<'t>(
        &self,
        table: &'t Table,
        write: &Planned<'_>,
        latches: &mut Latches<'t>,
    ) -> Attempt<Option<Prepared<'t>>> {
        let hash = write.name.hash;
        let (slot, plan) = match write.put {
            Some(value) => {
                let slot = loop {
                    let (slot, seen) =
                        table.find_or_create(hash, Access::Holder, self.log.begin())?;
                    // Somebody who was under way may give the slot to another chain before it is
                    // held.
                    let held = latches.hold(slot);
                    if held.tag() == seen.tag() && !held.is_tentative() {
                        break slot;
                    }
                };
                (slot, value.blueprint(&write.name))
            }
            None => {
                let Some((slot, _)) = table.find(hash, Access::Holder)? else { return Ok(None) };
                latches.hold(slot);
                if self.tiers.is_none() {
                    return Ok(None);
                }
                // Something older may be on disk.
                (slot, tombstone(&write.name))
            }
        };
        // From here on the head stays, so that this address is greater.
        let address = self.write_record(&plan, LogicalAddress::NULL, Purpose::Write, Born::Free)?;
        Ok(Some(Prepared { slot, tag: hash.tag(), address }))
    }

    /// Latches what the batch replaces.
    ///
    /// # Errors
    /// `Cold` if it must be known of a key whether it is on disk.
    fn latch_all<'g>(
        &'g self,
        table: &'g Table,
        plan: &[Planned<'_>],
        known: &'g Known,
        reports_existed: bool,
    ) -> Attempt<Vec<Old<'g>>> {
        let (mut asked, mut expired) = (Vec::new(), Vec::new());
        let mut olds = Vec::with_capacity(plan.len());
        let tells_expiries = self.tells_expiries();
        let mut note_expired =
            |name: &Name<'_>| expired.push((name.space, Box::<[u8]>::from(name.key)));
        for write in plan {
            olds.push(loop {
                match self.find_held(table, &write.name) {
                    Lookup::Absent(_) => break Old::Nothing,
                    Lookup::Found(found) => {
                        if let Some(latched) = found.record.latch() {
                            if tells_expiries && self.is_expired_key(&latched) {
                                note_expired(&write.name);
                            }
                            break Old::Record(found, latched);
                        }
                        // A write that was under way has ended meanwhile.
                    }
                    Lookup::Cold(cold) => {
                        let known = known.key(cold.address, &write.name);
                        let is_expired = |known: &ColdKey| {
                            known.value.as_ref().is_some_and(|it| self.is_expired(it.expire_at))
                        };
                        if tells_expiries && known.is_some_and(is_expired) {
                            note_expired(&write.name);
                        }
                        if known.is_none()
                            && (reports_existed || tells_expiries || self.may_be_long(&write.name))
                        {
                            asked.push(Asked::key(&cold, &write.name));
                        }
                        let is_live = |known: &ColdKey| {
                            known.value.as_ref().is_some_and(|it| !self.is_expired(it.expire_at))
                        };
                        break Old::Cold { existed: known.is_none_or(is_live), known };
                    }
                }
            });
        }
        match (asked.is_empty(), expired.is_empty()) {
            (true, true) => Ok(olds),
            (true, false) => Err(Interrupt::Expired(expired)),
            (false, _) => Err(Interrupt::Cold(asked)),
        }
    }

    /// Searches a key whose bucket the caller has latched.
    fn find_held<'g>(&'g self, table: &'g Table, name: &Name<'_>) -> Lookup<'g> {
        loop {
            match self.find(table, name, Access::Holder) {
                Ok(lookup) => return lookup,
                // A latched bucket is not migrated; nothing else interrupts its holder.
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    /// Links all records and ends the ones they replace. Nothing here can fail.
    fn apply_batch(
        &self,
        plan: &[Planned<'_>],
        prepared: Vec<Option<Prepared<'_>>>,
        olds: Vec<Old<'_>>,
        spaces: &Spaces,
    ) -> bool {
        let mut existed = false;
        for ((write, prepared), old) in plan.iter().zip(prepared).zip(olds) {
            // `plan` was made with the same spaces.
            let Ok(space) = spaces.of(write.keyspace) else { continue };
            existed |= match &old {
                Old::Nothing => false,
                Old::Cold { existed, .. } => *existed,
                Old::Record(_, latched) => {
                    !latched.is_tombstone() && !self.is_expired(latched.expire_at())
                }
            };
            self.apply_one(write, prepared, old, space);
        }
        existed
    }

    fn apply_one(
        &self,
        write: &Planned<'_>,
        prepared: Option<Prepared<'_>>,
        old: Old<'_>,
        space: &Space,
    ) {
        let was_counted = old.is_counted();
        match (prepared, old) {
            (Some(new), old) => {
                self.link_held(&new);
                match old {
                    Old::Nothing => {}
                    Old::Record(found, latched) => self.retire(&found, latched, End::Replaced),
                    Old::Cold { known, .. } => {
                        let words = self.log.record(new.address).size_words();
                        self.count_cold_dead(&write.name, known, words);
                    }
                }
                match (was_counted, write.put.is_some()) {
                    (false, true) => space.count_added(),
                    (true, false) => space.count_removed(),
                    _ => {}
                }
            }
            // Somebody who was under way has linked it since.
            (None, Old::Record(found, latched)) if self.tiers.is_some() && latched.fits(0, 0) => {
                if !latched.is_tombstone() {
                    self.bury(found.address, latched, space);
                }
            }
            (None, Old::Record(found, latched)) => self.remove(&found, latched, space),
            (None, _) => {}
        }
    }

    /// Links a record to an entry that the caller holds.
    fn link_held(&self, new: &Prepared<'_>) {
        let head = new.slot.load();
        let record: Record<'_> = self.log.record(new.address);
        record.set_previous(head.address());
        debug_assert!(head.is_held() && head.address() < new.address);
        new.slot.store_held(Entry::new(new.tag, new.address).held());
    }
}

/// The words of all records of a batch, were each delete a tombstone.
fn words(plan: &[Planned<'_>]) -> u64 {
    let words = |write: &Planned<'_>| match write.put {
        Some(value) => value.blueprint(&write.name).words() as u64,
        None => tombstone(&write.name).words() as u64,
    };
    plan.iter().map(words).sum()
}
