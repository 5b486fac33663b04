//! [`Store`]: the operations, over the index and the log.
//!
//! | module | subject |
//! |---|---|
//! | [`drive`] | attempts, and what is waited for between them |
//! | [`chain`] | finding a key's record, linking, unlinking |
//! | [`read`] | one key, many keys |
//! | [`prefetch`] | fetching ahead of operations |
//! | [`write`] | put, delete, update |
//! | [`erase`] | what a removal leaves |
//! | [`batch`] | writes that become visible together |
//! | [`long`] | values that are longer than a record |
//! | [`sweep`] | visiting all keys |
//! | [`expiring`] | how much of what is on disk expires when |
//! | [`expiry`] | removing expired keys so that change feeds hear of it |
//! | [`space`] | compaction in memory, and what happens when memory is short |
//! | [`tiers`] | pages on their way to disk and out of memory |
//! | [`cold`], [`known`] | reading what is not in memory |
//! | [`compaction`] | compaction of what is on disk |
//! | [`migrate`] | segments on their way to the object tier |
//! | [`checkpoint`], [`recovery`] | taking a checkpoint, and beginning from one |
//! | [`backup`] | a checkpoint in a directory of its own |
//!
//! # Attempts
//! An operation is a loop of attempts, each inside an epoch ([`Store::run`]). An attempt never
//! waits for anything that needs others to see a later epoch (space, a keyspace exchange, a
//! batch, a record on disk): it is interrupted, leaves the epoch, and only then waits.
//!
//! # Lock order
//! bucket latches (ascending) → record latch. `maintenance` and the keyspaces' `exchange` are
//! taken outside any epoch and latch; the log's `free` and the index's `growth` are innermost.

mod backup;
mod batch;
mod chain;
mod checkpoint;
mod cold;
mod compaction;
mod drive;
mod erase;
mod expiring;
mod expiry;
pub(crate) mod known;
mod long;
pub(crate) mod migrate;
mod prefetch;
#[cfg(all(test, not(loom)))]
mod races;
mod read;
pub(crate) mod recovery;
mod space;
mod sweep;
pub(crate) mod tiers;
mod write;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::Mutex;

use ferrokit_engine::{
    CommitTicket, Durability, Env, ExpiryClock, KeyspaceId, Op, Result, Stats, UnixMillis,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::long::LongValues;
use self::space::Maintenance;
use self::tiers::Tiers;
use crate::config::HybridLogConfig;
use crate::epoch::{Epochs, SLOTS};
use crate::index::HashIndex;
use crate::index::entry::KeyHash;
use crate::journal::{Change, Journal};
use crate::keyspaces::Keyspaces;
use crate::log::{RecordLog, Span};
use crate::primitive::{AtomicU64, Ordering, OwnLine};

pub(crate) use self::read::Reading;
pub(crate) use self::sweep::SweptBuckets;
pub(crate) use self::write::{Intent, Outcome};

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
    max_key_bytes: usize,
    /// The longest value of a record; longer ones are cut into pieces of so many bytes.
    record_value_bytes: usize,
    piece_bytes: usize,
    /// Bytes of keys and values of a batch beyond which most of its values are cut.
    batch_record_bytes: usize,
    long_values: Arc<LongValues>,
    /// Held by whoever compacts.
    maintenance: Mutex<Maintenance>,
    /// Pages before this one are to be compacted: a keyspace was cleared since they were written.
    collect_before_page: AtomicU64,
    /// 1 while maintenance has something to do that nobody has been told of.
    maintenance_wanted: OwnLine<AtomicU64>,
    pages_compacted: AtomicU64,
    records_moved: AtomicU64,
    /// What is not in memory; none for an engine that has nothing else.
    pub(crate) tiers: Option<Tiers>,
}

impl Store {
    /// An empty store in memory.
    ///
    /// # Errors
    /// `OutOfSpace` if the system has not the memory.
    pub(crate) fn new(env: &Env, config: &HybridLogConfig) -> Result<Self> {
        let epochs = Arc::new(Epochs::new(SLOTS));
        let (buckets, buckets_max) = config.buckets();
        let index = HashIndex::new(buckets, buckets_max, Arc::clone(&epochs))?;
        let keyspaces = Keyspaces::new(config.keyspaces, Arc::clone(&epochs));
        let hash_seed = env.random.next_u64();
        Self::of(env, config, hash_seed, Span::EMPTY, index, keyspaces, epochs, None)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one value, put together once")]
    fn of(
        env: &Env,
        config: &HybridLogConfig,
        hash_seed: u64,
        span: Span,
        index: HashIndex,
        keyspaces: Keyspaces,
        epochs: Arc<Epochs>,
        tiers: Option<Tiers>,
    ) -> Result<Self> {
        let page_words_log2 = config.page_words_log2();
        let log = RecordLog::new(config.frames(), page_words_log2, Arc::clone(&epochs), span)?;
        Ok(Self {
            index,
            log: Arc::new(log),
            keyspaces,
            clock: ExpiryClock::new(Arc::clone(&env.clock), UnixMillis(0)),
            hash_seed,
            slack_percent: config.slack_percent as usize,
            garbage_percent: u64::from(config.garbage_percent),
            max_key_bytes: config.max_key_bytes(),
            record_value_bytes: config.record_value_bytes(),
            piece_bytes: config.piece_bytes(),
            batch_record_bytes: config.batch_record_bytes(),
            long_values: Arc::new(LongValues::new(env.random.next_u64())),
            maintenance: Mutex::new(Maintenance::default()),
            collect_before_page: AtomicU64::new(0),
            maintenance_wanted: OwnLine(AtomicU64::new(0)),
            pages_compacted: AtomicU64::new(0),
            records_moved: AtomicU64::new(0),
            tiers,
            epochs,
        })
    }

    /// The journal, where there is one (not while it is replayed).
    #[inline]
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.tiers.as_ref().and_then(|tiers| tiers.journal.get())
    }

