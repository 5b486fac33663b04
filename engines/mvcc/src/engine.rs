//! [`Mvcc`]: the contract over an inner engine.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{
    BatchOp, Capabilities, Changes, Checkpoint, CommitTicket, Completion, Durability, Entry,
    KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions, Result, Seen, Snapshots,
    Stats, SweepCursor, Swept, Transactions, UnixMillis, Update, WriteBatch, WriteOptions, Written,
};

use crate::commit::{Held, Intent};
use crate::core::Core;
use crate::options::MvccOptions;
use crate::record::{Header, META, MetaKey, encode_meta};

/// An engine with versions, snapshots and transactions, over one without. See the crate's
/// documentation.
pub struct Mvcc {
    pub(crate) core: Arc<Core>,
}

impl Mvcc {
    /// Wraps `engine`, which must hold nothing that another writer put there and must not be
    /// written to beside the wrapper. An inner engine that keeps its data is found as it was left.
    /// Nothing is written before the first write.
    ///
    /// # Errors
    /// `InvalidArgument` for options out of their range or an inner engine with fewer than 4
    /// keyspaces (or fewer than the store uses); `Corruption` if keyspace 0 holds what the wrapper
    /// did not write; `VersionTooNew`; the inner engine's.
    pub fn new(engine: Arc<dyn KvEngine>, options: MvccOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { core: Core::open(engine, options)? }))
    }

    /// Removes up to about `budget` versions that no open view needs any more, and says how many.
    /// Writes do as much by themselves; this is for times without writes.
    ///
    /// # Errors
    /// `Closed`.
    pub fn collect(&self, budget: usize) -> Op<'_, usize> {
        start(async move {
            self.core.check_open("collect")?;
            Ok(self.core.collect(budget).await)
        })
    }

    async fn write_one(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        value: Option<(&[u8], Option<UnixMillis>)>,
        options: WriteOptions,
    ) -> Result<Written> {
        let core = &self.core;
        let gate = core.enter().await;
        let slot = core.slot(keyspace);
        let stripes = core.lock([(slot.id, key)].into_iter()).await?;
        let (mut heads, mut existed, mut seen) = (None, None, CommitTicket::NONE);
        if options.report_existed {
            let (read, ticket) = core.read_heads(&[(slot.id, key)], true).await?;
            seen = ticket;
            let now = core.now();
            existed = Some(read.iter().flatten().any(|head| head.header.is_live_at(now)));
            heads = Some(read);
        }
        let held = Held { gate, stripes, heads, unchanged: Vec::new(), reader: None };
        let intent = Intent { slot, key, value };
        let written = core.commit(operation, &[intent], held, &options).await?;
        let ticket = core.complete(options.completion, written.ticket.join(seen)).await?;
        Ok(Written { existed, ticket, ..written })
    }

    async fn update_one(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: WriteOptions,
        change: &mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + '_),
    ) -> Result<Written> {
        let core = &self.core;
        let gate = core.enter().await;
        let slot = core.slot(keyspace);
        let stripes = core.lock([(slot.id, key)].into_iter()).await?;
        let (heads, seen) = core.read_heads(&[(slot.id, key)], true).await?;
        let now = core.now();
        let current = heads.iter().flatten().find(|head| head.header.is_live_at(now));
        let existed = Some(current.is_some());
        let mut new = Vec::new();
        let entry = current.map(|head| head.header.entry(head.value()));
        let value = match change(entry, &mut new) {
            Update::Keep => {
                drop((stripes, gate));
                let ticket = core.complete(options.completion, seen).await?;
                return Ok(Written { existed, sequence: None, ticket });
            }
            Update::Delete => None,
            Update::Put { expire_at } => {
                core.capabilities.check_value("update", key, &new)?;
                Some((&new[..], expire_at))
            }
        };
        let heads = Some(heads);
        let held = Held { gate, stripes, heads, unchanged: Vec::new(), reader: None };
        let intent = Intent { slot, key, value };
        let written = core.commit("update", &[intent], held, &options).await?;
        let ticket = core.complete(options.completion, written.ticket.join(seen)).await?;
        Ok(Written { existed, ticket, ..written })
    }

    /// Stores the time that reads have seen reached, if the inner engine does not know it.
    async fn store_clock(&self) -> Result<()> {
        let core = &self.core;
        let level = core.capabilities.strongest_durability;
        let Some(now) = core.clock_to_store(level) else { return Ok(()) };
        let mut batch = WriteBatch::new();
        batch.put(META, &MetaKey::Clock.encode(), &encode_meta(now.0), None);
        let ticket = core.write_inner(&batch, &WriteOptions::with_durability(level)).await?;
        core.complete(Completion::Durable, ticket).await.map(drop)
    }

    async fn write_batch(&self, batch: &WriteBatch, options: WriteOptions) -> Result<Written> {
        if batch.is_empty() {
            return Ok(Written::default());
        }
        let core = &self.core;
        let gate = core.enter().await;
        let directory = core.directories.current();
        // Of two writes to one key the later wins.
        let mut last: HashMap<(KeyspaceId, &[u8]), usize> = HashMap::new();
        for (index, op) in batch.iter().enumerate() {
            last.insert((op.keyspace(), op.key()), index);
        }
        let intents: Vec<Intent<'_>> = batch
            .iter()
            .enumerate()
            .filter(|(index, op)| last.get(&(op.keyspace(), op.key())) == Some(index))
            .map(|(_, op)| Intent {
                slot: Arc::clone(directory.slot(op.keyspace())),
                key: op.key(),
                value: match op {
                    BatchOp::Put { value, expire_at, .. } => Some((value, expire_at)),
                    BatchOp::Delete { .. } => None,
                },
            })
            .collect();
        drop(directory);
        let stripes = core.lock(intents.iter().map(Intent::target)).await?;
        let held = Held { gate, stripes, heads: None, unchanged: Vec::new(), reader: None };
        core.commit("write", &intents, held, &options).await
    }

    fn check_write(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &WriteOptions,
    ) -> Result<()> {
        self.core.check_writable(operation, options)?;
        self.core.capabilities.check_key(operation, keyspace, key)
    }
}

