//! Reading one key, and many.

use ferrokit_engine::{CommitTicket, Entry as Lent, KeyspaceId, Op, Result};

use super::chain::Lookup;
use super::drive::Step;
use super::known::{Asked, ColdValue, Known};
use super::{Name, Store, shown_expiry, with_scratch};
use crate::epoch::Guard;
use crate::index::latches::Latches;
use crate::index::table::{Access, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::Spaces;
use crate::log::record::{Copied, Unreadable};
use crate::primitive::{Ordering, fence};

/// Bytes of values that are copied before any is shown; more are read under latches instead.
const MAX_COPIED_BYTES: usize = 8 << 20;
/// How often many keys are read without latches before they are taken.
const OPTIMISTIC_TRIES: u32 = 3;

/// What a read found, and what to wait for before it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How many keys were present.
    pub(crate) found: usize,
    pub(crate) ticket: CommitTicket,
}

/// One key that was found.
struct Hit {
    index: usize,
    start: usize,
    copied: Copied,
}

type VisitOne<'a> = dyn FnMut(Lent<'_>) + Send + 'a;
type VisitMany<'a> = dyn FnMut(usize, Lent<'_>) + Send + 'a;

impl Store {
    /// Reads a key; `visit` gets a copy that no writer touches.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces; `Corruption`, `Io`.
    pub(crate) fn get<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        visit: &'a mut VisitOne<'a>,
    ) -> Op<'a, Reading> {
        let known = Known::default();
        let read = with_scratch(|scratch| {
            Ok(match self.read_now(keyspace, key, &known, scratch)? {
                Step::Done((copied, ticket)) => Step::Done(show(copied, ticket, scratch, visit)),
                Step::Wait(wait) => Step::Wait(wait),
            })
        });
        match read {
            Ok(Step::Done(reading)) => Op::ok(reading),
            Err(error) => Op::err(error),
            Ok(Step::Wait(wait)) => Op::pending(async move {
                let (mut known, mut wait, mut value) = (known, wait, Vec::new());
                loop {
                    self.wait("get", wait, &mut known).await?;
                    match self.read_now(keyspace, key, &known, &mut value)? {
                        Step::Done((copied, ticket)) => {
                            return Ok(show(copied, ticket, &value, visit));
                        }
                        Step::Wait(again) => wait = again,
                    }
                }
            }),
        }
    }

    fn read_now(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<Step<(Option<Copied>, CommitTicket)>> {
        self.run_now("get", |guard| {
            out.clear();
            let spaces = self.keyspaces.load(guard)?;
            let name = self.name(spaces.of(keyspace)?.id(), key);
            let table = self.table_for(&name, guard)?;
            let copied = self.read_in(table, &name, Access::Shared, guard, known, out)?;
            Ok((copied, self.ticket_of(spaces, &name)))
        })
    }

    /// What a reader of a key must wait for; asked after the read.
    #[inline]
    pub(super) fn ticket_of(&self, spaces: &Spaces, name: &Name<'_>) -> CommitTicket {
        match self.journal() {
            None => CommitTicket::NONE,
            Some(journal) => journal.ticket(name.hash.0).join(spaces.ticket()),
        }
    }

    /// Appends a copy of a key's value to `out`, if it is present.
    pub(super) fn read_in(
        &self,
        table: &Table,
        name: &Name<'_>,
        access: Access,
        guard: &Guard<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Attempt<Option<Copied>> {
        let start = out.len();
        loop {
            let found = match self.find(table, name, access)? {
                Lookup::Found(found) => found,
                Lookup::Absent(_) => return Ok(None),
                Lookup::Cold(cold) => {
                    let Some(answer) = known.key(cold.address, name) else {
                        if let Some(cached) = self.read_cached(&cold, name, out) {
                            let resolve =
                                |copied| self.resolve(known, name.space, copied, out, start);
                            return cached.map(resolve).transpose();
                        }
                        return Err(Interrupt::Cold(vec![Asked::key(&cold, name)]));
                    };
                    let live = answer.value.as_ref().filter(|it| !self.is_expired(it.expire_at));
                    if answer.value.is_some() && live.is_none() {
                        self.note_expired(name.space, name.key);
                    }
                    let Some(live) = live else { return Ok(None) };
                    return Ok(Some(self.copy_cold(known, name.space, live, out)?));
                }
            };
            match found.record.read(out) {
                Ok(copied) if !self.is_expired(copied.expire_at) => {
                    return self.resolve(known, name.space, copied, out, start).map(Some);
                }
                Ok(_) => {
                    out.truncate(start);
                    self.note_expired(name.space, name.key);
                    // Not while an exchange waits for us to leave: no reason to begin again, and to
                    // show once more what was shown. A later read will find it.
                    if let Ok(spaces) = self.keyspaces.load(guard)
                        && let Some(space) = spaces.by_id(name.space)
                    {
                        if self.tiers.is_some() {
                            self.drop_expired(found.address, found.record, space);
                        } else if let Some(latched) = found.record.latch()
                            && self.is_expired(latched.expire_at())
                        {
                            self.remove(&found, latched, space);
                        }
                    }
                    return Ok(None);
                }
                Err(Unreadable::Tombstone) => return Ok(None),
                // It has a successor, or it is gone.
                Err(Unreadable::Dead) => {}
                Err(Unreadable::Latched) if access == Access::Holder => {}
                Err(Unreadable::Latched) => return Err(Interrupt::Again),
            }
        }
    }

    /// Appends a value from disk to `out`, all of it.
    pub(super) fn copy_cold(
        &self,
        known: &Known,
        space: u64,
        cold: &ColdValue,
        out: &mut Vec<u8>,
    ) -> Attempt<Copied> {
        let ColdValue { value, expire_at, is_long } = cold;
        let start = out.len();
        out.extend_from_slice(value);
        let copied = Copied { value_len: value.len(), expire_at: *expire_at, is_long: *is_long };
        self.resolve(known, space, copied, out, start)
    }

    /// Reads many keys. Who sees one write of a batch here sees all of them: either no batch was
    /// applied in any of the buckets between the first look and the last, or the buckets are
    /// latched.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces; `Corruption`, `Io`.
    pub(crate) fn get_many<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        visit: &'a mut VisitMany<'a>,
    ) -> Op<'a, Reading> {
        let known = Known::default();
        match self.read_many_now(keyspace, keys, &known, visit) {
            Ok(Step::Done(reading)) => Op::ok(reading),
            Err(error) => Op::err(error),
            Ok(Step::Wait(wait)) => Op::pending(async move {
                let (mut known, mut wait) = (known, wait);
                loop {
                    self.wait("get_many", wait, &mut known).await?;
                    match self.read_many_now(keyspace, keys, &known, visit)? {
                        Step::Done(reading) => return Ok(reading),
                        Step::Wait(again) => wait = again,
                    }
                }
            }),
        }
    }

    fn read_many_now(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        known: &Known,
        visit: &mut VisitMany<'_>,
    ) -> Result<Step<Reading>> {
        let mut hits = Vec::with_capacity(keys.len());
        let read = with_scratch(|scratch| -> Result<Option<Step<Reading>>> {
            for _ in 0..OPTIMISTIC_TRIES {
                let read = self.run_now("get_many", |guard| {
                    scratch.clear();
                    hits.clear();
                    self.read_optimistically(guard, keyspace, keys, known, scratch, &mut hits)
                })?;
                match read {
                    Step::Wait(wait) => return Ok(Some(Step::Wait(wait))),
                    Step::Done(None) => {}
                    Step::Done(Some(ticket)) => {
                        for hit in &hits {
                            let value = &scratch[hit.start..hit.start + hit.copied.value_len];
                            visit(hit.index, lent(value, hit.copied));
                        }
                        return Ok(Some(Step::Done(Reading { found: hits.len(), ticket })));
                    }
                }
            }
            Ok(None)
        })?;
        match read {
            Some(step) => Ok(step),
            None => self.run_now("get_many", |guard| {
                self.read_latched(guard, keyspace, keys, known, visit)
            }),
        }
    }

    /// Copies all values; `None` if a batch came in between, or they are too many bytes.
    fn read_optimistically(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        known: &Known,
        scratch: &mut Vec<u8>,
        hits: &mut Vec<Hit>,
    ) -> Attempt<Option<CommitTicket>> {
        let spaces = self.keyspaces.load(guard)?;
        let space = spaces.of(keyspace)?.id();
        let tables = self.index.tables(guard);
        let names: Vec<Name<'_>> = keys.iter().map(|key| self.name(space, key)).collect();
        for name in &names {
            tables.current.prefetch(name.hash);
        }
        // First all buckets, then all records: the misses of each kind overlap.
        let mut versions = Vec::with_capacity(names.len());
        let head = self.log.head();
        for name in &names {
            let table = self.table_for(name, guard)?;
            let control = table.control(table.bucket_of(name.hash.low()));
            if control.is_latched() {
                return Err(Interrupt::Again);
            }
            versions.push((table, control.version_and_latches()));
            if let Some((_, entry)) = table.find(name.hash, Access::Shared)?
                && entry.address() >= head
            {
                self.log.prefetch(entry.address());
            }
        }
        let (mut asked, mut is_much) = (Vec::new(), false);
        for (index, (name, (table, _))) in names.iter().zip(&versions).enumerate() {
            let start = scratch.len();
            match self.read_in(table, name, Access::Shared, guard, known, scratch) {
                Ok(read) => hits.extend(read.map(|copied| Hit { index, start, copied })),
                // The waits for the device overlap, too.
                Err(Interrupt::Cold(more)) => asked.extend(more),
                Err(other) => return Err(other),
            }
            if scratch.len() > MAX_COPIED_BYTES {
                // Whatever else has to be waited for is asked for all the same.
                is_much = true;
                scratch.clear();
            }
        }
        if !asked.is_empty() {
            return Err(Interrupt::Cold(asked));
        }
        if is_much {
            return Ok(None);
        }
        // Whatever was read of a batch, its latches or its versions are seen from here on.
        fence(Ordering::Acquire);
        let is_consistent = names.iter().zip(&versions).all(|(name, (table, version))| {
            table.control(table.bucket_of(name.hash.low())).version_and_latches() == *version
        });
        Ok(is_consistent.then(|| self.ticket_of_all(spaces, &names)))
    }

    /// Reads and shows one after the other, no batch being able to come in between.
    fn read_latched(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        known: &Known,
        visit: &mut VisitMany<'_>,
    ) -> Attempt<Reading> {
        let spaces = self.keyspaces.load(guard)?;
        let space = spaces.of(keyspace)?.id();
        let names: Vec<Name<'_>> = keys.iter().map(|key| self.name(space, key)).collect();
        let table = self.table_for_all(&names, guard)?;
        let latches = Latches::take(table, names.iter().map(|name| name.hash))?;
        let mut found = 0;
        with_scratch(|scratch| -> Attempt<()> {
            // A page may be evicted between two looks, and a long value be not known yet: nothing is
            // shown before all is read.
            let mut hits = Vec::with_capacity(names.len());
            for (index, name) in names.iter().enumerate() {
                let start = scratch.len();
                let read = self.read_in(table, name, Access::Holder, guard, known, scratch)?;
                hits.extend(read.map(|copied| Hit { index, start, copied }));
            }
            drop(latches);
            for hit in &hits {
                let value = &scratch[hit.start..hit.start + hit.copied.value_len];
                visit(hit.index, lent(value, hit.copied));
            }
            found = hits.len();
            Ok(())
        })?;
        Ok(Reading { found, ticket: self.ticket_of_all(spaces, &names) })
    }

    fn ticket_of_all(&self, spaces: &Spaces, names: &[Name<'_>]) -> CommitTicket {
        if self.journal().is_none() {
            return CommitTicket::NONE;
        }
        let tickets = names.iter().map(|name| self.ticket_of(spaces, name));
        tickets.fold(spaces.ticket(), CommitTicket::join)
    }

    /// The one table for all keys.
    pub(super) fn table_for_all<'g>(
        &'g self,
        names: &[Name<'_>],
        guard: &'g Guard<'_>,
    ) -> Attempt<&'g Table> {
        let table = &*self.index.tables(guard).current;
        for name in names {
            if !std::ptr::eq(self.table_for(name, guard)?, table) {
                return Err(Interrupt::Again);
            }
        }
        Ok(table)
    }
}

