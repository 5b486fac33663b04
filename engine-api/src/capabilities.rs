//! [`Capabilities`]: facts about an engine. The conformance suite checks that facts and behaviour
//! agree in both directions.

use crate::batch::WriteBatch;
use crate::entry::KeyspaceId;
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::transaction::Isolation;

/// Where an engine keeps data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Process memory.
    Memory,
    /// Memory-mapped files.
    Mapped,
    /// Files.
    Disk,
    /// Persistent memory.
    Pmem,
    /// An object store.
    Object,
}

/// What an engine can do and where its limits are. Beyond a limit an operation answers
/// `InvalidArgument`; without a capability, `Unsupported` (or `None` from its `as_*` method).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The engine's name, as in its URL.
    pub engine: &'static str,
    /// Range scans ([`Ordered`](crate::Ordered)).
    pub ordered: bool,
    /// Consistent views ([`Snapshots`](crate::Snapshots)).
    pub snapshots: bool,
    /// Online backup ([`Checkpoint`](crate::Checkpoint)).
    pub checkpoint: bool,
    /// A change feed ([`Changes`](crate::Changes)).
    pub changes: bool,
    /// The strongest isolation of [`Transactions`](crate::Transactions), if there are any.
    pub transactions: Option<Isolation>,
    /// Entries and writes carry [`Sequence`](crate::Sequence) numbers.
    pub sequence_numbers: bool,
    /// [`keyspace_len`](crate::KvEngine::keyspace_len) is exact.
    pub exact_len: bool,
    /// The longest key in bytes. Keys may be empty.
    pub max_key_bytes: usize,
    /// The longest value in bytes.
    pub max_value_bytes: usize,
    /// The most writes in a batch.
    pub max_batch_ops: usize,
    /// The most key and value bytes in a batch.
    pub max_batch_bytes: usize,
    /// Keyspace ids are below this.
    pub max_keyspaces: u32,
    /// The strongest durability a write may ask for.
    pub strongest_durability: Durability,
    /// Where data lives.
    pub tiers: &'static [Tier],
    /// Writes on persistent memory become durable without a log.
    pub persistent_memory: bool,
}

impl Capabilities {
    /// Refuses a keyspace or key beyond the limits.
    ///
    /// # Errors
    /// `InvalidArgument`.
    #[inline]
    pub fn check_key(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Result<()> {
        self.check_keyspace(operation, keyspace)?;
        if key.len() > self.max_key_bytes {
            return Err(
                too_large(operation, "key bytes", key.len(), self.max_key_bytes).with_key(key)
            );
        }
        Ok(())
    }

    /// Refuses a keyspace beyond the limit.
    ///
    /// # Errors
    /// `InvalidArgument`.
    #[inline]
    pub fn check_keyspace(&self, operation: &'static str, keyspace: KeyspaceId) -> Result<()> {
        if keyspace.0 >= self.max_keyspaces {
            return Err(too_large(
                operation,
                "keyspace id",
                keyspace.0 as usize,
                (self.max_keyspaces as usize).saturating_sub(1),
            ));
        }
        Ok(())
    }

    /// Refuses a value beyond the limit.
    ///
    /// # Errors
    /// `InvalidArgument`.
    #[inline]
    pub fn check_value(&self, operation: &'static str, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > self.max_value_bytes {
            return Err(too_large(operation, "value bytes", value.len(), self.max_value_bytes)
                .with_key(key));
        }
        Ok(())
    }

    /// Refuses a batch that is beyond a limit, itself or in one of its writes.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check_batch(&self, operation: &'static str, batch: &WriteBatch) -> Result<()> {
        if batch.len() > self.max_batch_ops {
            return Err(too_large(operation, "batch writes", batch.len(), self.max_batch_ops));
        }
        if batch.bytes() > self.max_batch_bytes {
            return Err(too_large(operation, "batch bytes", batch.bytes(), self.max_batch_bytes));
        }
        for op in batch.iter() {
            self.check_key(operation, op.keyspace(), op.key())?;
            if let crate::BatchOp::Put { key, value, .. } = op {
                self.check_value(operation, key, value)?;
            }
        }
        Ok(())
    }

    /// Refuses a durability the engine cannot give.
    ///
    /// # Errors
    /// `Unsupported`.
    #[inline]
    pub fn check_durability(&self, operation: &'static str, level: Durability) -> Result<()> {
        if level > self.strongest_durability {
            return Err(Error::unsupported(
                operation,
                format!(
                    "durability {level:?} asked, {} gives at most {:?}",
                    self.engine, self.strongest_durability
                ),
            ));
        }
        Ok(())
    }
}

#[cold]
fn too_large(operation: &'static str, what: &str, got: usize, limit: usize) -> Error {
    Error::invalid(operation, format!("{what}: {got}, the limit is {limit}"))
}
