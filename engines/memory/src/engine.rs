//! [`MemoryEngine`]: the contract's traits and nothing else.

use std::sync::Arc;

use ferrokit_engine::{
    Capabilities, Change, ChangeFeed, ChangePosition, Changes, Checkpoint, CheckpointInfo,
    CommitTicket, Direction, Durability, Entry, KeyRange, KeyspaceId, KeyspaceLen, KvEngine,
    KvRead, Op, Ordered, ReadOptions, Result, ScanLimits, Scanned, Seen, Snapshot, Snapshots,
    Stats, SweepCursor, Swept, Transaction, TransactionOptions, Transactions, UnixMillis, Update,
    WriteBatch, WriteOptions, Written,
};
use ferrokit_storage::Host;

use crate::changes::MemoryFeed;
use crate::checkpoint;
use crate::config::MemoryConfig;
use crate::read::{live_range, scan_chunk, sweep_chunk, sweep_range};
use crate::recovery;
use crate::snapshot::MemorySnapshot;
use crate::state::{CAPABILITIES, Shared, wake};
use crate::transaction::MemoryTransaction;

/// The ordered in-memory engine. See the crate's documentation.
pub struct MemoryEngine {
    shared: Arc<Shared>,
    host: Host,
}

impl MemoryEngine {
    /// Opens an engine: empty, or holding what the configured checkpoint holds.
    ///
    /// # Errors
    /// `NotFound` if there is no complete checkpoint in the directory; `Corruption`,
    /// `VersionTooNew`, `Io`.
    pub fn open(host: &Host, config: MemoryConfig) -> Result<Arc<Self>> {
        let shared = Arc::new(recovery::open(host, &config)?);
        Ok(Arc::new(Self { shared, host: host.clone() }))
    }

    fn now(&self) -> UnixMillis {
        self.shared.clock.now()
    }

