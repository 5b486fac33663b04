//! redb.
//!
//! Durability: `memory` commits with `Durability::None`, which writes nothing: a later durable
//! commit takes it along. `os` and `synced` commit with `Durability::Immediate`, which writes the
//! changed pages and syncs the file. redb offers nothing between the two; the adapter's storage
//! backend does: opened for `memory` or `os`, it leaves the syncs out, so that a commit is in the
//! operating system's page cache. The power's failure could then damage the whole file, so such a
//! run offers no more than `os`. Opened for `synced` every sync is carried out, those of writes at
//! `os` as well.
//!
//! Each write is a transaction of its own, and writers wait for each other, as redb has it. An
//! update is one write transaction: atomic.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redb::backends::FileBackend;
use ::redb::{
    BackendError, Builder, Database, Durability as CommitDurability, ReadableDatabase,
    ReadableTable, StorageBackend, Table, TableDefinition,
};
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, Update, WriteBatch,
};

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS, bounds, failed, subject, usize_of};

pub(crate) const VERSION: &str = "4.4.0";

pub(crate) const ADAPTER: Adapter =
    Adapter { name: "redb", description: "redb, a copy-on-write B-tree", skips: SKIPS, open };

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bench");
const FILE: &str = "data.redb";

struct Redb {
    database: Database,
    /// Whether the backend carries syncs out; only ever switched on.
    syncs: Arc<AtomicBool>,
    strongest_durability: Durability,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let is_synced = settings.durability == Durability::Synced;
    let file = open_file(&settings.directory).map_err(|error| failed("redb.open", error))?;
    let backend = FileBackend::new(file).map_err(|error| failed("redb.open", error))?;
    let syncs = Arc::new(AtomicBool::new(is_synced));
    let database = Builder::new()
        .set_cache_size(usize_of(settings.memory_bytes))
        .create_with_backend(Backend { file: backend, syncs: Arc::clone(&syncs) })
        .map_err(|error| failed("redb.open", error))?;
    let strongest_durability = if is_synced { Durability::Synced } else { Durability::Os };
    let redb = Redb { database, syncs, strongest_durability };
    // Reads want the table to be there.
    redb.transact("redb.open", Durability::Os, |_| Ok(()))?;
    let text = format!(
        "redb {VERSION}: cache {} MiB for reads and writes; memory: Durability::None, os: \
         Durability::Immediate {}; updates: one write transaction",
        settings.memory_bytes >> 20,
        if is_synced {
            "with its sync, as synced (a run at synced leaves no sync out)"
        } else {
            "on a file whose syncs are left out: pages written, not synced"
        }
    );
    Ok(subject(redb, text))
}

#[expect(clippy::disallowed_methods, reason = "redb's file is on the real file system")]
fn open_file(directory: &str) -> io::Result<std::fs::File> {
    std::fs::create_dir_all(directory)?;
    let path = std::path::Path::new(directory).join(FILE);
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// redb's own file, with or without its syncs.
#[derive(Debug)]
struct Backend {
    file: FileBackend,
    syncs: Arc<AtomicBool>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.syncs.load(Ordering::Acquire) {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

type BytesTable<'t> = Table<'t, &'static [u8], &'static [u8]>;

impl Redb {
    fn transact(
        &self,
        operation: &'static str,
        durability: Durability,
        write: impl FnOnce(&mut BytesTable<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut writes = self.database.begin_write().map_err(|error| failed(operation, error))?;
        let durability = match durability {
            Durability::Memory => CommitDurability::None,
            Durability::Os | Durability::Synced => CommitDurability::Immediate,
        };
        writes.set_durability(durability).map_err(|error| failed(operation, error))?;
        {
            let mut table = writes.open_table(TABLE).map_err(|error| failed(operation, error))?;
            write(&mut table)?;
        }
        writes.commit().map_err(|error| failed(operation, error))
    }
}

fn put_in(table: &mut BytesTable<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    table.insert(key, value).map(drop).map_err(|error| failed("redb.put", error))
}

fn delete_in(table: &mut BytesTable<'_>, key: &[u8]) -> Result<()> {
    table.remove(key).map(drop).map_err(|error| failed("redb.delete", error))
}

impl Peer for Redb {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: true,
            strongest_durability: self.strongest_durability,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.transact("redb.put", durability, |table| put_in(table, key, value))
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
        let reads = self.database.begin_read().map_err(|error| failed("redb.get", error))?;
        let table = reads.open_table(TABLE).map_err(|error| failed("redb.get", error))?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(value) = table.get(*key).map_err(|error| failed("redb.get", error))? {
                visit(index, value.value());
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.transact("redb.delete", durability, |table| delete_in(table, key))
    }

    fn update(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<()> {
        self.transact("redb.update", durability, |table| {
            let mut new = Vec::new();
            let update = {
                let old = table.get(key).map_err(|error| failed("redb.update", error))?;
                change(old.as_ref().map(|old| old.value()), &mut new)
            };
            match update {
                Update::Keep => Ok(()),
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    put_in(table, key, &new)
                }
                Update::Delete => delete_in(table, key),
            }
        })
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        self.transact("redb.write", durability, |table| {
            batch.iter().try_for_each(|op| match op {
                BatchOp::Put { key, value, .. } => put_in(table, key, value),
                BatchOp::Delete { key, .. } => delete_in(table, key),
            })
        })
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let reads = self.database.begin_read().map_err(|error| failed("redb.scan", error))?;
        let table = reads.open_table(TABLE).map_err(|error| failed("redb.scan", error))?;
        let mut entries =
            table.range::<&[u8]>(bounds(range)).map_err(|error| failed("redb.scan", error))?;
        loop {
            let entry = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            let (key, value) = entry.map_err(|error| failed("redb.scan", error))?;
            if !visit(key.value(), value.value()) {
                return Ok(());
            }
        }
    }

    fn sync(&self) -> Result<()> {
        self.transact("redb.sync", self.strongest_durability, |_| Ok(()))
    }

    fn close(&self) -> Result<()> {
        // No write comes after it that could leave a sync out again.
        self.syncs.store(true, Ordering::Release);
        self.sync()
    }
}