impl Drop for Mvcc {
    fn drop(&mut self) {
        // They hold the core; without an engine nobody drives them on.
        self.core.abandon_orphans();
    }
}

/// Runs a future as far as it goes without waiting.
pub(crate) fn start<'a, T>(future: impl Future<Output = Result<T>> + Send + 'a) -> Op<'a, T> {
    let mut future: Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Op::Ready(result),
        Poll::Pending => Op::Pending(future),
    }
}

/// [`start`], after checks that need no waiting.
pub(crate) fn start_checked<'a, T>(
    checked: Result<()>,
    future: impl Future<Output = Result<T>> + Send + 'a,
) -> Op<'a, T> {
    match checked {
        Ok(()) => start(future),
        Err(error) => Op::err(error),
    }
}

impl KvRead for Mvcc {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let (core, options) = (&self.core, *options);
        let checked =
            core.check_open("get").and_then(|()| core.capabilities.check_key("get", keyspace, key));
        start_checked(checked, async move {
            let _gate = core.enter().await;
            let slot = core.slot(keyspace);
            let mut shown = Shown::new(core, slot.id);
            let mut decode = |entry: Entry<'_>| shown.show(key, entry, &mut *visit);
            let seen = core.inner.get_with(slot.heads(), key, &options, &mut decode).await?;
            Ok(Seen { found: shown.count()?, ticket: seen.ticket })
        })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let (core, options) = (&self.core, *options);
        let checked = core
            .check_open("get_many")
            .and_then(|()| core.capabilities.check_keyspace("get_many", keyspace))
            .and_then(|()| {
                keys.iter()
                    .try_for_each(|key| core.capabilities.check_key("get_many", keyspace, key))
            });
        start_checked(checked, async move {
            let _gate = core.enter().await;
            let slot = core.slot(keyspace);
            let mut shown = Shown::new(core, slot.id);
            let mut decode = |index: usize, entry: Entry<'_>| {
                let key = keys.get(index).copied().unwrap_or_default();
                shown.show(key, entry, |entry| visit(index, entry));
            };
            let seen = core.inner.get_many_with(slot.heads(), keys, &options, &mut decode).await?;
            Ok(Seen { found: shown.count()?, ticket: seen.ticket })
        })
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let (core, options) = (&self.core, *options);
        let checked = core
            .check_open("sweep")
            .and_then(|()| core.capabilities.check_keyspace("sweep", keyspace));
        start_checked(checked, async move {
            let _gate = core.enter().await;
            let slot = core.slot(keyspace);
            let mut shown = Shown::new(core, slot.id);
            let mut decode = |key: &[u8], entry: Entry<'_>| {
                shown.show(key, entry, |entry| visit(key, entry));
            };
            let inner = &core.inner;
            let swept = inner.sweep(slot.heads(), cursor, budget, &options, &mut decode).await?;
            Ok(Swept { next: swept.next, visited: shown.count()?, ticket: swept.ticket })
        })
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

