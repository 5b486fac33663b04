//! [`Shared`] and [`State`]: everything behind the one lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ferrokit_engine::{
    Capabilities, Change, Durability, Entry, Error, ErrorKind, ExpiryClock, Isolation, KeyspaceId,
    Result, Sequence, Tier, UnixMillis,
};

use crate::changes::ChangeLog;
use crate::config::MemoryConfig;
use crate::conflicts::Conflicts;
use crate::table::{Record, Records, Table};

/// Expired records collected by one operation at most, beside those it touches.
const COLLECTED_PER_OPERATION: usize = 16;

/// What the engine can do.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    engine: "memory",
    ordered: true,
    snapshots: true,
    checkpoint: true,
    changes: true,
    transactions: Some(Isolation::Serializable),
    sequence_numbers: true,
    exact_len: true,
    max_key_bytes: 64 << 10,
    // Room for what a user of the engine marks a value of 512 MiB with.
    max_value_bytes: (512 << 20) + (64 << 10),
    max_batch_ops: 1 << 20,
    max_batch_bytes: 1 << 30,
    max_keyspaces: 1 << 16,
    strongest_durability: Durability::Memory,
    tiers: &[Tier::Memory],
    persistent_memory: false,
};

/// What the engine, its snapshots, transactions and feeds share.
pub(crate) struct Shared {
    state: Mutex<State>,
    closed: AtomicBool,
    pub(crate) clock: ExpiryClock,
    views: AtomicUsize,
    max_views: usize,
}

/// What is needed of the state to read it consistently later.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<Records>>,
    pub(crate) sequence: Sequence,
    pub(crate) opened_at: UnixMillis,
}

impl Shared {
    pub(crate) fn new(config: &MemoryConfig, clock: ExpiryClock, state: State) -> Self {
        Self {
            state: Mutex::new(state),
            closed: AtomicBool::new(false),
            clock,
            views: AtomicUsize::new(0),
            max_views: config.max_views,
        }
    }

    /// The state, whether or not the engine is closed. A panicking visitor leaves it whole:
    /// callbacks run before a write changes anything.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of an open engine.
    ///
    /// # Errors
    /// `Closed`.
    pub(crate) fn open_state(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        self.check_open(operation)?;
        Ok(state)
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(Self::closed(operation)) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn closed(operation: &'static str) -> Error {
        Error::new(ErrorKind::Closed, operation, "the engine was closed")
    }

    /// Closes the engine and wakes the feeds, so that they learn of it.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.state();
            self.closed.store(true, Ordering::Release);
            state.log.take_wakers()
        };
        wake(wakers);
    }

    /// Counts a snapshot or transaction.
    ///
    /// # Errors
    /// `Busy` when too many are open.
    pub(crate) fn open_view(self: &Arc<Self>, operation: &'static str) -> Result<ViewGuard> {
        let counted = self.views.fetch_update(Ordering::AcqRel, Ordering::Acquire, |views| {
            (views < self.max_views).then_some(views + 1)
        });
        match counted {
            Ok(_) => Ok(ViewGuard { shared: Arc::clone(self) }),
            Err(views) => Err(Error::new(
                ErrorKind::Busy,
                operation,
                format!("{views} snapshots and transactions are open, the limit is reached"),
            )),
        }
    }

    pub(crate) fn open_views(&self) -> usize {
        self.views.load(Ordering::Acquire)
    }
}

/// One counted snapshot or transaction.
pub(crate) struct ViewGuard {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for ViewGuard {
    fn drop(&mut self) {
        self.shared.views.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Wakes feeds; not to be called under the state's lock.
pub(crate) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The tables and what is derived from writes to them.
pub(crate) struct State {
    tables: BTreeMap<KeyspaceId, Table>,
    pub(crate) last_sequence: Sequence,
    pub(crate) log: ChangeLog,
    pub(crate) conflicts: Conflicts,
    pub(crate) expired_collected: u64,
}

/// The effect of a group of writes.
pub(crate) struct Committed {
    /// The number of the last write; `None` if nothing had to change.
    pub(crate) sequence: Option<Sequence>,
    /// To be woken once the lock is released.
    pub(crate) wakers: Vec<Waker>,
}

impl State {
    pub(crate) fn new(
        config: &MemoryConfig,
        tables: BTreeMap<KeyspaceId, Table>,
        last_sequence: Sequence,
    ) -> Self {
        Self {
            tables,
            last_sequence,
            log: ChangeLog::new(config.change_log_bytes),
            conflicts: Conflicts::new(config.max_tracked_keys),
            expired_collected: 0,
        }
    }

    /// The records of a keyspace; `None` if nothing was ever written to it.
    pub(crate) fn records(&self, keyspace: KeyspaceId) -> Option<&Arc<Records>> {
        self.tables.get(&keyspace).map(Table::records)
    }

    /// The entry of `key`, unless it has expired at `now`.
    pub(crate) fn entry(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        now: UnixMillis,
    ) -> Option<Entry<'_>> {
        let record = self.tables.get(&keyspace)?.get(key)?;
        (!record.is_expired_at(now)).then(|| record.entry())
    }

    pub(crate) fn view(&self, now: UnixMillis) -> View {
        View {
            keyspaces: self
                .tables
                .iter()
                .map(|(keyspace, table)| (*keyspace, Arc::clone(table.records())))
                .collect(),
            sequence: self.last_sequence,
            opened_at: now,
        }
    }

    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Table)> {
        self.tables.iter().map(|(keyspace, table)| (*keyspace, table))
    }

