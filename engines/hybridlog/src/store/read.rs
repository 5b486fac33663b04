//! Reading one key, and many.

use ferrokit_engine::{Entry as Lent, KeyspaceId, Result};

use super::chain::Lookup;
use super::{Name, Store, shown_expiry, with_scratch};
use crate::epoch::Guard;
use crate::index::latches::Latches;
use crate::index::table::{Access, Table};
use crate::interrupt::{Attempt, Interrupt};
use crate::log::record::{Copied, Unreadable};
use crate::primitive::{Ordering, fence};

/// Bytes of values that are copied before any is shown; more are read under latches instead.
const MAX_COPIED_BYTES: usize = 8 << 20;
/// How often many keys are read without latches before they are taken.
const OPTIMISTIC_TRIES: u32 = 3;

/// One key that was found.
struct Hit {
    index: usize,
    start: usize,
    copied: Copied,
}

impl Store {
    /// Reads a key; `visit` gets a copy that no writer touches. Whether it was present.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    pub(crate) fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        visit: &mut (dyn FnMut(Lent<'_>) + Send + '_),
    ) -> Result<bool> {
        with_scratch(|scratch| {
            let copied = self.run("get", |guard| {
                scratch.clear();
                let space = self.keyspaces.load(guard)?.of(keyspace)?.id();
                let name = self.name(space, key);
                let table = self.table_for(&name, guard)?;
                self.read_in(table, &name, Access::Shared, guard, scratch)
            })?;
            if let Some(copied) = copied {
                visit(lent(scratch, copied));
            }
            Ok(copied.is_some())
        })
    }

    /// Appends a copy of a key's value to `out`, if it is present. An expired record is removed.
    pub(super) fn read_in(
        &self,
        table: &Table,
        name: &Name<'_>,
        access: Access,
        guard: &Guard<'_>,
        out: &mut Vec<u8>,
    ) -> Attempt<Option<Copied>> {
        let start = out.len();
        loop {
            let Lookup::Found(found) = self.find(table, name, access)? else { return Ok(None) };
            match found.record.read(out) {
                Ok(copied) if !self.is_expired(copied.expire_at) => return Ok(Some(copied)),
                Ok(_) => {
                    out.truncate(start);
                    // Not while an exchange waits for us to leave: no reason to begin again, and to
                    // show once more what was shown. A later read will find it.
                    if let Ok(spaces) = self.keyspaces.load(guard)
                        && let Some(latched) = found.record.latch()
                        && self.is_expired(latched.expire_at())
                        && let Some(space) = spaces.by_id(name.space)
                    {
                        self.remove(&found, latched, space);
                    }
                    return Ok(None);
                }
                // It has a successor, or it is gone.
                Err(Unreadable::Dead) => {}
                Err(Unreadable::Latched) if access == Access::Holder => {}
                Err(Unreadable::Latched) => return Err(Interrupt::Again),
            }
        }
    }

    /// Reads many keys. Who sees one write of a batch here sees all of them: either no batch was
    /// applied in any of the buckets between the first look and the last, or the buckets are
    /// latched. Answers how many were found.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    pub(crate) fn get_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Lent<'_>) + Send + '_),
    ) -> Result<usize> {
        let mut hits = Vec::with_capacity(keys.len());
        let is_read = with_scratch(|scratch| -> Result<bool> {
            for _ in 0..OPTIMISTIC_TRIES {
                let is_consistent = self.run("get_many", |guard| {
                    scratch.clear();
                    hits.clear();
                    self.read_optimistically(guard, keyspace, keys, scratch, &mut hits)
                })?;
                if is_consistent {
                    for hit in &hits {
                        let value = &scratch[hit.start..hit.start + hit.copied.value_len];
                        visit(hit.index, lent(value, hit.copied));
                    }
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if is_read {
            return Ok(hits.len());
        }
        self.run("get_many", |guard| self.read_latched(guard, keyspace, keys, visit))
    }

    /// Copies all values; `false` if a batch came in between, or they are too many bytes.
    fn read_optimistically(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        scratch: &mut Vec<u8>,
        hits: &mut Vec<Hit>,
    ) -> Attempt<bool> {
        let space = self.keyspaces.load(guard)?.of(keyspace)?.id();
        let tables = self.index.tables(guard);
        let names: Vec<Name<'_>> = keys.iter().map(|key| self.name(space, key)).collect();
        for name in &names {
            tables.current.prefetch(name.hash);
        }
        // First all buckets, then all records: the misses of each kind overlap.
        let mut versions = Vec::with_capacity(names.len());
        for name in &names {
            let table = self.table_for(name, guard)?;
            let control = table.control(table.bucket_of(name.hash.low()));
            if control.is_latched() {
                return Err(Interrupt::Again);
            }
            versions.push((table, control.version_and_latches()));
            if let Some((_, entry)) = table.find(name.hash, Access::Shared)?
                && entry.address() >= self.log.begin()
            {
                self.log.prefetch(entry.address());
            }
        }
        for (index, (name, (table, _))) in names.iter().zip(&versions).enumerate() {
            let start = scratch.len();
            let read = self.read_in(table, name, Access::Shared, guard, scratch)?;
            hits.extend(read.map(|copied| Hit { index, start, copied }));
            if scratch.len() > MAX_COPIED_BYTES {
                return Ok(false);
            }
        }
        // Whatever was read of a batch, its latches or its versions are seen from here on.
        fence(Ordering::Acquire);
        Ok(names.iter().zip(&versions).all(|(name, (table, version))| {
            table.control(table.bucket_of(name.hash.low())).version_and_latches() == *version
        }))
    }

    /// Reads and shows one after the other, no batch being able to come in between.
    fn read_latched(
        &self,
        guard: &Guard<'_>,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Lent<'_>) + Send + '_),
    ) -> Attempt<usize> {
        let space = self.keyspaces.load(guard)?.of(keyspace)?.id();
        let names: Vec<Name<'_>> = keys.iter().map(|key| self.name(space, key)).collect();
        let table = self.table_for_all(&names, guard)?;
        let _latches = Latches::take(table, names.iter().map(|name| name.hash))?;
        let mut found = 0;
        with_scratch(|scratch| {
            for (index, name) in names.iter().enumerate() {
                scratch.clear();
                // Under the latches nothing interrupts: each key is shown once.
                let read = self.read_in(table, name, Access::Holder, guard, scratch)?;
                if let Some(copied) = read {
                    visit(index, lent(scratch, copied));
                    found += 1;
                }
            }
            Ok(found)
        })
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

fn lent(value: &[u8], copied: Copied) -> Lent<'_> {
    Lent { value, expire_at: shown_expiry(copied.expire_at), sequence: None }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use ferrokit_storage::sim::SimMachine;

    use super::*;
    use crate::config::HybridLogConfig;

    #[test]
    fn a_clear_that_waits_makes_nobody_see_a_key_twice() {
        let machine = SimMachine::new(1);
        let config = HybridLogConfig { memory_bytes: 64 << 20, ..HybridLogConfig::default() };
        let store = Store::new(&machine.host().env, &config).unwrap();
        let keyspace = KeyspaceId(0);
        // So much that it is read under latches, one after the other.
        let value = vec![7; 1 << 20];
        let keys: Vec<Vec<u8>> = (0..12_u8).map(|n| vec![n]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for key in &keys {
            store.put(keyspace, key, &value, None).unwrap();
        }
        let soon = store.clock.now().plus(10);
        store.put(keyspace, keys[11], b"expires", Some(soon)).unwrap();
        machine.clock().advance(Duration::from_secs(1));
        let mut seen = [0; 12];
        std::thread::scope(|scope| {
            let mut visit = |index: usize, _: Lent<'_>| {
                if seen.iter().all(|times| *times == 0) {
                    scope.spawn(|| store.clear_keyspace(KeyspaceId(1)).unwrap());
                    while !store.keyspaces.is_closed() {
                        std::thread::yield_now();
                    }
                }
                seen[index] += 1;
            };
            assert_eq!(store.get_many(keyspace, &keys, &mut visit).unwrap(), 11);
        });
        assert_eq!(seen, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    }
}
