//! [`Store`]: an engine with Redis' databases, locks, watches and observers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ferrokit_engine::{
    CommitTicket, Durability, Env, Error, ExpiryClock, KeyspaceId, KvEngine, SweepCursor,
    UnixMillis, WriteOptions,
};

use crate::access::{AccessTable, FrequencyOptions};
use crate::db::{Db, Tally};
use crate::events::{ClientId, Event, Interest, Observer};
use crate::eviction::Eviction;
use crate::expiry::Expiries;
use crate::refusal::{Refusal, Result};
use crate::stripes::{KeyHash, Stripes};

/// Databases, where the engine has as many keyspaces.
pub const DATABASES: u32 = 16;
/// The longest string, unless set otherwise.
const STRING_BYTES_MAX: usize = 512 << 20;
/// What a value may take beyond its string.
const VALUE_SPARE_BYTES: usize = 16;
/// The longest sparse HyperLogLog, unless set otherwise.
const SPARSE_SKETCH_BYTES_MAX: usize = 3000;

/// An engine, and what Redis is beyond it.
///
/// Shared by all threads of a frontend; a [`Db`] is one caller's view of one database.
pub struct Store {
    engine: Arc<dyn KvEngine>,
    env: Env,
    clock: ExpiryClock,
    databases: u32,
    pub(crate) stripes: Stripes,
    pub(crate) accesses: AccessTable,
    pub(crate) expiries: Expiries,
    pub(crate) eviction: Eviction,
    opened_at: Duration,
    /// Seconds since it was opened, plus one; kept by [`tick`](Self::tick).
    second: AtomicU32,
    durability: AtomicU8,
    key_bytes_max: usize,
    string_bytes_max: AtomicUsize,
    sparse_sketch_bytes_max: AtomicUsize,
    /// Where RANDOMKEY goes on, in each database.
    random_cursors: Mutex<HashMap<KeyspaceId, SweepCursor>>,
    counts_frequencies: AtomicU32,
    interest: AtomicU32,
    observer: OnceLock<Arc<dyn Observer>>,
}

/// The longest string that an engine takes, with its mark and the end of a BITFIELD's last field.
fn longest_string(value_bytes_max: usize) -> usize {
    STRING_BYTES_MAX.min(value_bytes_max.saturating_sub(VALUE_SPARE_BYTES))
}

impl Store {
    /// A store over `engine`. Its writes are as durable as the engine can make them, until
    /// [`set_durability`](Self::set_durability) says otherwise.
    pub fn new(engine: Arc<dyn KvEngine>, env: &Env) -> Self {
        let capabilities = engine.capabilities();
        let durability = capabilities.strongest_durability;
        let string_bytes_max = longest_string(capabilities.max_value_bytes);
        let key_bytes_max = capabilities.max_key_bytes;
        let databases = DATABASES.min(capabilities.max_keyspaces);
        Self {
            databases,
            expiries: Expiries::new(databases),
            eviction: Eviction::default(),
            engine,
            env: env.clone(),
            clock: ExpiryClock::new(Arc::clone(&env.clock), UnixMillis(0)),
            stripes: Stripes::new(),
            accesses: AccessTable::new(),
            opened_at: env.clock.monotonic(),
            second: AtomicU32::new(1),
            durability: AtomicU8::new(durability as u8),
            key_bytes_max,
            string_bytes_max: AtomicUsize::new(string_bytes_max),
            sparse_sketch_bytes_max: AtomicUsize::new(SPARSE_SKETCH_BYTES_MAX),
            random_cursors: Mutex::default(),
            counts_frequencies: AtomicU32::new(0),
            interest: AtomicU32::new(0),
            observer: OnceLock::new(),
        }
    }

