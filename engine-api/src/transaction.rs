//! Transactions.

use crate::engine::KvRead;
use crate::entry::{KeyspaceId, UnixMillis};
use crate::error::Result;
use crate::op::Op;
use crate::options::{WriteOptions, Written};

/// What a transaction is protected from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Isolation {
    /// Reads see one snapshot; two transactions that write one key cannot both commit.
    Snapshot,
    /// As if transactions ran one after the other: what was read (keys and ranges) must not have
    /// changed at commit.
    #[default]
    Serializable,
}

/// Options of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    /// The isolation.
    pub isolation: Isolation,
}

/// Begins transactions.
pub trait Transactions: Send + Sync {
    /// Begins a transaction on a view of this moment.
    ///
    /// # Errors
    /// `Unsupported` for an isolation the engine cannot give, `Busy` when too many are open,
    /// `Closed`.
    fn begin(&self, options: &TransactionOptions) -> Op<'_, Box<dyn Transaction>>;
}

/// A point in a transaction to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub usize);

/// An optimistic transaction: it reads its own writes over a view of its beginning, and the first
/// to commit wins. Dropping it rolls it back.
pub trait Transaction: KvRead {
    /// Stores a value on commit.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the limits of a key, a value or a transaction.
    fn put(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<()>;

    /// Removes a key on commit.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()>;

    /// Marks the writes so far.
    fn savepoint(&mut self) -> Savepoint;

    /// Undoes the writes since `savepoint`. What was read stays read.
    ///
    /// # Errors
    /// `InvalidArgument` for a savepoint that a rollback has passed.
    fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()>;

    /// Commits. A transaction that wrote nothing never conflicts.
    ///
    /// # Errors
    /// `Conflict` if a concurrent transaction or write won; those of
    /// [`KvEngine::write`](crate::KvEngine::write).
    fn commit(self: Box<Self>, options: &WriteOptions) -> Op<'static, Written>;
}
