//! SlateDB, over object_store's local file system: every object is a file. It is asynchronous: the
//! adapter has a tokio runtime of two threads and waits for each call on the caller's thread.
//!
//! Durability: in a run at `memory` SlateDB writes no log; a write is in its memtable. In a run at
//! `os` or `synced` a write at that level flushes the log at once and waits for it instead of for
//! the flush interval: a new file for each group of writes. Its bytes are then with the operating
//! system; opened for `synced` the store syncs each file and its directory before the flush
//! completes. Opened for less, no file is synced, so such a run offers no more than `os`.
//!
//! An update is a read and a write, as in YCSB: not atomic.

use std::sync::Arc;
use std::time::Duration;

use ::slatedb::bytes::Bytes;
use ::slatedb::config::{CompactorOptions, CompressionCodec, ScanOptions, Settings};
use ::slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};
use ::slatedb::{Db, IterationOrder, WriteBatch};
use ferrokit_bench::peer::{Facts, Peer, VisitEntry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, WriteBatch as Batch,
};
use object_store::local::LocalFileSystem;
use tokio::runtime::Runtime;

use crate::{
    LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_EMPTY_KEYS, bounds_without_empty, failed,
    refuse_empty, subject, usize_of,
};

pub(crate) const VERSION: &str = "0.18.0";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "slatedb",
    description: "SlateDB, a log-structured merge tree for object stores, here on files",
    skips: SKIPS_EMPTY_KEYS,
    open,
};

const COMPRESSIONS: [(&str, Option<CompressionCodec>); 2] =
    [("lz4", Some(CompressionCodec::Lz4)), ("none", None)];
const RUNTIME_THREADS: usize = 2;
const CACHE_SHARDS: usize = 4;
/// How often the compactor looks for work. SlateDB's own 5 s are for object stores, where every
/// look costs money.
const COMPACTOR_POLL: Duration = Duration::from_millis(200);

struct SlateDb {
    db: Db,
    strongest_durability: Durability,
    /// Dropped after the database, whose tasks it runs.
    runtime: Runtime,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    let compression =
        url.take_choice("compression", &COMPRESSIONS)?.unwrap_or(Some(CompressionCodec::Lz4));
    url.finish()?;
    let runtime = crate::runtime(RUNTIME_THREADS)?;
    let has_log = settings.durability > Durability::Memory;
    let is_synced = settings.durability == Durability::Synced;
    create_directory(&settings.directory)?;
    let files = LocalFileSystem::new_with_prefix(&settings.directory)
        .map_err(|error| failed("slatedb.open", error))?
        .with_fsync(is_synced);
    let buffers_bytes = settings.write_buffer_bytes() * SubjectSettings::WRITE_BUFFERS;
    let slatedb_settings = Settings {
        wal_enabled: has_log,
        l0_sst_size_bytes: usize_of(settings.write_buffer_bytes()),
        max_unflushed_bytes: usize_of(buffers_bytes),
        // Memtables are flushed by size: every durable write flushes the log.
        max_wal_flushes_before_l0_flush: u64::MAX,
        compression_codec: compression,
        compactor_options: Some(CompactorOptions {
            poll_interval: COMPACTOR_POLL,
            ..CompactorOptions::default()
        }),
        ..Settings::default()
    };
    let cache = FoyerCache::new_with_opts(FoyerCacheOptions {
        max_capacity: settings.cache_bytes(),
        shards: CACHE_SHARDS,
    });
    let database = Db::builder("bench", Arc::new(files))
        .with_settings(slatedb_settings)
        .with_db_cache(Arc::new(cache), 0)
        .build();
    let db = runtime.block_on(database).map_err(|error| failed("slatedb.open", error))?;
    let text = format!(
        "SlateDB {VERSION} on local files: cache {} MiB, memtables of {} MiB, {} MiB of them \
         unflushed at most, {}; tokio with {RUNTIME_THREADS} threads, a wait per call; {}; \
         updates: get and put",
        settings.cache_bytes() >> 20,
        settings.write_buffer_bytes() >> 20,
        buffers_bytes >> 20,
        if compression.is_some() { "Lz4" } else { "no compression" },
        match settings.durability {
            Durability::Memory => "memory: no log, os: memtables flushed to files for each write",
            Durability::Os =>
                "memory: log flushed every 100 ms, os: log flushed to a file for each write",
            Durability::Synced =>
                "memory: log flushed every 100 ms, synced: log flushed to a synced file for each \
                 write",
        },
    );
    let strongest_durability = if is_synced { Durability::Synced } else { Durability::Os };
    Ok(subject(SlateDb { db, strongest_durability, runtime }, text))
}

#[expect(clippy::disallowed_methods, reason = "the object store is the real file system")]
fn create_directory(directory: &str) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| failed("slatedb.open", error))
}

impl SlateDb {
    fn complete(
        &self,
        operation: &'static str,
        durability: Durability,
        write: impl Future<Output = std::result::Result<::slatedb::WriteHandle, ::slatedb::Error>>,
    ) -> Result<()> {
        let written = self.runtime.block_on(async {
            write.await?;
            match durability {
                Durability::Memory => Ok(()),
                Durability::Os | Durability::Synced => self.db.flush().await,
            }
        });
        written.map_err(|error: ::slatedb::Error| failed(operation, error))
    }
}

impl Peer for SlateDb {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: false,
            strongest_durability: self.strongest_durability,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        refuse_empty("slatedb.put", key)?;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.complete("slatedb.put", durability, self.db.put_bytes(key, value))
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        refuse_empty("slatedb.get", key)?;
        let found = self.runtime.block_on(self.db.get(key));
        let found = found.map_err(|error| failed("slatedb.get", error))?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        refuse_empty("slatedb.delete", key)?;
        self.complete("slatedb.delete", durability, self.db.delete(key))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<()> {
        let mut writes = WriteBatch::new();
        for op in batch.iter() {
            refuse_empty("slatedb.write", op.key())?;
            match op {
                BatchOp::Put { key, value, .. } => writes.put(key, value),
                BatchOp::Delete { key, .. } => writes.delete(key),
            }
        }
        self.complete("slatedb.write", durability, self.db.write(writes))
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let Some(bounds) = bounds_without_empty(range) else { return Ok(()) };
        let options = ScanOptions {
            cache_blocks: true,
            order: match direction {
                Direction::Forward => IterationOrder::Ascending,
                Direction::Backward => IterationOrder::Descending,
            },
            ..ScanOptions::default()
        };
        let scanned = self.runtime.block_on(async {
            let mut entries = self.db.scan_with_options(bounds, &options).await?;
            while let Some(entry) = entries.next().await? {
                if !visit(&entry.key, &entry.value) {
                    break;
                }
            }
            Ok(())
        });
        scanned.map_err(|error: ::slatedb::Error| failed("slatedb.scan", error))
    }

    fn sync(&self) -> Result<()> {
        self.runtime.block_on(self.db.flush()).map_err(|error| failed("slatedb.sync", error))
    }

    fn close(&self) -> Result<()> {
        self.runtime.block_on(self.db.close()).map_err(|error| failed("slatedb.close", error))
    }
}
