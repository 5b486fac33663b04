//! fjall.
//!
//! Durability: `memory` leaves the journal in the program's buffer (a run at `memory` opens the
//! database so); `os` writes it to the operating system, `synced` syncs its data before a write
//! completes. In a run at `os` or `synced` the journal of every write is written to the operating
//! system. An update is a read and a write, as in YCSB: not atomic.

use ::fjall::config::CompressionPolicy;
use ::fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ferrokit_bench::peer::{Facts, Peer, VisitEntry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, WriteBatch};

use crate::{
    LONGEST_VALUE_BYTES, SKIPS_EMPTY_KEYS, bounds_without_empty, failed, refuse_empty, subject,
};

pub(crate) const VERSION: &str = "3.1.13";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "fjall",
    description: "fjall, a log-structured merge tree",
    skips: SKIPS_EMPTY_KEYS,
    open,
};

const COMPRESSIONS: [(&str, CompressionType); 2] =
    [("lz4", CompressionType::Lz4), ("none", CompressionType::None)];
const WORKER_THREADS: usize = 2;

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    /// Whether writes stay in the program's buffer unless they are persisted.
    is_buffered: bool,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    let compression =
        url.take_choice("compression", &COMPRESSIONS)?.unwrap_or(CompressionType::Lz4);
    url.finish()?;
    let is_buffered = settings.durability == Durability::Memory;
    let database = Database::builder(&settings.directory)
        .cache_size(settings.cache_bytes())
        .manual_journal_persist(is_buffered)
        .worker_threads(WORKER_THREADS)
        .open()
        .map_err(|error| failed("fjall.open", error))?;
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(settings.write_buffer_bytes())
            .manual_journal_persist(is_buffered)
            .data_block_compression_policy(CompressionPolicy::all(compression))
    };
    let keyspace =
        database.keyspace("bench", options).map_err(|error| failed("fjall.open", error))?;
    let text = format!(
        "fjall {VERSION}: cache {} MiB, memtables of {} MiB, {compression:?}, {WORKER_THREADS} \
         workers; memory: journal left in the program's buffer, os: journal written, synced: \
         journal's data synced for each write; updates: get and insert",
        settings.cache_bytes() >> 20,
        settings.write_buffer_bytes() >> 20,
    );
    Ok(subject(Fjall { database, keyspace, is_buffered }, text))
}

fn mode(durability: Durability) -> Option<PersistMode> {
    match durability {
        Durability::Memory => None,
        Durability::Os => Some(PersistMode::Buffer),
        Durability::Synced => Some(PersistMode::SyncData),
    }
}

impl Fjall {
    /// Completes a single write, which the keyspace has written to the operating system by itself
    /// unless it is buffered.
    fn persist(&self, durability: Durability) -> Result<()> {
        match mode(durability) {
            Some(PersistMode::Buffer) if !self.is_buffered => Ok(()),
            Some(mode) => {
                self.database.persist(mode).map_err(|error| failed("fjall.persist", error))
            }
            None => Ok(()),
        }
    }
}

impl Peer for Fjall {
    fn facts(&self) -> Facts {
        Facts {
            name: ADAPTER.name,
            is_ordered: true,
            has_batches: true,
            updates_are_atomic: false,
            strongest_durability: Durability::Synced,
            max_key_bytes: usize::from(u16::MAX),
            max_value_bytes: LONGEST_VALUE_BYTES,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        refuse_empty("fjall.put", key)?;
        self.keyspace.insert(key, value).map_err(|error| failed("fjall.put", error))?;
        self.persist(durability)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        refuse_empty("fjall.get", key)?;
        let found = self.keyspace.get(key).map_err(|error| failed("fjall.get", error))?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        refuse_empty("fjall.delete", key)?;
        self.keyspace.remove(key).map_err(|error| failed("fjall.delete", error))?;
        self.persist(durability)
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        let mut writes = self.database.batch().durability(mode(durability));
        for op in batch.iter() {
            refuse_empty("fjall.write", op.key())?;
            match op {
                BatchOp::Put { key, value, .. } => writes.insert(&self.keyspace, key, value),
                BatchOp::Delete { key, .. } => writes.remove(&self.keyspace, key),
            }
        }
        writes.commit().map_err(|error| failed("fjall.write", error))
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let Some(bounds) = bounds_without_empty(range) else { return Ok(()) };
        let mut entries = self.keyspace.range::<&[u8], _>(bounds);
        loop {
            let entry = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            let (key, value) = entry.into_inner().map_err(|error| failed("fjall.scan", error))?;
            if !visit(&key, &value) {
                return Ok(());
            }
        }
    }

    fn sync(&self) -> Result<()> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| failed("fjall.sync", error))
    }

    fn close(&self) -> Result<()> {
        self.sync()
    }
}
