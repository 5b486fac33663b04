//! RocksDB.
//!
//! Durability: `memory` writes no log; `os` writes the log to the operating system; `synced` syncs
//! its data before a write completes. An update is a read and a write, as in YCSB: not atomic.
//!
//! Settings follow RocksDB's own advice for a new database (index and filter blocks in the cache,
//! those of level 0 pinned, `bytes_per_sync`), with a filter in the memtables for reads of keys
//! that are not in them. A run at `synced` recycles log files, so that a sync of the log is one of
//! data alone; RocksDB then refuses writes without a log, and `memory` is as `os`.

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Options, ReadOptions,
    WriteBatch, WriteOptions,
};
use ferrokit_bench::peer::{Facts, Peer, VisitEntry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, Error, KeyRange, Result, WriteBatch as Batch,
};

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS, failed, half_open, subject, usize_of};

pub(crate) const VERSION: &str = "0.25.0";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "rocksdb",
    description: "RocksDB, a log-structured merge tree",
    skips: SKIPS,
    open,
};

const COMPRESSIONS: [(&str, DBCompressionType); 2] =
    [("lz4", DBCompressionType::Lz4), ("none", DBCompressionType::None)];
const FAMILY: &str = "default";
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// The part of a memtable that is its filter.
const MEMTABLE_FILTER_RATIO: f64 = 0.02;
const BACKGROUND_JOBS: i32 = 2;
const RECYCLED_LOGS: usize = 4;
const BYTES_PER_SYNC: u64 = 1 << 20;

struct RocksDb {
    db: DB,
    read: ReadOptions,
    memory: WriteOptions,
    os: WriteOptions,
    synced: WriteOptions,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    let compression =
        url.take_choice("compression", &COMPRESSIONS)?.unwrap_or(DBCompressionType::Lz4);
    url.finish()?;
    let cache_bytes = usize_of(settings.cache_bytes());
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_hyper_clock_cache(cache_bytes, 0));
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(compression);
    options.set_write_buffer_size(usize_of(settings.write_buffer_bytes()));
    options.set_max_write_buffer_number(SubjectSettings::WRITE_BUFFERS as i32);
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    let is_synced = settings.durability == Durability::Synced;
    if is_synced {
        options.set_recycle_log_file_num(RECYCLED_LOGS);
    }
    let family = ColumnFamilyDescriptor::new(FAMILY, options.clone());
    let db = DB::open_cf_descriptors(&options, &settings.directory, [family])
        .map_err(|error| failed("rocksdb.open", error))?;
    let text = format!(
        "RocksDB (crate {VERSION}): HyperClock cache {} MiB with index and filter blocks, {} \
         memtables of {} MiB with filters, bloom {BLOOM_BITS_PER_KEY} bits, {compression:?}, \
         {BACKGROUND_JOBS} background jobs; memory: {}, os: log written, synced: log's data \
         synced for each group of writes; updates: get and put",
        settings.cache_bytes() >> 20,
        SubjectSettings::WRITE_BUFFERS,
        settings.write_buffer_bytes() >> 20,
        if is_synced { "as os (recycled logs)" } else { "no log" },
    );
    let mut memory = WriteOptions::default();
    memory.disable_wal(!is_synced);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let os = WriteOptions::default();
    Ok(subject(RocksDb { db, read: ReadOptions::default(), memory, os, synced }, text))
}

impl RocksDb {
    fn options(&self, durability: Durability) -> &WriteOptions {
        match durability {
            Durability::Memory => &self.memory,
            Durability::Os => &self.os,
            Durability::Synced => &self.synced,
        }
    }
}

impl Peer for RocksDb {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: false,
            strongest_durability: Durability::Synced,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        let options = self.options(durability);
        self.db.put_opt(key, value, options).map_err(|error| failed("rocksdb.put", error))
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self
            .db
            .get_pinned_opt(key, &self.read)
            .map_err(|error| failed("rocksdb.get", error))?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.db
            .delete_opt(key, self.options(durability))
            .map_err(|error| failed("rocksdb.delete", error))
    }

    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let family = self
            .db
            .cf_handle(FAMILY)
            .ok_or_else(|| Error::unsupported("rocksdb.get_many", "no column family"))?;
        let keys = keys.iter().copied();
        let found = self.db.batched_multi_get_cf_opt(family, keys, false, &self.read);
        for (index, value) in found.into_iter().enumerate() {
            if let Some(value) = value.map_err(|error| failed("rocksdb.get_many", error))? {
                visit(index, &value);
            }
        }
        Ok(())
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<()> {
        let mut writes = WriteBatch::default();
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value, .. } => writes.put(key, value),
                BatchOp::Delete { key, .. } => writes.delete(key),
            }
        }
        self.db
            .write_opt(writes, self.options(durability))
            .map_err(|error| failed("rocksdb.write", error))
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let (start, end) = half_open(range);
        let mut options = ReadOptions::default();
        if let Some(start) = start {
            options.set_iterate_lower_bound(start);
        }
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        let mut iterator = self.db.raw_iterator_opt(options);
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        while let Some((key, value)) = iterator.item() {
            if !visit(key, value) {
                return Ok(());
            }
            match direction {
                Direction::Forward => iterator.next(),
                Direction::Backward => iterator.prev(),
            }
        }
        iterator.status().map_err(|error| failed("rocksdb.scan", error))
    }

    fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| failed("rocksdb.sync", error))
    }

    fn close(&self) -> Result<()> {
        self.sync()?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}