    /// The journal, if a write at that level is logged; if not, that is noted where it matters.
    #[inline]
    fn logging(&self, durability: Durability) -> Option<&Journal> {
        let tiers = self.tiers.as_ref()?;
        let journal = tiers.journal.get().filter(|journal| journal.logs(durability));
        if journal.is_none() {
            tiers.note_unlogged();
        }
        journal
    }

    #[inline]
    fn name<'k>(&self, space: u64, key: &'k [u8]) -> Name<'k> {
        // The space is part of the hash: one key of many keyspaces is not one chain.
        let seed = self.hash_seed ^ space.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = self.index.tag_bits().hash(xxh3_64_with_seed(key, seed));
        Name { hash, space, key }
    }

    /// Whether an entry of that expiry is absent. Asks the clock only if there is an expiry.
    #[inline]
    fn is_expired(&self, expire_at: u64) -> bool {
        expire_at != 0 && expire_at <= self.clock.now().0
    }

    /// Gives a keyspace a new, empty space.
    ///
    /// # Errors
    /// Those of [`Keyspaces::clear`] and of the log.
    pub(crate) fn clear_keyspace(
        &self,
        keyspace: KeyspaceId,
        durability: Durability,
    ) -> Result<CommitTicket> {
        let append = || self.append_exchange(Change::Clear { keyspace }, durability);
        let (entries, ticket) = self.keyspaces.clear(keyspace, append)?;
        if entries > 0 {
            // Its records are not counted as dead: they are found by going through all pages.
            self.collect_before_page.fetch_max(self.log.tail_page() + 1, Ordering::AcqRel);
            self.want_maintenance();
        }
        Ok(ticket)
    }

    /// Exchanges two keyspaces.
    ///
    /// # Errors
    /// Those of [`Keyspaces::swap`] and of the log.
    pub(crate) fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        durability: Durability,
    ) -> Result<CommitTicket> {
        self.keyspaces.swap(a, b, || self.append_exchange(Change::Swap { a, b }, durability))
    }

    /// Runs `look` in a moment in which no operation is under way.
    ///
    /// # Errors
    /// `Busy` if an operation does not end.
    pub(crate) fn in_a_still_moment<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce() -> T,
    ) -> Result<T> {
        self.keyspaces.in_a_still_moment(operation, |_, _| look())
    }

    fn append_exchange(&self, change: Change<'_>, durability: Durability) -> Result<CommitTicket> {
        match self.logging(durability) {
            None => Ok(CommitTicket::NONE),
            Some(journal) => journal.append_unnoted(self.clock.now(), change, durability),
        }
    }

    /// The number of keys of a keyspace, expired ones that are still stored included; what to wait
    /// for, since it shows exchanges of keyspaces.
    ///
    /// # Errors
    /// `InvalidArgument` beyond the number of keyspaces.
    pub(crate) fn keyspace_entries(&self, keyspace: KeyspaceId) -> Op<'_, (u64, CommitTicket)> {
        self.drive("keyspace_len", move |guard, _| {
            let spaces = self.keyspaces.load(guard)?;
            Ok((spaces.of(keyspace)?.entries(), spaces.ticket()))
        })
    }

    /// Counters and gauges.
    pub(crate) fn stats(&self) -> Stats {
        let guard = self.epochs.enter();
        let table = &self.index.tables(&guard).current;
        let page_bytes = (self.log.page_words() * 8) as u64;
        let limit = self.log.frames() as u64 * page_bytes;
        let used = self.log.used_frames() as u64 * page_bytes;
        let mut stats = Stats::new();
        stats
            .push("data_bytes", used - (self.log.dead_words() * 8).min(used))
            .push("memory_limit_bytes", limit)
            .push("pages_used_bytes", used)
            .push("records_dead_bytes", self.log.dead_words() * 8)
            .push("pages_compacted", self.pages_compacted.load(Ordering::Relaxed))
            .push("records_moved", self.records_moved.load(Ordering::Relaxed))
            .push("index_bytes", self.index.bytes(&guard))
            .push("index_buckets", table.primaries())
            .push("index_overflow_buckets", table.overflow_used())
            .push("index_growing", u64::from(self.index.is_growing(&guard)))
            .push("epoch", self.epochs.current())
            .push("epoch_actions_waiting", self.epochs.waiting());
        if let Some(tiers) = &self.tiers {
            tiers.stats_into(&self.log, &mut stats);
        }
        stats
    }

    /// Whether maintenance has been asked for since this was called last.
    #[inline]
    pub(crate) fn take_maintenance_wanted(&self) -> bool {
        self.maintenance_wanted.0.load(Ordering::Relaxed) != 0
            && self.maintenance_wanted.0.swap(0, Ordering::AcqRel) != 0
    }

    pub(crate) fn want_maintenance(&self) {
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
