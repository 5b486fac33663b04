//! The contract itself: [`KvRead`] and [`KvEngine`].
//!
//! Both are object-safe and have no default methods: a wrapper must forward everything, and a
//! forgotten method does not compile into a wrong default. Sugar lives in
//! [`KvEngineExt`](crate::KvEngineExt).
//!
//! # Visitors
//! Reads lend values to a visitor instead of returning them, so that a value goes from the engine
//! into its caller's buffer with one copy. A visitor runs at most once per key, must not block and
//! must not call the engine (locks of the engine may be held around it).
//!
//! # Visibility
//! Operations on one key are linearizable; a batch becomes visible at once. An entry whose expiry
//! has passed is absent to every operation, whether or not it is still stored.

use crate::batch::WriteBatch;
use crate::capabilities::Capabilities;
use crate::changes::Changes;
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, KeyspaceId, UnixMillis, Update};
use crate::op::Op;
use crate::options::{
    CommitTicket, Durability, KeyspaceLen, ReadOptions, Seen, WriteOptions, Written,
};
use crate::ordered::Ordered;
use crate::snapshot::Snapshots;
use crate::stats::Stats;
use crate::transaction::Transactions;

/// Where a [`sweep`](KvRead::sweep) goes on: bytes that only the engine understands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SweepCursor(Box<[u8]>);

impl SweepCursor {
    /// The beginning of a sweep.
    pub fn start() -> Self {
        Self::default()
    }

    /// A cursor of an engine's making, or one that was stored.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes of the cursor, to store it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the beginning.
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }
}

/// The report of one step of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Where to go on; `None` at the end.
    pub next: Option<SweepCursor>,
    /// How many entries were visited.
    pub visited: usize,
    /// What to wait for before showing the result.
    pub ticket: CommitTicket,
}

/// Reads: what an engine, a snapshot and a transaction have in common.
pub trait KvRead: Send + Sync {
    /// Reads one key; `visit` is called if it is present.
    ///
    /// # Errors
    /// `Corruption`, `Io`, `Poisoned` (the value seen never became durable), `InvalidArgument` (a
    /// keyspace or key beyond the limits).
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen>;

    /// Reads several keys, so that the waits for memory and devices overlap. `visit` gets the
    /// index of the key in `keys` with each entry found, in any order.
    ///
    /// Each key is read as by [`get_with`](Self::get_with); together they are no snapshot, but one
    /// that read a batch's write does not miss that batch's other writes.
    ///
    /// # Errors
    /// As [`get_with`](Self::get_with); keys visited before a failure stay visited.
    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen>;

    /// Tells that operations on `keys` follow: an engine may have the processor fetch what they need,
    /// so that their waits for memory overlap. It changes nothing and waits for nothing; keys beyond
    /// the limits are passed over. Answers whether the engine does so at all, whatever the keys: to
    /// one that does not, nobody need tell them.
    fn prefetch(&self, _keyspace: KeyspaceId, _keys: &[&[u8]]) -> bool {
        false
    }

    /// Visits about `budget` entries of a keyspace, in an order of the engine's own.
    ///
    /// A key that is present during the whole sweep, from [`SweepCursor::start`] to `next == None`,
    /// is visited at least once, whatever is written meanwhile and however the engine grows. Work
    /// per call is bounded; a sweep ends even under constant writes.
    ///
    /// # Errors
    /// As [`get_with`](Self::get_with); `InvalidArgument` for a cursor that is not the engine's.
    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept>;

    /// Range scans, where keys are ordered.
    fn as_ordered(&self) -> Option<&dyn Ordered>;
}

/// A storage engine.
pub trait KvEngine: KvRead {
    /// Stores `value` under `key` until `expire_at`.
    ///
    /// An `expire_at` that already passed stores an entry that is absent: a delete.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the limits, `Unsupported` for a durability the engine cannot give,
    /// `OutOfSpace`, `Busy`, `Io`, `Poisoned`, `Closed`. After any of the last five the write may
    /// or may not have happened.
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written>;

    /// Removes `key`; removing an absent key is no error.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written>;

    /// Atomic read-modify-write of one key. `change` gets the present entry, writes a new value
    /// into the (empty) scratch buffer if it wants one, and says what to do. It must be pure: it
    /// may run more than once, and the last run counts.
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`KvRead::get_with`].
    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written>;

    /// Applies a batch: visible at once, durable as a whole or not at all.
    ///
    /// # Errors
    /// As [`put`](Self::put); `InvalidArgument` beyond the largest batch. Nothing of a refused
    /// batch takes effect.
    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written>;

    /// Completes when the log is durable through `ticket`.
    ///
    /// # Errors
    /// `Poisoned` if it never will be.
    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()>;

    /// Makes every write at [`Durability::Os`] or above that took effect before this call durable
    /// at `level`.
    ///
    /// # Errors
    /// `Unsupported` for a level the engine cannot give; `Poisoned`, `Io`.
    fn sync(&self, level: Durability) -> Op<'_, ()>;

    /// Empties a keyspace, atomically and in constant time.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written>;

    /// Exchanges the contents of two keyspaces, atomically and in constant time.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written>;

    /// How many entries a keyspace holds; exact where
    /// [`Capabilities::exact_len`] says so.
    ///
    /// # Errors
    /// `InvalidArgument`, `Io`, `Corruption`.
    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen>;

    /// What the engine can do and where its limits are.
    fn capabilities(&self) -> &Capabilities;

    /// The engine's counters and gauges at this moment.
    fn stats(&self) -> Stats;

    /// Finishes background work, makes all writes at [`Durability::Os`] and above
    /// [`Durability::Synced`] where the engine can, and releases the directory. Later operations
    /// answer `Closed`. Closing twice is no error. Dropping an engine without closing it is a
    /// crash of the process as far as durability goes.
    ///
    /// # Errors
    /// `Io`, `Poisoned`: what was promised before still holds.
    fn close(&self) -> Op<'_, ()>;

    /// Consistent views, where the engine has them.
    fn as_snapshots(&self) -> Option<&dyn Snapshots>;

    /// Online backup, where the engine has it.
    fn as_checkpoint(&self) -> Option<&dyn Checkpoint>;

    /// The change feed, where the engine has one.
    fn as_changes(&self) -> Option<&dyn Changes>;

    /// Transactions, where the engine has them.
    fn as_transactions(&self) -> Option<&dyn Transactions>;
}
