//! The change feed: the engine's log, read from a position.

use crate::entry::{KeyspaceId, Sequence, UnixMillis};
use crate::op::Op;

/// A position in the engine's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChangePosition(pub u64);

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A value was stored.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// Under this key.
        key: &'a [u8],
        /// These bytes.
        value: &'a [u8],
        /// Until then.
        expire_at: Option<UnixMillis>,
    },
    /// A key was removed.
    Delete {
        /// Where.
        keyspace: KeyspaceId,
        /// This key.
        key: &'a [u8],
    },
    /// A key was collected because it had expired. Emitted exactly once per expiry.
    Expired {
        /// Where.
        keyspace: KeyspaceId,
        /// This key.
        key: &'a [u8],
    },
    /// A keyspace was emptied.
    Clear {
        /// This keyspace.
        keyspace: KeyspaceId,
    },
    /// Two keyspaces were exchanged.
    Swap {
        /// This keyspace.
        a: KeyspaceId,
        /// And this one.
        b: KeyspaceId,
    },
}

/// The changes that took effect together: one write, or one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeBatch<'a> {
    /// The position after this batch: where a feed resumed from goes on.
    pub next: ChangePosition,
    /// The number of the (last) write, where the engine numbers writes.
    pub sequence: Option<Sequence>,
    /// The changes in their order.
    pub changes: &'a [Change<'a>],
}

/// Opens change feeds.
pub trait Changes: Send + Sync {
    /// The position after everything that took effect so far.
    fn position(&self) -> ChangePosition;

    /// A feed of the changes from `from` on (`None`: from now on). While a feed is open, nothing
    /// behind it is trimmed, and writes at [`Durability::Memory`](crate::Durability::Memory) enter
    /// the log too; before it was opened they did not.
    ///
    /// # Errors
    /// `NotFound` if `from` was trimmed, `InvalidArgument` if it is ahead of the log, `Closed`.
    fn subscribe(&self, from: Option<ChangePosition>) -> Op<'_, Box<dyn ChangeFeed>>;
}

/// An open change feed. It delivers every change once, in order, and only those that are durable
/// at the level they were written with.
pub trait ChangeFeed: Send {
    /// Visits the next batches, about `budget_bytes` of them. Waits until there is at least one.
    /// Dropping the operation loses nothing: batches not yet visited come again.
    ///
    /// # Errors
    /// `Corruption`, `Io`, `Poisoned`; `Closed` after the last change of a closed engine.
    fn next_with<'a>(
        &'a mut self,
        budget_bytes: usize,
        visit: &'a mut (dyn FnMut(&ChangeBatch<'_>) + Send + 'a),
    ) -> Op<'a, ChangePosition>;

    /// Where the feed stands: the position after the last batch visited.
    fn position(&self) -> ChangePosition;
}