/// Shows newest versions to a visitor: without their headers, and only those that are present.
struct Shown<'c> {
    core: &'c Core,
    slot: u32,
    now: UnixMillis,
    count: usize,
    failed: Option<ferrokit_engine::Error>,
}

impl<'c> Shown<'c> {
    fn new(core: &'c Core, slot: u32) -> Self {
        Self { core, slot, now: core.now(), count: 0, failed: None }
    }

    fn show(&mut self, key: &[u8], entry: Entry<'_>, visit: impl FnOnce(Entry<'_>)) {
        match Header::decode(entry.value) {
            Err(error) => self.failed = Some(error.with_key(key)),
            Ok((header, value)) if header.is_live_at(self.now) => {
                self.count += 1;
                visit(header.entry(value));
            }
            Ok((header, _)) => self.core.found_dead(self.slot, key, &header),
        }
    }

    fn count(self) -> Result<usize> {
        self.failed.map_or(Ok(self.count), Err)
    }
}

impl KvEngine for Mvcc {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let checked = self
            .check_write("put", keyspace, key, options)
            .and_then(|()| self.core.capabilities.check_value("put", key, value));
        start_checked(
            checked,
            self.write_one("put", keyspace, key, Some((value, expire_at)), *options),
        )
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let checked = self.check_write("delete", keyspace, key, options);
        start_checked(checked, self.write_one("delete", keyspace, key, None, *options))
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        let checked = self.check_write("update", keyspace, key, options);
        start_checked(checked, self.update_one(keyspace, key, *options, change))
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        let checked = self
            .core
            .check_writable("write", options)
            .and_then(|()| self.core.capabilities.check_batch("write", batch));
        start_checked(checked, self.write_batch(batch, *options))
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        match self.core.check_open("committed") {
            Ok(()) => self.core.inner.committed(ticket),
            Err(error) => Op::err(error),
        }
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        match self.core.check_open("sync") {
            Ok(()) => self.core.inner.sync(level),
            Err(error) => Op::err(error),
        }
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        let checked = self.check_write("clear_keyspace", keyspace, b"", options);
        let options = *options;
        start_checked(checked, async move { self.core.clear(keyspace, options).await })
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        let checked = self
            .check_write("swap_keyspaces", a, b"", options)
            .and_then(|()| self.core.capabilities.check_keyspace("swap_keyspaces", b));
        let options = *options;
        start_checked(checked, async move { self.core.swap(a, b, options).await })
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        let core = &self.core;
        let checked = core
            .check_open("keyspace_len")
            .and_then(|()| core.capabilities.check_keyspace("keyspace_len", keyspace));
        start_checked(checked, async move {
            let _gate = core.enter().await;
            // Tombstones that open views need count among them.
            let len = core.inner.keyspace_len(core.slot(keyspace).heads()).await?;
            Ok(KeyspaceLen { entries: len.entries, exact: false })
        })
    }

    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    /// The inner engine's figures after the wrapper's, whose names begin with `mvcc_`.
    fn stats(&self) -> Stats {
        let core = &self.core;
        let (views, oldest) = core.views();
        let (versions, dead_heads) = core.garbage.len();
        let mut stats = Stats::new();
        stats
            .push("mvcc_last_timestamp", core.oracle.last().0)
            .push("mvcc_views_open", views as u64)
            .push("mvcc_oldest_view_timestamp", oldest.map_or(0, |(at, _)| at.0))
            .push("mvcc_oldest_view_age_ms", oldest.map_or(0, |(_, age_ms)| age_ms))
            .push("mvcc_versions_kept", versions as u64)
            .push("mvcc_dead_heads", dead_heads as u64)
            .push("mvcc_collected", core.collected.load(Ordering::Relaxed));
        for stat in core.inner.stats().iter() {
            stats.push(stat.name, stat.value);
        }
        stats
    }

    fn close(&self) -> Op<'_, ()> {
        let core = &self.core;
        start(async move {
            let mut stored = Ok(());
            if core.check_open("close").is_ok() {
                // Those inside end first; commits without a caller are driven to their end.
                let alone = core.gate.enter_alone(|| core.help()).await;
                core.close();
                drop(alone);
                stored = self.store_clock().await;
            }
            // Whatever came before, the inner engine is released.
            core.inner.close().await.and(stored)
        })
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        None
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        None
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        Some(self)
    }
}
