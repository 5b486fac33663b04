//! Consistent views.

use std::sync::Arc;

use crate::engine::KvRead;
use crate::entry::{Sequence, UnixMillis};
use crate::op::Op;

/// Opens snapshots.
pub trait Snapshots: Send + Sync {
    /// A view of the engine at this moment. It completes when everything visible in it is durable
    /// at the level it was written with, so that reads of the snapshot have nothing to wait for.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`; `Busy` when too many snapshots are open.
    fn snapshot(&self) -> Op<'_, Arc<dyn Snapshot>>;
}

/// A consistent view: no later write, clear, swap or expiry changes what it reads. Dropping it
/// releases what it held back from collection.
pub trait Snapshot: KvRead {
    /// The last write that is visible, where the engine numbers writes.
    fn sequence(&self) -> Option<Sequence>;

    /// The time at which expiry is evaluated: the snapshot's opening.
    fn opened_at(&self) -> UnixMillis;
}
