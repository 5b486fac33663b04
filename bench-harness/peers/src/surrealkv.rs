//! SurrealKV. Its commits are asynchronous: the adapter has a tokio runtime of two threads and
//! waits for each commit on the caller's thread. Reads are synchronous.
//!
//! Durability: `memory` and `os` commit with `Durability::Eventual`, `os` then has the log's buffer
//! written to the operating system; `synced` commits with `Durability::Immediate`, which syncs the
//! log, into a segment with zeros written ahead so that a sync is one of data alone.
//!
//! Every write is a transaction with optimistic concurrency control; one that loses a conflict
//! runs again. An update is one: atomic.

use ::surrealkv::{
    CompressionType, Durability as CommitDurability, Error as SurrealKvError, LSMIterator, Mode,
    Options, ReadOptions, Transaction, Tree, TreeBuilder,
};
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, Update, WriteBatch,
};
use tokio::runtime::Runtime;

use crate::{
    LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS_EMPTY_KEYS, failed, half_open, refuse_empty,
    subject, usize_of,
};

pub(crate) const VERSION: &str = "1.2.0";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "surrealkv",
    description: "SurrealKV, a log-structured merge tree with asynchronous commits",
    skips: SKIPS_EMPTY_KEYS,
    open,
};

const COMPRESSIONS: [(&str, CompressionType); 2] =
    [("snappy", CompressionType::SnappyCompression), ("none", CompressionType::None)];
const RUNTIME_THREADS: usize = 2;
const BLOCK_BYTES: usize = 16 << 10;

struct SurrealKv {
    tree: Tree,
    /// Dropped after the tree, whose tasks it runs.
    runtime: Runtime,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    let compression = url
        .take_choice("compression", &COMPRESSIONS)?
        .unwrap_or(CompressionType::SnappyCompression);
    url.finish()?;
    let runtime = crate::runtime(RUNTIME_THREADS)?;
    let sealed_memtables = usize_of(SubjectSettings::WRITE_BUFFERS - 1);
    let mut options = Options::new()
        .with_path(settings.directory.as_str().into())
        .with_block_cache_capacity(settings.cache_bytes())
        .with_block_size(BLOCK_BYTES)
        .with_max_memtable_size(usize_of(settings.write_buffer_bytes()))
        .with_memtable_stall_threshold(sealed_memtables)
        .with_wal_preallocation(settings.durability == Durability::Synced);
    options = match compression {
        CompressionType::None => options.without_compression(),
        compression => options.with_compression_per_level(vec![compression]),
    };
    let entered = runtime.enter();
    let tree = TreeBuilder::with_options(options)
        .build()
        .map_err(|error| failed("surrealkv.open", error))?;
    drop(entered);
    let text = format!(
        "SurrealKV {VERSION}: block cache {} MiB, memtables of {} MiB (of keys and nodes: the \
         engine does not count values) and {sealed_memtables} waiting, blocks of {} KiB, \
         {compression:?}, no value log; tokio with {RUNTIME_THREADS} threads, a wait per commit; \
         memory: commit without a sync, os: log's buffer written after the commit, synced: log \
         synced for each group of commits; updates: one transaction",
        settings.cache_bytes() >> 20,
        settings.write_buffer_bytes() >> 20,
        BLOCK_BYTES >> 10,
    );
    Ok(subject(SurrealKv { tree, runtime }, text))
}

