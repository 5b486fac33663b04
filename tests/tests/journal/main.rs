//! The suite proved on itself: a small durable engine that passes it, and the same engine broken
//! on purpose in one place after the other, each of which a named case finds.

mod compact;
mod engine;
mod mutants;
mod record;
mod segments;
mod store;

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options, suite};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_storage::Host;

use engine::JournalEngine;

/// A place where the engine can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Commits do not sync.
    SyncSkipped,
    /// `Os` writes are acknowledged while they are still in a buffer.
    WriteDelayed,
    /// Each write of a batch becomes a record of its own.
    BatchSplit,
    /// Other threads can look between the writes of a batch.
    BatchSeenHalf,
    /// Compaction forgets a delete while an older segment still has the value.
    TombstoneDropped,
    /// Compaction forgets an expired value while an older segment still has an older one.
    ExpiredUncovers,
    /// Scans show what has expired.
    ExpiryIgnoredInScans,
    /// The clock starts anew at every opening.
    ClockForgotten,
    /// Checksums are not compared.
    ChecksumUnchecked,
    /// A writer commits in its own future, and takes the turn to its grave when dropped.
    CommitByCaller,
    /// Reads do not wait for what they saw.
    ReadTooEarly,
    /// A failed sync is forgotten.
    PoisonForgotten,
    /// An update reads and writes in two steps.
    UpdateLost,
    /// Every now and then a read answers what was there before.
    StaleRead,
    /// A sweep leaves out what was overwritten since it began.
    SweepMisses,
    /// A torn record at the end of the log is taken for whole.
    TornTailBelieved,
    /// `existed` is told as it was before the last write.
    ExistedWrong,
    /// A batched read takes each key at a moment of its own.
    BatchedReadTorn,
}

/// Opens the engine, whole or broken.
struct JournalFactory(Option<Fault>);

impl EngineFactory for JournalFactory {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn open(&self, host: &Host, directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        let segment_bytes = if options.is_tiny() { 4 << 10 } else { 1 << 20 };
        Ok(Arc::new(JournalEngine::open(host, directory, segment_bytes, self.0)?))
    }

    fn durable(&self) -> bool {
        true
    }
}

suite!(journal, JournalFactory(None));
suite!(journal_threads, JournalFactory(None), on: Threads, groups: [
    point, batch, durability, cancellation, concurrency, lifecycle, metamorphic,
]);
