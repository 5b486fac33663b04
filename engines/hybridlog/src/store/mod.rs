//! [`Store`]: the operations, over the index and the log.
//!
//! | module | subject |
//! |---|---|
//! | [`chain`] | finding a key's record, linking, unlinking |
//! | [`read`] | one key, many keys |
//! | [`write`] | put, delete, update |
//! | [`batch`] | writes that become visible together |
//! | [`sweep`] | visiting all keys |
//! | [`space`] | compaction, and what happens when memory is short |
//!
//! # Attempts
//! An operation is a loop of attempts, each inside an epoch ([`Store::run`]). An attempt never
//! waits for anything that needs others to see a later epoch (space, a keyspace exchange, a
//! batch): it is interrupted, leaves the epoch, and only then waits.
//!
//! # Lock order
//! bucket latches (ascending) → record latch. `maintenance` and the keyspaces' `exchange` are
//! taken outside any epoch and latch; the log's `free` and the index's `growth` are innermost.

mod batch;
mod chain;
mod read;
mod space;
mod sweep;
mod write;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::Mutex;

use ferrokit_engine::{Env, Error, ErrorKind, ExpiryClock, KeyspaceId, Result, Stats, UnixMillis};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::space::Maintenance;
use crate::config::HybridLogConfig;
use crate::epoch::{Epochs, Guard, SLOTS};
use crate::index::HashIndex;
use crate::index::entry::KeyHash;
use crate::interrupt::{Attempt, Interrupt};
use crate::keyspaces::Keyspaces;
use crate::log::RecordLog;
use crate::primitive::{AtomicU64, Backoff, Ordering, OwnLine};

/// How often an operation frees space for itself before it gives up to others who take it.
const MAX_SPACE_TRIES: u32 = 64;
/// Scratch buffers that grew larger than this are not kept.
const MAX_KEPT_SCRATCH_BYTES: usize = 1 << 20;

/// A key, its space and its hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'k> {
    pub(crate) hash: KeyHash,
    pub(crate) space: u64,
    pub(crate) key: &'k [u8],
}

/// The engine without its contract: index, log, keyspaces.
pub(crate) struct Store {
    epochs: Arc<Epochs>,
    index: HashIndex,
    log: Arc<RecordLog>,
    keyspaces: Keyspaces,
    clock: ExpiryClock,
    hash_seed: u64,
    slack_percent: usize,
    garbage_percent: u64,
    /// Held by whoever compacts.
    maintenance: Mutex<Maintenance>,
    /// Pages before this one are to be compacted: a keyspace was cleared since they were written.
    collect_before_page: AtomicU64,
    /// 1 while maintenance has something to do that nobody has been told of.
    maintenance_wanted: OwnLine<AtomicU64>,
    pages_compacted: AtomicU64,
    records_moved: AtomicU64,
}

impl Store {
    /// An empty store.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the memory.
    pub(crate) fn new(env: &Env, config: &HybridLogConfig) -> Result<Self> {
        let epochs = Arc::new(Epochs::new(SLOTS));
        let (buckets, buckets_max) = config.buckets();
        let page_words_log2 = (config.page_bytes / 8).trailing_zeros();
        Ok(Self {
            index: HashIndex::new(buckets, buckets_max, Arc::clone(&epochs))?,
            log: Arc::new(RecordLog::new(config.frames(), page_words_log2, Arc::clone(&epochs))?),
            keyspaces: Keyspaces::new(config.keyspaces, Arc::clone(&epochs)),
            clock: ExpiryClock::new(Arc::clone(&env.clock), UnixMillis(0)),
            hash_seed: env.random.next_u64(),
            slack_percent: config.slack_percent as usize,
            garbage_percent: u64::from(config.garbage_percent),
            maintenance: Mutex::new(Maintenance::default()),
            collect_before_page: AtomicU64::new(0),
            maintenance_wanted: OwnLine(AtomicU64::new(0)),
            pages_compacted: AtomicU64::new(0),
            records_moved: AtomicU64::new(0),
            epochs,
        })
    }

