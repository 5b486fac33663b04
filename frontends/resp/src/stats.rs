//! [`WorkerStats`]: counters, one set per worker on cache lines of its own.

use ferrokit_redis::Tally;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// What one worker has done.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerStats {
    pub(crate) connections: Counter,
    pub(crate) rejected_connections: Counter,
    pub(crate) commands: Counter,
    pub(crate) errors: Counter,
    pub(crate) input_bytes: Counter,
    pub(crate) output_bytes: Counter,
    pub(crate) keyspace_hits: Counter,
    pub(crate) keyspace_misses: Counter,
    /// Keys changed.
    pub(crate) changes: Counter,
    /// Commands in the last whole second.
    pub(crate) commands_per_second: Counter,
    /// Clients disconnected at an output limit.
    pub(crate) output_disconnections: Counter,
}

impl WorkerStats {
    /// Counts what commands did.
    pub(crate) fn add(&self, tally: &Tally) {
        for (counter, count) in [
            (&self.keyspace_hits, tally.hits),
            (&self.keyspace_misses, tally.misses),
            (&self.changes, tally.changes),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// `CONFIG RESETSTAT`.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.connections,
            &self.rejected_connections,
            &self.commands,
            &self.errors,
            &self.input_bytes,
            &self.output_bytes,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.output_disconnections,
        ] {
            counter.set(0);
        }
    }
}
