//! RocksDB.
//!
//! Durability: `memory` writes no log; `os` writes the log to the operating system; `synced` syncs
//! it before a write completes. A read-modify-write is a read and a write, as in YCSB: not atomic.

use ferrokit_bench::store::{ChangeValue, VisitEntry};
use ferrokit_bench::{Store, StoreSettings};
use ferrokit_engine::{Durability, EngineUrl, Error, ErrorKind, Result};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteOptions,
};

const COMPRESSIONS: [(&str, DBCompressionType); 2] =
    [("lz4", DBCompressionType::Lz4), ("none", DBCompressionType::None)];
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BACKGROUND_JOBS: i32 = 2;

struct RocksDbStore {
    db: DB,
    read: ReadOptions,
    memory: WriteOptions,
    os: WriteOptions,
    synced: WriteOptions,
    settings: String,
}

/// Opens a database in the directory of the settings.
pub(crate) fn open(url: &EngineUrl, settings: &StoreSettings) -> Result<Box<dyn Store>> {
    let compression =
        url.take_choice("compression", &COMPRESSIONS)?.unwrap_or(DBCompressionType::Lz4);
    url.finish()?;
    let cache_bytes = usize_of(settings.cache_bytes());
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(compression);
    options.set_write_buffer_size(usize_of(settings.write_buffer_bytes()));
    options.set_max_write_buffer_number(StoreSettings::WRITE_BUFFERS as i32);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    let db = DB::open(&options, &settings.directory).map_err(|error| failed("open", error))?;
    let settings = format!(
        "RocksDB: LRU block cache {} MiB, {} memtables of {} MiB, bloom {BLOOM_BITS_PER_KEY} bits, \
         {compression:?}, {BACKGROUND_JOBS} background jobs; memory: no log, os: log written, \
         synced: log synced for each write; rmw: get and put",
        settings.cache_bytes() >> 20,
        StoreSettings::WRITE_BUFFERS,
        settings.write_buffer_bytes() >> 20,
    );
    let mut memory = WriteOptions::default();
    memory.disable_wal(true);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let os = WriteOptions::default();
    Ok(Box::new(RocksDbStore { db, read: ReadOptions::default(), memory, os, synced, settings }))
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn failed(operation: &'static str, error: rocksdb::Error) -> Error {
    Error::new(ErrorKind::Io, operation, "RocksDB failed").with_source(error)
}

impl RocksDbStore {
    fn options(&self, durability: Durability) -> &WriteOptions {
        match durability {
            Durability::Memory => &self.memory,
            Durability::Os => &self.os,
            Durability::Synced => &self.synced,
        }
    }
}

impl Store for RocksDbStore {
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        let options = self.options(durability);
        self.db.put_opt(key, value, options).map_err(|error| failed("put", error))
    }

    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found =
            self.db.get_pinned_opt(key, &self.read).map_err(|error| failed("get", error))?;
        if let Some(found) = &found {
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.db.delete_opt(key, self.options(durability)).map_err(|error| failed("delete", error))
    }

    fn rmw(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<bool> {
        let old = self.db.get_pinned_opt(key, &self.read).map_err(|error| failed("get", error))?;
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
        let mut iterator = self.db.raw_iterator();
        iterator.seek(start);
        for _ in 0..entries {
            let Some((key, value)) = iterator.item() else { break };
            visit(key, value);
            iterator.next();
        }
        iterator.status().map_err(|error| failed("scan", error))
    }

    fn supports_scan(&self) -> bool {
        true
    }

    fn flush(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| failed("flush", error))
    }

    fn close(&self) -> Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }
}
