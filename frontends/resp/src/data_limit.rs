//! [`DataLimit`]: `maxmemory`, the most that data may take, and what happens there.
//!
//! What counts is the engine's own figure `data_bytes`, where it has one; for an engine that keeps
//! its entries in allocated memory, what the process has allocated. The figure of an engine is asked
//! for a few times a second and corrected by what was evicted since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrokit_engine::Tier;
use ferrokit_redis::eviction::EvictionPolicy;
use ferrokit_redis::{Refusal, Tally};

use crate::allocator::allocated_bytes;
use crate::shared::Shared;

/// Keys evicted from one look at the clock to the next.
const EVICTED_PER_LOOK: usize = 128;

/// So many times as many when the limit has changed, or for a tenth of a second.
const EVICTIONS_AT_ONCE_MAX: usize = 64;

/// The engine's figure.
const DATA_BYTES: &str = "data_bytes";

/// How long a command may evict at a tenacity: a little, more and more, without an end.
fn eviction_time_max(tenacity: i64) -> Option<Duration> {
    let micros = match tenacity {
        ..=10 => 50 * tenacity.max(0),
        11..100 => (500.0 * 1.15_f64.powi((tenacity - 10) as i32)) as i64,
        _ => return None,
    };
    Some(Duration::from_micros(micros.unsigned_abs()))
}

/// What is known of the data's size.
#[derive(Debug, Default)]
pub(crate) struct DataLimit {
    /// The engine's own figure; 0 where it has none.
    engine_bytes: AtomicU64,
    /// Keys evicted.
    evicted: AtomicU64,
}

impl DataLimit {
    /// Keys evicted so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Bytes that count against `maxmemory`.
    pub(crate) fn data_bytes(&self) -> u64 {
        match self.data_limit.engine_bytes.load(Ordering::Relaxed) {
            0 => allocated_bytes(),
            bytes => bytes,
        }
    }

    /// Asks the engine for its figure.
    pub(crate) fn measure_data(&self) {
        if self.settings.maxmemory.get() > 0 {
            let bytes = self.engine.stats().get(DATA_BYTES).unwrap_or(0);
            self.data_limit.engine_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// Refuses policies that would empty the store: space that is only given back by and by, as
    /// that of files, tempts an eviction to go on and on.
    pub(crate) fn apply_data_limit(&self) -> Result<(), &'static str> {
        let policy = self.settings.maxmemory_policy.get();
        let tiers = self.engine.capabilities().tiers;
        let frees_later = tiers.iter().any(|tier| *tier != Tier::Memory);
        if frees_later && policy != EvictionPolicy::NoEviction {
            return Err(
                "this engine gives the space of deleted keys back only later: at maxmemory \
                        it can refuse writes (noeviction), but not evict",
            );
        }
        let options = ferrokit_redis::FrequencyOptions {
            log_factor: u32::try_from(self.settings.lfu_log_factor.get()).unwrap_or(u32::MAX),
            decay_minutes: u32::try_from(self.settings.lfu_decay_time.get()).unwrap_or(u32::MAX),
        };
        self.store.set_frequency_counting(policy.counts_frequencies().then_some(options));
        self.measure_data();
        Ok(())
    }

    /// Whether the data is within its limit.
    #[inline]
    pub(crate) fn is_within_data_limit(&self) -> bool {
        let limit = self.settings.maxmemory.get();
        limit == 0 || self.data_bytes() <= limit
    }

    /// Evicts keys until the data is within its limit, or as many as may be without others waiting.
    pub(crate) async fn evict_surplus(&self, tally: &mut Tally) {
        for _ in 0..EVICTIONS_AT_ONCE_MAX {
            if self.is_within_data_limit() {
                return;
            }
            let before = self.data_limit.evicted();
            if let Err(refusal) = self.make_room(tally).await {
                return tracing::debug!(%refusal, "nothing is evicted");
            }
            if self.data_limit.evicted() == before {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Evicts keys until the data is within its limit, or for as long as a command may; false if there
    /// are none left that it may evict.
    ///
    /// # Errors
    /// Those of the engine.
    #[cold]
    pub(crate) async fn make_room(&self, tally: &mut Tally) -> Result<bool, Refusal> {
        let policy = self.settings.maxmemory_policy.get();
        let samples = usize::try_from(self.settings.maxmemory_samples.get()).unwrap_or(1);
        let clock = &self.host.env.clock;
        let time_max = eviction_time_max(self.settings.maxmemory_eviction_tenacity.get());
        let until = time_max.map(|time_max| clock.monotonic().saturating_add(time_max));
        for evicted in 0_usize.. {
            let is_to_look = evicted.is_multiple_of(EVICTED_PER_LOOK) && evicted > 0;
            let is_over = || until.is_some_and(|until| clock.monotonic() >= until);
            if self.is_within_data_limit() || is_to_look && is_over() {
                return Ok(true);
            }
            if !self.store.evict_one(policy, samples, tally).await? {
                return Ok(false);
            }
            self.data_limit.evicted.fetch_add(1, Ordering::Relaxed);
            if self.data_limit.engine_bytes.load(Ordering::Relaxed) > 0 {
                self.measure_data();
            }
        }
        Ok(true)
    }
}