impl SurrealKv {
    /// Runs a write transaction until it meets no conflict.
    fn transact(
        &self,
        operation: &'static str,
        mode: Mode,
        durability: Durability,
        mut write: impl FnMut(&mut Transaction) -> Result<()>,
    ) -> Result<()> {
        let commit_durability = match durability {
            Durability::Memory | Durability::Os => CommitDurability::Eventual,
            Durability::Synced => CommitDurability::Immediate,
        };
        loop {
            let mut transaction =
                self.tree.begin_with_mode(mode).map_err(|error| failed(operation, error))?;
            transaction.set_durability(commit_durability);
            write(&mut transaction)?;
            match self.runtime.block_on(transaction.commit()) {
                Ok(()) => break,
                Err(
                    SurrealKvError::TransactionWriteConflict | SurrealKvError::TransactionRetry,
                ) => {}
                Err(error) => return Err(failed(operation, error)),
            }
        }
        match durability {
            Durability::Os => self.tree.flush_wal(false).map_err(|error| failed(operation, error)),
            Durability::Memory | Durability::Synced => Ok(()),
        }
    }

    fn reads(&self, operation: &'static str) -> Result<Transaction> {
        self.tree.begin_with_mode(Mode::ReadOnly).map_err(|error| failed(operation, error))
    }
}

fn put_in(transaction: &mut Transaction, key: &[u8], value: &[u8]) -> Result<()> {
    refuse_empty("surrealkv.put", key)?;
    transaction.set(key, value).map_err(|error| failed("surrealkv.put", error))
}

fn delete_in(transaction: &mut Transaction, key: &[u8]) -> Result<()> {
    refuse_empty("surrealkv.delete", key)?;
    transaction.delete(key).map_err(|error| failed("surrealkv.delete", error))
}

impl Peer for SurrealKv {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: true,
            strongest_durability: Durability::Synced,
            max_key_bytes: LONGEST_KEY_BYTES,
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.transact("surrealkv.put", Mode::WriteOnly, durability, |transaction| {
            put_in(transaction, key, value)
        })
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        refuse_empty("surrealkv.get", key)?;
        let found = self.reads("surrealkv.get")?.get(key);
        let found = found.map_err(|error| failed("surrealkv.get", error))?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let reads = self.reads("surrealkv.get_many")?;
        for (index, key) in keys.iter().enumerate() {
            refuse_empty("surrealkv.get_many", key)?;
            let found = reads.get(*key).map_err(|error| failed("surrealkv.get_many", error))?;
            if let Some(value) = &found {
                visit(index, value);
            }
        }
        Ok(())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.transact("surrealkv.delete", Mode::WriteOnly, durability, |transaction| {
            delete_in(transaction, key)
        })
    }

    fn update(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<()> {
        refuse_empty("surrealkv.update", key)?;
        let mut new = Vec::new();
        self.transact("surrealkv.update", Mode::ReadWrite, durability, |transaction| {
            let old = transaction.get(key).map_err(|error| failed("surrealkv.update", error))?;
            match change(old.as_deref(), &mut new) {
                Update::Keep => Ok(()),
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    put_in(transaction, key, &new)
                }
                Update::Delete => delete_in(transaction, key),
            }
        })
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        self.transact("surrealkv.write", Mode::WriteOnly, durability, |transaction| {
            batch.iter().try_for_each(|op| match op {
                BatchOp::Put { key, value, .. } => put_in(transaction, key, value),
                BatchOp::Delete { key, .. } => delete_in(transaction, key),
            })
        })
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let failed = |error| failed("surrealkv.scan", error);
        let (start, end) = half_open(range);
        let mut options = ReadOptions::new();
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        let reads = self.reads("surrealkv.scan")?;
        let mut entries = reads.range_with_options(&options).map_err(failed)?;
        let mut is_valid = match direction {
            Direction::Forward => entries.seek_first(),
            Direction::Backward => entries.seek_last(),
        }
        .map_err(failed)?;
        while is_valid {
            if !visit(entries.key().user_key(), &entries.value_ref().map_err(failed)?) {
                return Ok(());
            }
            is_valid = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.prev(),
            }
            .map_err(failed)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.tree.flush_wal(true).map_err(|error| failed("surrealkv.sync", error))
    }

    fn close(&self) -> Result<()> {
        self.runtime.block_on(self.tree.close()).map_err(|error| failed("surrealkv.close", error))
    }
}