    /// The same store with so many databases at most.
    pub fn limited_to(mut self, databases: u32) -> Self {
        self.databases = self.databases.min(databases);
        self
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn KvEngine> {
        &self.engine
    }

    /// The environment.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// How many databases there are.
    pub fn databases(&self) -> u32 {
        self.databases
    }

    /// The database of that number.
    ///
    /// # Errors
    /// [`Refusal::NO_SUCH_DATABASE`].
    pub fn database(&self, number: i64) -> Result<KeyspaceId> {
        u32::try_from(number)
            .ok()
            .filter(|number| *number < self.databases)
            .map(KeyspaceId)
            .ok_or(Refusal::NO_SUCH_DATABASE)
    }

    /// A view of a database for `client`; what it sees and does is added to `tally`.
    #[inline]
    pub fn db<'s>(
        &'s self,
        keyspace: KeyspaceId,
        client: ClientId,
        tally: &'s mut Tally,
    ) -> Db<'s> {
        Db::new(self, keyspace, client, tally)
    }

    /// The time expiry is reckoned from; it never goes back.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// To be called about once a second: the time of accesses.
    pub fn tick(&self) {
        let since = self.env.clock.monotonic().saturating_sub(self.opened_at).as_secs();
        self.second.store((since as u32).wrapping_add(1), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn second(&self) -> u32 {
        self.second.load(Ordering::Relaxed)
    }

    /// How durable writes are from now on.
    ///
    /// # Errors
    /// `Unsupported` where the engine cannot give it.
    pub fn set_durability(&self, level: Durability) -> ferrokit_engine::Result<()> {
        self.engine.capabilities().check_durability("store.durability", level)?;
        self.durability.store(level as u8, Ordering::Relaxed);
        Ok(())
    }

    /// How durable writes are.
    pub fn durability(&self) -> Durability {
        match self.durability.load(Ordering::Relaxed) {
            0 => Durability::Memory,
            1 => Durability::Os,
            _ => Durability::Synced,
        }
    }

    /// Writes at `level`, or as durable as the store's, take effect at once; their tickets are
    /// awaited by [`committed`](Self::committed).
    #[inline]
    pub(crate) fn write_options(&self, level: Option<Durability>) -> WriteOptions {
        WriteOptions::with_durability(level.unwrap_or_else(|| self.durability())).applied()
    }

    /// Completes when everything that `ticket` covers is durable.
    ///
    /// # Errors
    /// `Poisoned` if it never will be.
    pub async fn committed(&self, ticket: CommitTicket) -> ferrokit_engine::Result<()> {
        if ticket == CommitTicket::NONE { Ok(()) } else { self.engine.committed(ticket).await }
    }

    /// Whether the engine has no key of that length.
    #[inline]
    pub(crate) fn is_too_long(&self, key: &[u8]) -> bool {
        key.len() > self.key_bytes_max
    }

    /// Why such a key is not written.
    #[cold]
    pub(crate) fn too_long(&self, key: &[u8]) -> Refusal {
        let (len, limit) = (key.len(), self.key_bytes_max);
        let why = format!("the key has {len} bytes; this engine's keys have up to {limit}");
        Error::invalid("key", why).into()
    }

    /// The longest string that edits may make. A BITFIELD's last field, which begins within, may end
    /// a few bytes beyond.
    pub fn string_bytes_max(&self) -> usize {
        self.string_bytes_max.load(Ordering::Relaxed)
    }

    /// Bounds the strings that edits make, within what the engine allows.
    pub fn set_string_bytes_max(&self, bytes: usize) {
        let longest = longest_string(self.engine.capabilities().max_value_bytes);
        self.string_bytes_max.store(bytes.min(longest), Ordering::Relaxed);
    }

    /// The longest HyperLogLog that is kept sparse (`hll-sparse-max-bytes`).
    pub fn sparse_sketch_bytes_max(&self) -> usize {
        self.sparse_sketch_bytes_max.load(Ordering::Relaxed)
    }

    /// Bounds HyperLogLogs that are kept sparse.
    pub fn set_sparse_sketch_bytes_max(&self, bytes: usize) {
        self.sparse_sketch_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Where RANDOMKEY goes on.
    pub(crate) fn random_cursor(&self, keyspace: KeyspaceId) -> SweepCursor {
        let cursors = self.random_cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.get(&keyspace).cloned().unwrap_or_default()
    }

    pub(crate) fn keep_random_cursor(&self, keyspace: KeyspaceId, next: Option<SweepCursor>) {
        let mut cursors = self.random_cursors.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Some(next) => cursors.insert(keyspace, next),
            None => cursors.remove(&keyspace),
        };
    }

    /// Counts how often keys are accessed (for the LFU policies), or no longer.
    pub fn set_frequency_counting(&self, options: Option<FrequencyOptions>) {
        let bits = options.map_or(0, |options| {
            1 << 31 | options.log_factor.min(0x7FFF) << 16 | options.decay_minutes.min(0xFFFF)
        });
        self.counts_frequencies.store(bits, Ordering::Relaxed);
    }

    /// How frequencies are counted, if they are.
    pub fn frequency_counting(&self) -> Option<FrequencyOptions> {
        match self.counts_frequencies.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(FrequencyOptions {
                log_factor: bits >> 16 & 0x7FFF,
                decay_minutes: bits & 0xFFFF,
            }),
        }
    }

    #[inline]
    pub(crate) fn note_access(&self, hash: KeyHash) {
        match self.frequency_counting() {
            None => self.accesses.note(hash, self.second()),
            Some(options) => {
                let random = self.env.random.next_u64();
                self.accesses.count(hash, self.second(), random, options);
            }
        }
    }

    /// Tells `observer` of what it shows an interest in; there can be one.
    ///
    /// # Errors
    /// The observer, if there is one already.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) -> Result<(), Arc<dyn Observer>> {
        self.observer.set(observer)
    }

    /// What the observer is to be told from now on.
    pub fn set_interest(&self, interest: Interest) {
        self.interest.store(interest.bits(), Ordering::Release);
    }

    /// What the observer is told.
    #[inline]
    pub fn interest(&self) -> Interest {
        Interest::from_bits(self.interest.load(Ordering::Relaxed))
    }

    /// Tells of an event, if anybody wants to know.
    #[inline]
    pub fn tell_event(&self, event: Event, keyspace: KeyspaceId, key: &[u8]) {
        if self.interest().includes(Interest::in_events(event.class))
            && let Some(observer) = self.observer.get()
        {
            observer.event(event, keyspace, key);
        }
    }

    #[inline]
    pub(crate) fn tell_modified(&self, keyspace: KeyspaceId, key: &[u8], client: ClientId) {
        if self.interest().includes(Interest::MODIFICATIONS)
            && let Some(observer) = self.observer.get()
        {
            observer.modified(keyspace, key, client);
        }
    }

    pub(crate) fn tell_flushed(&self, keyspace: Option<KeyspaceId>, client: ClientId) {
        if self.interest().includes(Interest::MODIFICATIONS)
            && let Some(observer) = self.observer.get()
        {
            observer.flushed(keyspace, client);
        }
    }
}
