//! Eviction: which key goes first when the data limit is reached (`maxmemory-policy`).
//!
//! As in Redis the best candidate of a sample goes, not the best of all: keys are sampled by small
//! sweeps that wander through the databases, and the best of those seen so far wait in a pool. What
//! is known of their use is the [`access`](crate::access) table's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Entry, KeyspaceId, SweepCursor};

use crate::db::Tally;
use crate::events::{ClientId, Event, EventClass};
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::KeyHash;

/// Candidates kept from one eviction to the next.
const POOL_MAX: usize = 16;
/// Steps without a candidate after which there is taken to be none.
const FRUITLESS_STEPS_MAX: usize = 100_000;

const EVICTED: Event = Event::new(EventClass::EVICTED, "evicted");

/// What keys may be evicted, and which goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EvictionPolicy {
    /// None: writes are refused.
    #[default]
    NoEviction,
    /// Any: the least recently used.
    AllKeysLru,
    /// Any: the least frequently used.
    AllKeysLfu,
    /// Any: a random one.
    AllKeysRandom,
    /// One with an expiry: the least recently used.
    VolatileLru,
    /// One with an expiry: the least frequently used.
    VolatileLfu,
    /// One with an expiry: a random one.
    VolatileRandom,
    /// One with an expiry: the one that expires first.
    VolatileTtl,
}

impl EvictionPolicy {
    /// Whether it goes by how often keys are used.
    pub const fn counts_frequencies(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }

    /// Whether it goes by when or how often keys were used.
    pub const fn goes_by_use(self) -> bool {
        let goes_by_time = matches!(self, Self::AllKeysLru | Self::VolatileLru);
        goes_by_time || self.counts_frequencies()
    }

    const fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }
}

#[derive(Debug)]
struct Candidate {
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    /// The highest goes first.
    score: u64,
}

/// Where sampling stands.
#[derive(Debug, Default)]
pub(crate) struct Eviction {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    policy: EvictionPolicy,
    pool: Vec<Candidate>,
    cursors: Vec<SweepCursor>,
}

impl Eviction {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Evicts one key; false if the policy finds none. `samples` is how many keys of each database
    /// are looked at for it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn evict_one(
        &self,
        policy: EvictionPolicy,
        samples: usize,
        tally: &mut Tally,
    ) -> Result<bool> {
        if policy == EvictionPolicy::NoEviction {
            return Ok(false);
        }
        let mut ends = vec![0_usize; self.databases() as usize];
        for _ in 0..FRUITLESS_STEPS_MAX {
            self.sample(policy, samples.max(1), &mut ends, tally).await?;
            while let Some(candidate) = self.best_candidate() {
                let Candidate { keyspace, key, .. } = candidate;
                let mut db = self.db(keyspace, ClientId::default(), tally);
                if db.remove(&key).await? {
                    db.happened(EVICTED, &key);
                    self.note_evicted();
                    return Ok(true);
                }
            }
            // Twice at its end, a database was gone through from its start.
            if ends.iter().all(|ends| *ends >= 2) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn best_candidate(&self) -> Option<Candidate> {
        self.eviction.state().pool.pop()
    }

    /// Looks at some keys of each database, and counts how often it came to a database's end.
    async fn sample(
        &self,
        policy: EvictionPolicy,
        samples: usize,
        ends: &mut [usize],
        tally: &mut Tally,
    ) -> Result<()> {
        let databases = self.databases() as usize;
        let mut cursors = {
            let mut state = self.eviction.state();
            if state.policy != policy {
                *state = State { policy, ..State::default() };
            }
            state.cursors.resize(databases, SweepCursor::start());
            state.cursors.clone()
        };
        let mut found = Vec::new();
        for (id, (cursor, ends)) in cursors.iter_mut().zip(ends).enumerate() {
            let keyspace = KeyspaceId(id as u32);
            let mut visit = |key: &[u8], entry: Entry<'_>| {
                if let Some(score) = self.score(policy, keyspace, key, entry) {
                    found.push(Candidate { keyspace, key: key.into(), score });
                }
            };
            let mut db = self.db(keyspace, ClientId::default(), tally);
            // A cursor may be of a database that was swapped away: then from the start.
            let next = match db.sweep(cursor, samples, &mut visit).await {
                Ok(swept) => swept.next,
                Err(_) if !cursor.is_start() => Some(SweepCursor::start()),
                Err(refusal) => return Err(refusal),
            };
            *ends += usize::from(next.is_none());
            *cursor = next.unwrap_or_default();
        }
        let mut state = self.eviction.state();
        state.cursors = cursors;
        state.pool.append(&mut found);
        state.pool.sort_by_key(|candidate| candidate.score);
        let surplus = state.pool.len().saturating_sub(POOL_MAX);
        state.pool.drain(..surplus);
        Ok(())
    }

    /// How gladly a key is parted with; `None` if the policy spares it.
    fn score(
        &self,
        policy: EvictionPolicy,
        keyspace: KeyspaceId,
        key: &[u8],
        entry: Entry<'_>,
    ) -> Option<u64> {
        if policy.is_volatile() && entry.expire_at.is_none() {
            return None;
        }
        let hash = KeyHash::of(keyspace, key);
        match policy {
            EvictionPolicy::NoEviction => None,
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
                Some(u64::from(self.accesses.idle_secs(hash, self.second())))
            }
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                let options = self.frequency_counting().unwrap_or_default();
                let frequency = self.accesses.frequency(hash, self.second(), options);
                Some(u64::from(u8::MAX - frequency))
            }
            EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => {
                Some(self.env().random.next_u64())
            }
            EvictionPolicy::VolatileTtl => entry.expire_at.map(|at| u64::MAX - at.0),
        }
    }
}