    /// The one path by which writes take effect: all of `changes` at once.
    ///
    /// A put that has already expired is a delete, and a delete of an absent key is nothing.
    ///
    /// # Errors
    /// `Busy` if the change log has no room; nothing changed then.
    pub(crate) fn commit(
        &mut self,
        operation: &'static str,
        changes: &[Change<'_>],
        now: UnixMillis,
    ) -> Result<Committed> {
        if !self.log.has_room(changes) {
            return Err(Error::new(
                ErrorKind::Busy,
                operation,
                "the change log is full: a change feed is too far behind",
            ));
        }
        let mut wakers = Vec::new();
        for change in changes {
            // An expired record that is about to be replaced owes its event first.
            if let Change::Put { keyspace, key, .. } | Change::Delete { keyspace, key } = *change
                && self.is_expired(keyspace, key, now)
            {
                wakers.append(&mut self.collect(keyspace, key));
            }
        }
        let mut effective = Vec::with_capacity(changes.len());
        for change in changes {
            let change = match *change {
                Change::Put { keyspace, key, expire_at, .. }
                    if Entry::is_expired_at(expire_at, now) =>
                {
                    Change::Delete { keyspace, key }
                }
                change => change,
            };
            if self.apply(&change) {
                self.conflicts.note(&change, self.last_sequence);
                effective.push(change);
            }
        }
        if effective.is_empty() {
            return Ok(Committed { sequence: None, wakers });
        }
        wakers.append(&mut self.log.push(&effective, self.last_sequence));
        Ok(Committed { sequence: Some(self.last_sequence), wakers })
    }

    /// Applies one change under the next sequence number; `false` if there was nothing to change.
    fn apply(&mut self, change: &Change<'_>) -> bool {
        let sequence = Sequence(self.last_sequence.0 + 1);
        match *change {
            Change::Put { keyspace, key, value, expire_at } => {
                let record = Record { value: Arc::from(value), expire_at, sequence };
                self.tables.entry(keyspace).or_default().insert(Arc::from(key), record);
            }
            Change::Delete { keyspace, key } | Change::Expired { keyspace, key } => {
                let removed = self.tables.get_mut(&keyspace).and_then(|table| table.remove(key));
                if removed.is_none() {
                    return false;
                }
            }
            Change::Clear { keyspace } => {
                self.tables.remove(&keyspace);
            }
            Change::Swap { a, b } => {
                let (table_a, table_b) = (self.tables.remove(&a), self.tables.remove(&b));
                self.tables.extend(table_b.map(|table| (a, table)));
                self.tables.extend(table_a.map(|table| (b, table)));
            }
        }
        self.last_sequence = sequence;
        true
    }

    fn is_expired(&self, keyspace: KeyspaceId, key: &[u8], now: UnixMillis) -> bool {
        let record = self.tables.get(&keyspace).and_then(|table| table.get(key));
        record.is_some_and(|record| record.is_expired_at(now))
    }

    /// Removes an expired record: the one place where its event is emitted.
    #[must_use]
    fn collect(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Vec<Waker> {
        let change = Change::Expired { keyspace, key };
        self.apply(&change);
        self.expired_collected += 1;
        self.log.push(&[change], self.last_sequence)
    }

    /// Collects up to `limit` of a keyspace's expired records. Not while the change log is full:
    /// they stay, absent to every read, and are collected later.
    #[must_use]
    pub(crate) fn collect_some(
        &mut self,
        keyspace: KeyspaceId,
        now: UnixMillis,
        limit: usize,
    ) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for _ in 0..limit {
            let first = self.tables.get(&keyspace).and_then(|table| table.first_expired(now));
            let Some(key) = first else { break };
            if !self.log.has_room(&[Change::Expired { keyspace, key: &key }]) {
                break;
            }
            wakers.append(&mut self.collect(keyspace, &key));
        }
        wakers
    }

    /// What every operation on a keyspace does first: collects a few expired records.
    #[must_use]
    pub(crate) fn tick(&mut self, keyspace: KeyspaceId, now: UnixMillis) -> Vec<Waker> {
        self.collect_some(keyspace, now, COLLECTED_PER_OPERATION)
    }
}