    /// Makes attempts until one succeeds or fails for good.
    fn run<T>(
        &self,
        operation: &'static str,
        mut attempt: impl FnMut(&Guard<'_>) -> Attempt<T>,
    ) -> Result<T> {
        let mut backoff = Backoff::default();
        let mut space_tries = 0;
        loop {
            let guard = self.epochs.enter();
            let interrupt = match attempt(&guard) {
                Ok(result) => return Ok(result),
                Err(interrupt) => interrupt,
            };
            drop(guard);
            match interrupt {
                Interrupt::Again => backoff.wait(),
                Interrupt::NoSpace { words } => {
                    if space_tries == MAX_SPACE_TRIES {
                        return Err(Error::new(
                            ErrorKind::Busy,
                            operation,
                            "other writes took the space as it was freed; try again",
                        ));
                    }
                    space_tries += 1;
                    self.make_space(operation, words)?;
                }
                Interrupt::IndexFull => self.grow_index(operation)?,
                Interrupt::Failed(error) => return Err(error),
            }
        }
    }

    #[inline]
    fn name<'k>(&self, space: u64, key: &'k [u8]) -> Name<'k> {
        // The space is part of the hash: one key of many keyspaces is not one chain.
        let seed = self.hash_seed ^ space.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Name { hash: KeyHash(xxh3_64_with_seed(key, seed)), space, key }
    }

    /// Whether an entry of that expiry is absent. Asks the clock only if there is an expiry.
    #[inline]
    fn is_expired(&self, expire_at: u64) -> bool {
        expire_at != 0 && expire_at <= self.clock.now().0
    }

    /// Gives a keyspace a new, empty space.
    ///
    /// # Errors
    /// Those of [`Keyspaces::clear`].
    pub(crate) fn clear_keyspace(&self, keyspace: KeyspaceId) -> Result<()> {
        if self.keyspaces.clear(keyspace)? > 0 {
            // Its records are not counted as dead: they are found by going through all pages.
            self.collect_before_page.fetch_max(self.log.tail_page() + 1, Ordering::AcqRel);
            self.want_maintenance();
        }
        Ok(())
    }

    /// Exchanges two keyspaces.
    ///
    /// # Errors
    /// Those of [`Keyspaces::swap`].
    pub(crate) fn swap_keyspaces(&self, a: KeyspaceId, b: KeyspaceId) -> Result<()> {
        self.keyspaces.swap(a, b)
    }

    /// The number of keys of a keyspace, expired ones that are still stored included.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    pub(crate) fn keyspace_entries(&self, keyspace: KeyspaceId) -> Result<u64> {
        self.run("keyspace_len", |guard| Ok(self.keyspaces.load(guard)?.of(keyspace)?.entries()))
    }

    /// Counters and gauges.
    pub(crate) fn stats(&self) -> Stats {
        let guard = self.epochs.enter();
        let table = &self.index.tables(&guard).current;
        let frames = self.log.frames() as u64;
        let free = self.log.free_frames() as u64;
        let page_bytes = (self.log.page_words() * 8) as u64;
        let used = (frames - free) * page_bytes;
        let mut stats = Stats::new();
        stats
            .push("data_bytes", used - (self.log.dead_words() * 8).min(used))
            .push("memory_limit_bytes", frames * page_bytes)
            .push("pages_used_bytes", used)
            .push("records_dead_bytes", self.log.dead_words() * 8)
            .push("pages_compacted", self.pages_compacted.load(Ordering::Relaxed))
            .push("records_moved", self.records_moved.load(Ordering::Relaxed))
            .push("index_bytes", table.bytes())
            .push("index_buckets", table.primaries())
            .push("index_overflow_buckets", table.overflow_used())
            .push("index_growing", u64::from(self.index.is_growing(&guard)))
            .push("epoch", self.epochs.current())
            .push("epoch_actions_waiting", self.epochs.waiting());
        stats
    }

    /// Whether maintenance has been asked for since this was called last.
    #[inline]
    pub(crate) fn take_maintenance_wanted(&self) -> bool {
        self.maintenance_wanted.0.load(Ordering::Relaxed) != 0
            && self.maintenance_wanted.0.swap(0, Ordering::AcqRel) != 0
    }

    fn want_maintenance(&self) {
        self.maintenance_wanted.0.store(1, Ordering::Release);
    }
}

thread_local! {
    /// A buffer kept by each thread, so that a read allocates nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `body` with an empty buffer that is kept for the next time.
fn with_scratch<T>(body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = body(&mut scratch);
    if scratch.capacity() <= MAX_KEPT_SCRATCH_BYTES {
        SCRATCH.set(scratch);
    }
    result
}

/// The contract's expiry of a stored one.
fn shown_expiry(expire_at: u64) -> Option<UnixMillis> {
    (expire_at != 0).then_some(UnixMillis(expire_at))
}
