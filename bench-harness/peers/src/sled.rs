//! sled 0.34.
//!
//! Durability: `memory` leaves a write in the buffers of sled's log, which are written when they
//! are full; the flush that sled makes twice a second unless told otherwise is off. `os` calls
//! sled's `flush`, which writes the buffers and has the kernel write the pages out
//! (`sync_file_range`); sled has nothing cheaper that leaves its buffers. That empties no cache of
//! the device and writes no metadata of the file, so that `synced` also syncs the file's data
//! itself (`fdatasync`) before a write completes.
//!
//! An update is a loop of compare and swap: atomic.

use std::fs::File;

use ::sled::{Batch, Db, Mode};
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, VisitEntry, refuse_expiry};
use ferrokit_bench::subject::{Adapter, Subject, SubjectSettings};
use ferrokit_engine::{
    BatchOp, Direction, Durability, EngineUrl, KeyRange, Result, Update, WriteBatch,
};

use crate::{LONGEST_KEY_BYTES, LONGEST_VALUE_BYTES, SKIPS, bounds, failed, subject};

pub(crate) const VERSION: &str = "0.34.7";

pub(crate) const ADAPTER: Adapter = Adapter {
    name: "sled",
    description: "sled 0.34, a log-structured B-tree without locks",
    skips: SKIPS,
    open,
};

/// sled's file within its directory.
const FILE: &str = "db";

struct Sled {
    db: Db,
    /// sled's own file, to sync it.
    file: File,
}

fn open(url: &EngineUrl, settings: &SubjectSettings) -> Result<Subject> {
    url.finish()?;
    let db = ::sled::Config::new()
        .path(&settings.directory)
        .cache_capacity(settings.memory_bytes)
        .mode(Mode::HighThroughput)
        .flush_every_ms(None)
        .open()
        .map_err(|error| failed("sled.open", error))?;
    let file = open_file(&settings.directory)?;
    let text = format!(
        "sled {VERSION}: page cache {} MiB, high-throughput mode, no flush by time, no \
         compression; memory: log left in sled's buffers, os: sled's flush for each write (log \
         written, pages written out by sync_file_range), synced: the same and fdatasync; updates: \
         compare and swap",
        settings.memory_bytes >> 20,
    );
    Ok(subject(Sled { db, file }, text))
}

#[expect(clippy::disallowed_methods, reason = "sled's file is on the real file system")]
fn open_file(directory: &str) -> Result<File> {
    let path = std::path::Path::new(directory).join(FILE);
    File::open(path).map_err(|error| failed("sled.open", error))
}

impl Sled {
    fn complete(&self, durability: Durability) -> Result<()> {
        if durability >= Durability::Os {
            self.db.flush().map_err(|error| failed("sled.flush", error))?;
        }
        if durability == Durability::Synced {
            self.file.sync_data().map_err(|error| failed("sled.sync", error))?;
        }
        Ok(())
    }
}

impl Peer for Sled {
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
        self.db.insert(key, value).map_err(|error| failed("sled.put", error))?;
        self.complete(durability)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.db.get(key).map_err(|error| failed("sled.get", error))?;
        if let Some(value) = &found {
            visit(value);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.db.remove(key).map_err(|error| failed("sled.delete", error))?;
        self.complete(durability)
    }

    fn update(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<()> {
        let failed = |error| failed("sled.update", error);
        let mut old = self.db.get(key).map_err(failed)?;
        let mut new = Vec::new();
        loop {
            let replacement = match change(old.as_deref(), &mut new) {
                Update::Keep => return Ok(()),
                Update::Put { expire_at } => {
                    refuse_expiry(expire_at)?;
                    Some(new.as_slice())
                }
                Update::Delete => None,
            };
            match self.db.compare_and_swap(key, old, replacement).map_err(failed)? {
                Ok(()) => return self.complete(durability),
                Err(changed) => old = changed.current,
            }
        }
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        let mut writes = Batch::default();
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value, .. } => writes.insert(key, value),
                BatchOp::Delete { key, .. } => writes.remove(key),
            }
        }
        self.db.apply_batch(writes).map_err(|error| failed("sled.write", error))?;
        self.complete(durability)
    }

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let mut entries = self.db.range::<&[u8], _>(bounds(range));
        loop {
            let entry = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            let (key, value) = entry.map_err(|error| failed("sled.scan", error))?;
            if !visit(&key, &value) {
                return Ok(());
            }
        }
    }

    fn sync(&self) -> Result<()> {
        self.complete(Durability::Synced)
    }

    fn close(&self) -> Result<()> {
        self.sync()
    }
}
