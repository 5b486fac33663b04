//! [`WorkerStats`]: counters, one set per worker on cache lines of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ferrokit_redis::Tally;

use crate::observe::Histogram;

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

/// What one worker did of one command.
#[derive(Default)]
pub(crate) struct CommandStats {
    pub(crate) calls: Counter,
    pub(crate) nanos: Counter,
    /// Calls that ended in an error.
    pub(crate) failed: Counter,
    /// Requests that were refused before they ran.
    pub(crate) rejected: Counter,
    /// Made when the first time is counted.
    pub(crate) latencies: OnceLock<Histogram>,
}

impl CommandStats {
    fn reset(&self) {
        for counter in [&self.calls, &self.nanos, &self.failed, &self.rejected] {
            counter.set(0);
        }
        if let Some(latencies) = self.latencies.get() {
            latencies.clear();
        }
    }
}

/// Codes of errors that are counted each by itself; the rest count together.
const ERROR_CODES_MAX: usize = 128;
/// Under this name.
const OTHER_ERRORS: &str = "OTHERS";

/// What one worker has done.
#[derive(Default)]
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
    pub(crate) input_bytes_per_second: Counter,
    pub(crate) output_bytes_per_second: Counter,
    /// Clients disconnected at an output limit.
    pub(crate) output_disconnections: Counter,
    /// Of each command, by its number.
    pub(crate) by_command: Box<[CommandStats]>,
    /// Errors by their code.
    errors_by_code: Mutex<BTreeMap<String, u64>>,
}

impl WorkerStats {
    /// With nothing done yet, of commands with numbers below `numbers`.
    pub(crate) fn new(numbers: usize) -> Self {
        let by_command = (0..numbers).map(|_| CommandStats::default()).collect();
        Self { by_command, ..Self::default() }
    }

    /// Counts calls of a command that took `nanos` together.
    #[inline]
    pub(crate) fn count_calls(&self, number: u16, calls: u32, nanos: u64, in_histogram: bool) {
        let Some(stats) = self.by_command.get(usize::from(number)) else { return };
        stats.calls.add(u64::from(calls));
        stats.nanos.add(nanos);
        if in_histogram && calls > 0 {
            let latencies = stats.latencies.get_or_init(Histogram::default);
            latencies.count(nanos / u64::from(calls), u64::from(calls));
        }
    }

    /// Counts error replies of that text.
    pub(crate) fn count_errors(&self, text: &str, errors: u64) {
        self.errors.add(errors);
        let code = text.split([' ', '\r', '\n']).next().unwrap_or_default();
        let mut by_code = self.errors_by_code.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_code.get_mut(code) {
            *count += errors;
        } else {
            let code = if by_code.len() < ERROR_CODES_MAX { code } else { OTHER_ERRORS };
            *by_code.entry(code.to_owned()).or_default() += errors;
        }
    }

    /// Adds the errors by their code to `sums`.
    pub(crate) fn add_errors_to(&self, sums: &mut BTreeMap<String, u64>) {
        let by_code = self.errors_by_code.lock().unwrap_or_else(PoisonError::into_inner);
        for (code, count) in &*by_code {
            *sums.entry(code.clone()).or_default() += count;
        }
    }

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
        self.by_command.iter().for_each(CommandStats::reset);
        self.errors_by_code.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
