//! The expiry cycle: keys whose time has come are found without anybody asking for them, and told
//! of.
//!
//! An engine hides an expired entry at once, and collects it when something meets it. The cycle
//! goes through the databases in small sweeps, so that everything is met before long; a database in
//! which a whole round found no expiry is left alone until a write sets one.
//!
//! While somebody wants to know of keys that expire, each expiry that is set, or met, becomes a
//! *deadline*: a place in a heap and a watch on the key. When it is due, and the watch was not
//! touched, and the key is gone, then it expired: that is told once. Deadlines of keys that were
//! written since are dropped when they are as many as the others. The heap is bounded; expiries
//! beyond it are found again by the sweeps.
//!
//! Lock order: a stripe, then `deadlines`, then a stripe's list of watches.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{Entry, KeyspaceId, SweepCursor, UnixMillis};

use crate::db::Tally;
use crate::events::{ClientId, Event, EventClass, Interest};
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::{Stripes, WatchFlag};
use crate::transaction::{KeySet, Transaction};

/// Deadlines kept.
const DEADLINES_MAX: usize = 100_000;
/// So many deadlines are kept without a look at which of them are outdated.
const OUTDATED_MIN: usize = 1024;
/// Deadlines handled in one step of the cycle.
const DUE_PER_STEP: usize = 1000;

const EXPIRED: Event = Event::new(EventClass::EXPIRED, "expired");
const WANTS_EXPIRED: Interest = Interest::in_events(EventClass::EXPIRED);

/// What is known of the expiries of a database, from the last whole round of sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpiryFigures {
    /// Keys with an expiry.
    pub keys: u64,
    /// Their mean time to live, in milliseconds.
    pub mean_ttl_ms: u64,
}

/// The expiries of a store.
pub(crate) struct Expiries {
    /// A bit per database: it may hold keys with an expiry.
    may_expire: AtomicU32,
    is_paused: AtomicBool,
    rounds: Mutex<Vec<Round>>,
    deadlines: Mutex<Deadlines>,
    expired: AtomicU64,
}

/// A round of sweeps over one database.
#[derive(Debug, Clone, Default)]
struct Round {
    cursor: SweepCursor,
    keys: u64,
    ttl_ms: u64,
    last: ExpiryFigures,
}

#[derive(Default)]
struct Deadlines {
    by_time: BinaryHeap<Reverse<Deadline>>,
    known: HashSet<(KeyspaceId, Box<[u8]>, UnixMillis)>,
    /// Keys evicted since outdated ones were last dropped.
    evicted: usize,
    /// As many as then were left.
    left: usize,
}

impl Deadlines {
    /// Drops those of keys that were written since.
    fn drop_outdated(&mut self, stripes: &Stripes) {
        let Self { by_time, known, .. } = self;
        by_time.retain(|Reverse(deadline)| {
            let Deadline { at, keyspace, key, flag } = deadline;
            let is_outdated = flag.is_touched();
            if is_outdated {
                stripes.unwatch(*keyspace, key, flag);
                known.remove(&(*keyspace, key.clone(), *at));
            }
            !is_outdated
        });
        by_time.shrink_to_fit();
        known.shrink_to_fit();
        self.left = by_time.len();
        self.evicted = 0;
    }
}

struct Deadline {
    at: UnixMillis,
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    flag: Arc<WatchFlag>,
}