    /// Applies `changes` at once and reports on the first.
    fn commit(
        &self,
        operation: &'static str,
        options: &WriteOptions,
        changes: &[Change<'_>],
        existed_key: Option<(KeyspaceId, &[u8])>,
    ) -> Result<Written> {
        CAPABILITIES.check_durability(operation, options.durability)?;
        let mut state = self.shared.open_state(operation)?;
        let now = self.now();
        let existed = existed_key
            .filter(|_| options.report_existed)
            .map(|(keyspace, key)| state.entry(keyspace, key, now).is_some());
        let committed = state.commit(operation, changes, now)?;
        drop(state);
        wake(committed.wakers);
        Ok(Written { existed, sequence: committed.sequence, ticket: CommitTicket::NONE })
    }

    fn read_one(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        visit: &mut (dyn FnMut(Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
        self.read_many("get", keyspace, &[key], &mut visit_many)
    }

    fn read_many(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        for key in keys {
            CAPABILITIES.check_key(operation, keyspace, key)?;
        }
        let mut state = self.shared.open_state(operation)?;
        let now = self.now();
        let wakers = state.tick(keyspace, now);
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            if let Some(entry) = state.entry(keyspace, key, now) {
                found += 1;
                visit(index, entry);
            }
        }
        drop(state);
        wake(wakers);
        Ok(Seen { found, ticket: CommitTicket::NONE })
    }

    fn sweep_step(
        &self,
        keyspace: KeyspaceId,
        cursor: &SweepCursor,
        budget: usize,
        visit: &mut (dyn FnMut(&[u8], Entry<'_>) + Send + '_),
    ) -> Result<Swept> {
        CAPABILITIES.check_key("sweep", keyspace, &[])?;
        let mut state = self.shared.open_state("sweep")?;
        let now = self.now();
        let wakers = state.tick(keyspace, now);
        let records = state.records(keyspace);
        let greatest = || Some(records?.last_key_value()?.0.to_vec());
        let range = sweep_range(cursor, greatest)?;
        let swept = match (records, range) {
            (Some(records), Some(range)) => {
                sweep_chunk(live_range(records, &range, now), &range, budget, visit)
            }
            _ => Swept::default(),
        };
        drop(state);
        wake(wakers);
        Ok(swept)
    }

    fn update_one(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &WriteOptions,
        change: &mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + '_),
    ) -> Result<Written> {
        CAPABILITIES.check_key("update", keyspace, key)?;
        CAPABILITIES.check_durability("update", options.durability)?;
        let mut state = self.shared.open_state("update")?;
        let now = self.now();
        let current = state.entry(keyspace, key, now);
        let existed = Some(current.is_some());
        let mut value = Vec::new();
        let changes: &[Change<'_>] = match change(current, &mut value) {
            Update::Keep => &[],
            Update::Delete => &[Change::Delete { keyspace, key }],
            Update::Put { expire_at } => {
                CAPABILITIES.check_value("update", key, &value)?;
                &[Change::Put { keyspace, key, value: &value, expire_at }]
            }
        };
        let committed = state.commit("update", changes, now)?;
        drop(state);
        wake(committed.wakers);
        Ok(Written { existed, sequence: committed.sequence, ticket: CommitTicket::NONE })
    }

    fn len(&self, keyspace: KeyspaceId) -> Result<KeyspaceLen> {
        CAPABILITIES.check_key("keyspace_len", keyspace, &[])?;
        let mut state = self.shared.open_state("keyspace_len")?;
        let wakers = state.collect_some(keyspace, self.now(), usize::MAX);
        let entries = state.records(keyspace).map_or(0, |records| records.len() as u64);
        drop(state);
        wake(wakers);
        Ok(KeyspaceLen { entries, exact: true })
    }
}

impl KvRead for MemoryEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        self.read_one(keyspace, key, visit).into()
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        self.read_many("get_many", keyspace, keys, visit).into()
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        self.sweep_step(keyspace, cursor, budget, visit).into()
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl KvEngine for MemoryEngine {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        CAPABILITIES
            .check_key("put", keyspace, key)
            .and_then(|()| CAPABILITIES.check_value("put", key, value))
            .and_then(|()| {
                let change = Change::Put { keyspace, key, value, expire_at };
                self.commit("put", options, &[change], Some((keyspace, key)))
            })
            .into()
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        CAPABILITIES
            .check_key("delete", keyspace, key)
            .and_then(|()| {
                let change = Change::Delete { keyspace, key };
                self.commit("delete", options, &[change], Some((keyspace, key)))
            })
            .into()
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        self.update_one(keyspace, key, options, change).into()
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        CAPABILITIES
            .check_batch("write", batch)
            .and_then(|()| {
                let changes: Vec<Change<'_>> = batch.iter().map(change_of).collect();
                self.commit("write", options, &changes, None)
            })
            .into()
    }

    fn committed(&self, _ticket: CommitTicket) -> Op<'_, ()> {
        self.shared.check_open("committed").into()
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        CAPABILITIES
            .check_durability("sync", level)
            .and_then(|()| self.shared.check_open("sync"))
            .into()
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        CAPABILITIES
            .check_key("clear_keyspace", keyspace, &[])
            .and_then(|()| {
                self.commit("clear_keyspace", options, &[Change::Clear { keyspace }], None)
            })
            .into()
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        CAPABILITIES
            .check_key("swap_keyspaces", a, &[])
            .and_then(|()| CAPABILITIES.check_key("swap_keyspaces", b, &[]))
            .and_then(|()| self.commit("swap_keyspaces", options, &[Change::Swap { a, b }], None))
            .into()
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        self.len(keyspace).into()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn stats(&self) -> Stats {
        let state = self.shared.state();
        let entries: usize = state.keyspaces().map(|(_, table)| table.records().len()).sum();
        let mut stats = Stats::new();
        stats
            .push("entries", entries as u64)
            .push("keyspaces", state.keyspaces().count() as u64)
            .push("last_sequence", state.last_sequence.0)
            .push("expired_collected", state.expired_collected)
            .push("change_log_bytes", state.log.bytes() as u64)
            .push("change_feeds_open", state.log.open_feeds() as u64)
            .push("transactions_open", state.conflicts.open_transactions() as u64)
            .push("views_open", self.shared.open_views() as u64);
        stats
    }

    fn close(&self) -> Op<'_, ()> {
        self.shared.close();
        Op::ok(())
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        Some(self)
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        Some(self)
    }
}

fn change_of(op: ferrokit_engine::BatchOp<'_>) -> Change<'_> {
    match op {
        ferrokit_engine::BatchOp::Put { keyspace, key, value, expire_at } => {
            Change::Put { keyspace, key, value, expire_at }
        }
        ferrokit_engine::BatchOp::Delete { keyspace, key } => Change::Delete { keyspace, key },
    }
}

impl Ordered for MemoryEngine {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        let mut scan = || {
            CAPABILITIES.check_key("scan", keyspace, &[])?;
            let mut state = self.shared.open_state("scan")?;
            let now = self.now();
            let wakers = state.tick(keyspace, now);
            let entries = state
                .records(keyspace)
                .into_iter()
                .flat_map(|records| live_range(records, range, now));
            let scanned = match direction {
                Direction::Forward => scan_chunk(entries, range, direction, limits, visit),
                Direction::Backward => scan_chunk(entries.rev(), range, direction, limits, visit),
            };
            drop(state);
            wake(wakers);
            Ok(scanned)
        };
        scan().into()
    }
}

impl Snapshots for MemoryEngine {
    fn snapshot(&self) -> Op<'_, Arc<dyn Snapshot>> {
        let open = || {
            let guard = self.shared.open_view("snapshot")?;
            let view = self.shared.open_state("snapshot")?.view(self.now());
            Ok(Arc::new(MemorySnapshot::new(guard, view)) as Arc<dyn Snapshot>)
        };
        open().into()
    }
}

impl Checkpoint for MemoryEngine {
    fn checkpoint<'a>(&'a self, directory: &'a str) -> Op<'a, CheckpointInfo> {
        let start = || {
            let view = self.shared.open_state("checkpoint")?.view(self.now());
            checkpoint::start(&self.host, view, directory)
        };
        match start() {
            Ok(running) => Op::pending(running),
            Err(error) => Op::err(error),
        }
    }
}

impl Changes for MemoryEngine {
    fn position(&self) -> ChangePosition {
        ChangePosition(self.shared.state().log.end())
    }

    fn subscribe(&self, from: Option<ChangePosition>) -> Op<'_, Box<dyn ChangeFeed>> {
        let open = || {
            let (feed, position) = self.shared.open_state("subscribe")?.log.subscribe(from)?;
            let feed = MemoryFeed::new(Arc::clone(&self.shared), feed, position);
            Ok(Box::new(feed) as Box<dyn ChangeFeed>)
        };
        open().into()
    }
}

impl Transactions for MemoryEngine {
    fn begin(&self, options: &TransactionOptions) -> Op<'_, Box<dyn Transaction>> {
        let begin = || {
            let guard = self.shared.open_view("begin")?;
            let mut state = self.shared.open_state("begin")?;
            let view = state.view(self.now());
            state.conflicts.begin(view.sequence);
            drop(state);
            let transaction = MemoryTransaction::new(guard, view, options.isolation);
            Ok(Box::new(transaction) as Box<dyn Transaction>)
        };
        begin().into()
    }
}
