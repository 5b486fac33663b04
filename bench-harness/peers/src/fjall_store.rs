//! fjall.
//!
//! Durability: `memory` leaves the journal in the program's buffer (a run at `memory` opens the
//! database so); `os` writes it to the operating system, `synced` syncs its data before a write
//! completes. Writes of the load go as those of the run, but are not synced. A
//! read-modify-write is a read and a write, as in YCSB: not atomic.

use ferrokit_bench::store::{ChangeValue, VisitEntry};
use ferrokit_bench::{Store, StoreSettings};
use ferrokit_engine::{Durability, EngineUrl, Error, ErrorKind, Result};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

const COMPRESSIONS: [(&str, CompressionType); 2] =
    [("lz4", CompressionType::Lz4), ("none", CompressionType::None)];
const WORKER_THREADS: usize = 2;

struct FjallStore {
    database: Database,
    keyspace: Keyspace,
    settings: String,
}

/// Opens a database in the directory of the settings.
pub(crate) fn open(url: &EngineUrl, settings: &StoreSettings) -> Result<Box<dyn Store>> {
    let compression =
        url.take_choice("compression", &COMPRESSIONS)?.unwrap_or(CompressionType::Lz4);
    url.finish()?;
    let is_buffered = settings.durability == Durability::Memory;
    let database = Database::builder(&settings.directory)
        .cache_size(settings.cache_bytes())
        .manual_journal_persist(is_buffered)
        .worker_threads(WORKER_THREADS)
        .open()
        .map_err(|error| failed("open", error))?;
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(settings.write_buffer_bytes())
            .manual_journal_persist(is_buffered)
            .data_block_compression_policy(CompressionPolicy::all(compression))
    };
    let keyspace = database.keyspace("bench", options).map_err(|error| failed("open", error))?;
    let settings = format!(
        "fjall: cache {} MiB, memtables of {} MiB, {compression:?}, {WORKER_THREADS} workers; \
         memory: journal left in the program's buffer, os: journal written, synced: journal synced \
         for each write; rmw: get and insert",
        settings.cache_bytes() >> 20,
        settings.write_buffer_bytes() >> 20,
    );
    Ok(Box::new(FjallStore { database, keyspace, settings }))
}

fn failed(operation: &'static str, error: fjall::Error) -> Error {
    Error::new(ErrorKind::Io, operation, "fjall failed").with_source(error)
}

impl FjallStore {
    /// The keyspace writes to the operating system by itself, unless it was opened for a run at
    /// `memory`.
    fn persist(&self, durability: Durability) -> Result<()> {
        if durability < Durability::Synced {
            return Ok(());
        }
        self.database.persist(PersistMode::SyncData).map_err(|error| failed("persist", error))
    }
}

impl Store for FjallStore {
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.keyspace.insert(key, value).map_err(|error| failed("put", error))?;
        self.persist(durability)
    }

    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.keyspace.get(key).map_err(|error| failed("get", error))?;
        if let Some(found) = &found {
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.keyspace.remove(key).map_err(|error| failed("delete", error))?;
        self.persist(durability)
    }

    fn rmw(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<bool> {
        let old = self.keyspace.get(key).map_err(|error| failed("get", error))?;
        let Some(old) = old else { return Ok(false) };
        let mut new = Vec::with_capacity(old.len());
        change(&old, &mut new);
        self.put(key, &new, durability)?;
        Ok(true)
    }

    fn rmw_is_atomic(&self) -> bool {
        false
    }

    fn scan(&self, start: &[u8], entries: usize, visit: &mut VisitEntry<'_>) -> Result<()> {
        for guard in self.keyspace.range(start..).take(entries) {
            let (key, value) = guard.into_inner().map_err(|error| failed("scan", error))?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn supports_scan(&self) -> bool {
        true
    }

    fn flush(&self) -> Result<()> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| failed("flush", error))
    }

    fn close(&self) -> Result<()> {
        self.flush()
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }
}