impl Deadline {
    fn order(&self) -> (UnixMillis, KeyspaceId, &[u8]) {
        (self.at, self.keyspace, &self.key)
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Expiries {
    /// Any database may hold expiries until a round has shown that it does not.
    pub(crate) fn new(databases: u32) -> Self {
        Self {
            may_expire: AtomicU32::new(u32::MAX),
            is_paused: AtomicBool::new(false),
            rounds: Mutex::new(vec![Round::default(); databases as usize]),
            deadlines: Mutex::default(),
            expired: AtomicU64::new(0),
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Vec<Round>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bit(keyspace: KeyspaceId) -> u32 {
        1_u32.checked_shl(keyspace.0).unwrap_or(0)
    }

    /// A database is another one now, or its round failed: the next one begins at its start.
    pub(crate) fn forget_round(&self, keyspace: KeyspaceId) {
        if let Some(round) = self.rounds().get_mut(keyspace.0 as usize) {
            *round = Round::default();
        }
        self.may_expire.fetch_or(Self::bit(keyspace), Ordering::AcqRel);
    }

    /// An expiry is being set in a database.
    #[inline]
    pub(crate) fn note_database(&self, keyspace: KeyspaceId) {
        let bit = Self::bit(keyspace);
        if self.may_expire.load(Ordering::Relaxed) & bit == 0 {
            self.may_expire.fetch_or(bit, Ordering::AcqRel);
        }
    }
}

impl Store {
    /// Whether deadlines are kept.
    #[inline]
    pub(crate) fn keeps_deadlines(&self) -> bool {
        self.interest().includes(WANTS_EXPIRED) || self.interest().includes(Interest::MODIFICATIONS)
    }

    /// Keeps the deadline of a key that was just written; before its stripe is released, and after
    /// the write touched those who watch the key.
    #[cold]
    pub(crate) fn keep_deadline(&self, keyspace: KeyspaceId, key: &[u8], at: UnixMillis) {
        let mut deadlines = self.expiries.deadlines();
        if deadlines.by_time.len() >= OUTDATED_MIN.max(2 * deadlines.left) {
            deadlines.drop_outdated(&self.stripes);
        }
        if deadlines.by_time.len() >= DEADLINES_MAX
            || !deadlines.known.insert((keyspace, key.into(), at))
        {
            return;
        }
        let flag = Arc::default();
        self.stripes.watch(keyspace, key, &flag);
        deadlines.by_time.push(Reverse(Deadline { at, keyspace, key: key.into(), flag }));
    }

    /// A key was evicted, to make room: its deadline is to go, too, and not to wait for its time.
    pub(crate) fn note_evicted(&self) {
        let mut deadlines = self.expiries.deadlines();
        deadlines.evicted += 1;
        if deadlines.evicted * 2 >= deadlines.by_time.len() {
            deadlines.drop_outdated(&self.stripes);
        }
    }

    /// Pauses the cycle, or lets it go on. Expired keys are absent all the same.
    pub fn pause_expiry_cycle(&self, is_paused: bool) {
        self.expiries.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Whether the cycle looks at a database.
    pub fn may_expire(&self, keyspace: KeyspaceId) -> bool {
        self.expiries.may_expire.load(Ordering::Acquire) & Expiries::bit(keyspace) != 0
    }

    /// What is known of the expiries of a database.
    pub fn expiry_figures(&self, keyspace: KeyspaceId) -> ExpiryFigures {
        let rounds = self.expiries.rounds();
        rounds.get(keyspace.0 as usize).map(|round| round.last).unwrap_or_default()
    }

    /// Keys that were told to have expired.
    pub fn told_expired(&self) -> u64 {
        self.expiries.expired.load(Ordering::Relaxed)
    }

    /// One step of the cycle: about `budget` entries of each database that may hold expiries, and
    /// the deadlines that are due. To be called some ten times a second, by one caller.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn run_expiry_cycle(&self, budget: usize) -> Result<()> {
        self.tell_expired().await?;
        if self.expiries.is_paused.load(Ordering::Relaxed) {
            return Ok(());
        }
        for id in 0..self.databases() {
            let keyspace = KeyspaceId(id);
            if self.may_expire(keyspace) {
                self.sweep_expiries(keyspace, budget).await?;
            }
        }
        Ok(())
    }

    async fn sweep_expiries(&self, keyspace: KeyspaceId, budget: usize) -> Result<()> {
        let Some(mut round) = self.expiries.rounds().get(keyspace.0 as usize).cloned() else {
            return Ok(());
        };
        if round.cursor.is_start() {
            // Whoever sets an expiry from here on sets the bit again.
            self.expiries.may_expire.fetch_and(!Expiries::bit(keyspace), Ordering::AcqRel);
        }
        // An engine may look at the places of all databases to find that one is empty.
        if round.cursor.is_start() && self.engine().keyspace_len(keyspace).await?.entries == 0 {
            if let Some(place) = self.expiries.rounds().get_mut(keyspace.0 as usize) {
                *place = Round::default();
            }
            return Ok(());
        }
        let (now, keeps) = (self.now(), self.keeps_deadlines());
        let mut found: Vec<(Box<[u8]>, UnixMillis)> = Vec::new();
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            if let Some(at) = entry.expire_at {
                round.keys += 1;
                round.ttl_ms = round.ttl_ms.saturating_add(at.0.saturating_sub(now.0));
                if keeps {
                    found.push((key.into(), at));
                }
            }
        };
        let mut tally = Tally::default();
        let mut db = self.db(keyspace, ClientId::default(), &mut tally);
        let cursor = std::mem::take(&mut round.cursor);
        let swept = match db.sweep(&cursor, budget, &mut visit).await {
            Ok(swept) => swept,
            Err(refusal) => {
                self.expiries.forget_round(keyspace);
                return Err(refusal);
            }
        };
        match swept.next {
            Some(next) => round.cursor = next,
            None => {
                let mean_ttl_ms = round.ttl_ms.checked_div(round.keys).unwrap_or(0);
                let last = ExpiryFigures { keys: round.keys, mean_ttl_ms };
                round = Round { last, ..Round::default() };
            }
        }
        if !round.cursor.is_start() || round.last.keys > 0 {
            self.expiries.note_database(keyspace);
        }
        if let Some(place) = self.expiries.rounds().get_mut(keyspace.0 as usize) {
            *place = round;
        }
        for (key, at) in found {
            self.meet_deadline(keyspace, &key, at).await?;
        }
        Ok(())
    }

    /// Keeps the deadline of a key that a sweep met, if the key still has it.
    async fn meet_deadline(&self, keyspace: KeyspaceId, key: &[u8], at: UnixMillis) -> Result<()> {
        {
            let deadlines = self.expiries.deadlines();
            if deadlines.by_time.len() >= DEADLINES_MAX
                || deadlines.known.contains(&(keyspace, key.into(), at))
            {
                return Ok(());
            }
        }
        // No write comes between the look at the key and the watch on it.
        let _locked = Transaction::begin(self, KeySet::of([(keyspace, key)])).await;
        if self.expiry_of(keyspace, key).await? == Some(Some(at)) {
            self.keep_deadline(keyspace, key, at);
        }
        Ok(())
    }

    /// The expiry of a key; `None` if it is gone.
    async fn expiry_of(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Result<Option<Option<UnixMillis>>> {
        let mut tally = Tally::default();
        let mut db = self.db(keyspace, ClientId::default(), &mut tally);
        let mut expire_at = None;
        let is_there = db.peek(key, &mut |entry: Entry<'_>| expire_at = entry.expire_at).await?;
        Ok(is_there.then_some(expire_at))
    }

    /// Whether there are keys whose expiry is to be told now. The cycle tells it within a tenth of a
    /// second; who does not find a key may have it told at once.
    #[inline]
    pub fn has_due_expiries(&self) -> bool {
        self.keeps_deadlines() && self.is_deadline_due()
    }

    #[cold]
    fn is_deadline_due(&self) -> bool {
        let now = self.now();
        self.expiries.deadlines().by_time.peek().is_some_and(|Reverse(first)| first.at <= now)
    }

    /// Tells of the keys whose deadlines have passed.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn tell_expired(&self) -> Result<()> {
        for _ in 0..DUE_PER_STEP {
            let now = self.now();
            let due = {
                let mut deadlines = self.expiries.deadlines();
                match deadlines.by_time.peek() {
                    Some(Reverse(first)) if first.at <= now => {}
                    _ => return Ok(()),
                }
                let Some(Reverse(due)) = deadlines.by_time.pop() else { return Ok(()) };
                deadlines.known.remove(&(due.keyspace, due.key.clone(), due.at));
                due
            };
            let Deadline { keyspace, key, flag, .. } = due;
            self.stripes.unwatch(keyspace, &key, &flag);
            if flag.is_touched() {
                continue;
            }
            match self.expiry_of(keyspace, &key).await? {
                None => {
                    self.expiries.expired.fetch_add(1, Ordering::Relaxed);
                    self.tell_event(EXPIRED, keyspace, &key);
                    self.tell_modified(keyspace, &key, ClientId::default());
                }
                // Two writers of one key may pass each other.
                Some(Some(later)) => self.meet_deadline(keyspace, &key, later).await?,
                Some(None) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ferrokit_engine::{Env, KvEngine, block_on};
    use ferrokit_storage::{Host, IoBackend};

    use super::*;
    use crate::eviction::EvictionPolicy;

    fn store() -> Store {
        let host = Host::system(IoBackend::Threads).unwrap();
        let engine: Arc<dyn KvEngine> = ferrokit_engines::open(&host, "memory:").unwrap();
        let store = Store::new(engine, &Env::system());
        store.set_interest(WANTS_EXPIRED);
        store
    }

    fn set(store: &Store, key: &str, seconds: u64) {
        let mut tally = Tally::default();
        let mut db = store.db(KeyspaceId(0), ClientId(1), &mut tally);
        let at = UnixMillis(store.now().0 + seconds * 1000);
        block_on(db.set(key.as_bytes(), b"value", Some(at))).unwrap();
    }

    fn kept(store: &Store) -> (usize, usize) {
        let deadlines = store.expiries.deadlines();
        (deadlines.by_time.len(), deadlines.known.len())
    }

    #[test]
    fn deadlines_of_keys_that_were_written_again_do_not_pile_up() {
        let store = store();
        (0..100).for_each(|number| set(&store, &format!("kept{number}"), 1000));
        (0..10 * OUTDATED_MIN as u64).for_each(|number| set(&store, "k", 1000 + number));
        let (deadlines, known) = kept(&store);
        assert!((101..=OUTDATED_MIN).contains(&deadlines), "{deadlines}");
        assert_eq!(deadlines, known);
        // Those that hold are all there.
        store.expiries.deadlines().drop_outdated(&store.stripes);
        assert_eq!(kept(&store), (101, 101));
    }

    #[test]
    fn a_deadline_goes_with_the_key_that_is_evicted() {
        let store = store();
        (0..100).for_each(|number| set(&store, &format!("k{number}"), 1000));
        assert_eq!(kept(&store), (100, 100));
        let mut tally = Tally::default();
        for _ in 0..100 {
            let policy = EvictionPolicy::VolatileTtl;
            assert!(block_on(store.evict_one(policy, 5, &mut tally)).unwrap());
        }
        assert!(kept(&store).0 <= 1, "{:?}", kept(&store));
    }
}