/// Shows what was read of one key.
fn show(
    copied: Option<Copied>,
    ticket: CommitTicket,
    value: &[u8],
    visit: &mut VisitOne<'_>,
) -> Reading {
    if let Some(copied) = copied {
        visit(lent(value, copied));
    }
    Reading { found: usize::from(copied.is_some()), ticket }
}

fn lent(value: &[u8], copied: Copied) -> Lent<'_> {
    Lent { value, expire_at: shown_expiry(copied.expire_at), sequence: None }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use ferrokit_engine::Durability;
    use ferrokit_storage::sim::SimMachine;

    use super::super::Intent;
    use super::*;
    use crate::config::HybridLogConfig;

    #[test]
    fn a_clear_that_waits_makes_nobody_see_a_key_twice() {
        let machine = SimMachine::new(1);
        let config = HybridLogConfig { memory_bytes: 64 << 20, ..HybridLogConfig::default() };
        let config = config.with_pages(None);
        let store = Store::new(&machine.host().env, &config).unwrap();
        let keyspace = KeyspaceId(0);
        // So much that it is read under latches, one after the other.
        let value = vec![7; 1 << 20];
        let keys: Vec<Vec<u8>> = (0..12_u8).map(|n| vec![n]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for key in &keys {
            store.put(Intent::plain(keyspace, key), &value, None).wait().unwrap();
        }
        let soon = store.clock.now().plus(10);
        store.put(Intent::plain(keyspace, keys[11]), b"expires", Some(soon)).wait().unwrap();
        machine.clock().advance(Duration::from_secs(1));
        let mut seen = [0; 12];
        std::thread::scope(|scope| {
            let mut visit = |index: usize, _: Lent<'_>| {
                if seen.iter().all(|times| *times == 0) {
                    scope
                        .spawn(|| store.clear_keyspace(KeyspaceId(1), Durability::Memory).unwrap());
                    while !store.keyspaces.is_closed() {
                        std::thread::yield_now();
                    }
                }
                seen[index] += 1;
            };
            assert_eq!(store.get_many(keyspace, &keys, &mut visit).wait().unwrap().found, 11);
        });
        assert_eq!(seen, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    }
}
