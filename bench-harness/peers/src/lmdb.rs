//! LMDB, by heed.
//!
//! Durability: opened for `memory` or `os`, LMDB writes its pages through a writable map
//! (`MDB_WRITEMAP`) and syncs nothing (`MDB_NOSYNC`): what is committed is in the operating
//! system's page cache, so that `memory` is as strong as `os`. The power's failure could then
//! damage the whole file, so such a run offers no more than `os`. Opened for `synced`, LMDB writes
//! its pages with `pwrite`, and from the first write or sync at `synced` on (the load comes before)
//! every commit syncs the data, then writes and syncs the meta page.
//!
//! Each write is a transaction of its own, and writers wait for each other, as LMDB has it. An
//! update is one write transaction: atomic. LMDB has no cache: it reads the page cache of the
//! operating system, which only the memory cgroup of a confined run limits.

use std::sync::Once;

use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, Update, WriteBatch,
};
use heed::types::Bytes;
use heed::{Database, Env, RwTxn};

use crate::raw::{open_unsynced, sync_from_now_on};
use crate::{
    LONGEST_VALUE_BYTES, SKIPS_EMPTY_KEYS, bounds_without_empty, failed, refuse_empty, subject,
    usize_of,
};

pub(crate) const VERSION: &str = "0.22.1";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "lmdb",
    description: "LMDB, a memory-mapped copy-on-write B-tree",
    skips: SKIPS_EMPTY_KEYS,
    open,
};

/// The largest file unless the URL says otherwise: addresses, of which only what is used costs.
const MAP_BYTES: u64 = 64 << 30;

struct Lmdb {
    env: Env,
    database: Database<Bytes, Bytes>,
    strongest_durability: Durability,
    /// Done once commits sync.
    syncs: Once,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    let map_bytes = url.take_bytes("map")?.unwrap_or(MAP_BYTES);
    url.finish()?;
    let is_synced = settings.durability == Durability::Synced;
    create_directory(&settings.directory)?;
    let env = open_unsynced(&settings.directory, usize_of(map_bytes), !is_synced)
        .map_err(|error| failed("lmdb.open", error))?;
    let opened = || {
        let mut writes = env.write_txn()?;
        let database = env.create_database(&mut writes, None)?;
        writes.commit()?;
        Ok(database)
    };
    let database = opened().map_err(|error: heed::Error| failed("lmdb.open", error))?;
    let text = format!(
        "LMDB (heed {VERSION}): no cache of its own but the page cache, which only a confined run \
         limits, map of {} GiB, {}; updates: one write transaction",
        map_bytes >> 30,
        if is_synced {
            "pages written with pwrite; memory and os: no sync before the first synced write, \
             synced: data and meta page synced for each commit"
        } else {
            "pages written through the map (MDB_WRITEMAP), no sync (MDB_NOSYNC); memory: as os, \
             os: in the page cache"
        }
    );
    let strongest_durability = if is_synced { Durability::Synced } else { Durability::Os };
    Ok(subject(Lmdb { env, database, strongest_durability, syncs: Once::new() }, text))
}

#[expect(clippy::disallowed_methods, reason = "LMDB has no file system but the real one")]
fn create_directory(directory: &str) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| failed("lmdb.open", error))
}

impl Lmdb {
    fn transact(
        &self,
        operation: &'static str,
        durability: Durability,
        write: impl FnOnce(&mut RwTxn<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut writes = self.env.write_txn().map_err(|error| failed(operation, error))?;
        write(&mut writes)?;
        if durability == Durability::Synced {
            self.begin_to_sync()?;
        }
        writes.commit().map_err(|error| failed(operation, error))
    }

    /// Called from within the write transaction, of which there is one at a time.
    fn begin_to_sync(&self) -> Result<()> {
        let mut begun = Ok(());
        self.syncs.call_once(|| {
            // What was committed without a sync goes first.
            begun = self.env.force_sync().and_then(|()| sync_from_now_on(&self.env));
        });
        begun.map_err(|error| failed("lmdb.sync", error))
    }

    fn put_in(&self, writes: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<()> {
        refuse_empty("lmdb.put", key)?;
        self.database.put(writes, key, value).map_err(|error| failed("lmdb.put", error))
    }

    fn delete_in(&self, writes: &mut RwTxn<'_>, key: &[u8]) -> Result<()> {
        refuse_empty("lmdb.delete", key)?;
        self.database.delete(writes, key).map(drop).map_err(|error| failed("lmdb.delete", error))
    }
}

impl Peer for Lmdb {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: true,
            strongest_durability: self.strongest_durability,
            max_key_bytes: self.env.max_key_size(),
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.transact("lmdb.put", durability, |writes| self.put_in(writes, key, value))
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let mut is_found = false;
        self.get_many(&[key], &mut |_, value| {
            is_found = true;
            visit(value);
        })?;
        Ok(is_found)
    }

    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let reads = self.env.read_txn().map_err(|error| failed("lmdb.get", error))?;
        for (index, key) in keys.iter().enumerate() {
            refuse_empty("lmdb.get", key)?;
            let found = self.database.get(&reads, key);
            if let Some(value) = found.map_err(|error| failed("lmdb.get", error))? {
                visit(index, value);
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.transact("lmdb.delete", durability, |writes| self.delete_in(writes, key))
    }

    fn update(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<()> {
        refuse_empty("lmdb.update", key)?;
        self.transact("lmdb.update", durability, |writes| {
            let old =
                self.database.get(writes, key).map_err(|error| failed("lmdb.update", error))?;
            let mut new = Vec::with_capacity(old.map_or(0, <[u8]>::len));
            match change(old, &mut new) {
                Update::Keep => Ok(()),
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    self.put_in(writes, key, &new)
                }
                Update::Delete => self.delete_in(writes, key),
            }
        })
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        self.transact("lmdb.write", durability, |writes| {
            batch.iter().try_for_each(|op| match op {
                BatchOp::Put { key, value, .. } => self.put_in(writes, key, value),
                BatchOp::Delete { key, .. } => self.delete_in(writes, key),
            })
        })
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let Some(bounds) = bounds_without_empty(range) else { return Ok(()) };
        let failed = |error| failed("lmdb.scan", error);
        let reads = self.env.read_txn().map_err(failed)?;
        match direction {
            Direction::Forward => {
                for entry in self.database.range(&reads, &bounds).map_err(failed)? {
                    let (key, value) = entry.map_err(failed)?;
                    if !visit(key, value) {
                        break;
                    }
                }
            }
            Direction::Backward => {
                for entry in self.database.rev_range(&reads, &bounds).map_err(failed)? {
                    let (key, value) = entry.map_err(failed)?;
                    if !visit(key, value) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        match self.strongest_durability {
            // Everything committed is in the page cache.
            Durability::Memory | Durability::Os => Ok(()),
            Durability::Synced => self.transact("lmdb.sync", Durability::Synced, |_| Ok(())),
        }
    }

    fn close(&self) -> Result<()> {
        self.env.force_sync().map_err(|error| failed("lmdb.close", error))
    }
}
