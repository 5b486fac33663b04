//! [`Core`]: what the engine, its views and its transactions share.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use ferrokit_engine::{
    Capabilities, Clock, CommitTicket, Completion, Durability, Entry, Error, ErrorKind,
    ExpiryClock, Isolation, KeyspaceId, KvEngine, ReadOptions, Result, UnixMillis, WriteBatch,
    WriteOptions,
};

use crate::directory::{Directories, Slot, recover};
use crate::garbage::{DeadHead, Garbage};
use crate::options::MvccOptions;
use crate::oracle::Oracle;
use crate::record::{
    HEADER_BYTES, HISTORY, Header, META, MetaKey, Timestamp, VERSION_KEY_BYTES, encode_meta,
};
use crate::stripes::{StripeGuard, Stripes};
use crate::wait::{Gate, Shared};

/// Timestamps reserved at a time: after a crash, numbers go on behind the last reserved one.
const RESERVED_TIMESTAMPS: u64 = 1 << 20;

type Orphan = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Core {
    pub(crate) inner: Arc<dyn KvEngine>,
    pub(crate) capabilities: Capabilities,
    pub(crate) options: MvccOptions,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stripes: Arc<Stripes>,
    pub(crate) directories: Directories,
    pub(crate) garbage: Garbage,
    clock: ExpiryClock,
    pub(crate) monotonic: Arc<dyn Clock>,
    /// Whether geometry is stored and the history of earlier runs gone.
    is_started: AtomicBool,
    /// The latest expiry that a read has found passed, and the time known to the meta keyspace:
    /// the first must not be above the second once a later write is durable.
    expired_seen: AtomicU64,
    clock_stored: AtomicU64,
    pub(crate) collected: AtomicU64,
    closed: AtomicBool,
    /// A change of the directory failed: memory and store may differ.
    poison: OnceLock<Error>,
    /// Commits whose callers are gone. Whoever has to wait for a lock drives them on; this mutex
    /// is held meanwhile, outermost of all. `None` once the engine is gone: they hold the core, and
    /// nobody is left to drive them.
    orphans: Mutex<Option<Vec<Orphan>>>,
    orphan_count: AtomicUsize,
}

/// A newest version as it was read.
pub(crate) struct Head {
    pub(crate) header: Header,
    /// Header and value; empty if only the header was asked for.
    pub(crate) record: Vec<u8>,
}

impl Head {
    pub(crate) fn value(&self) -> &[u8] {
        self.record.get(HEADER_BYTES..).unwrap_or_default()
    }
}

impl Core {
    pub(crate) fn open(inner: Arc<dyn KvEngine>, options: MvccOptions) -> Result<Arc<Self>> {
        options.check()?;
        let recovered = recover(&*inner)?;
        let keyspaces = recovered.directories.geometry.keyspaces;
        let capabilities = capabilities(inner.capabilities(), keyspaces)?;
        let clock = Arc::clone(&options.clock);
        Ok(Arc::new(Self {
            capabilities,
            oracle: Arc::new(Oracle::new(recovered.last, options.max_views)),
            gate: Arc::default(),
            stripes: Arc::new(Stripes::new(options.stripes, options.max_waiters)),
            directories: recovered.directories,
            garbage: Garbage::default(),
            clock: ExpiryClock::new(Arc::clone(&clock), recovered.clock),
            monotonic: clock,
            is_started: AtomicBool::new(false),
            expired_seen: AtomicU64::new(0),
            clock_stored: AtomicU64::new(recovered.clock.0),
            collected: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            poison: OnceLock::new(),
            orphans: Mutex::new(Some(Vec::new())),
            orphan_count: AtomicUsize::new(0),
            inner,
            options,
        }))
    }

    // ---- Waiting, and commits without a caller.

    pub(crate) async fn enter(self: &Arc<Self>) -> Shared {
        self.gate.enter(|| self.help()).await
    }

    /// The stripes of keys.
    pub(crate) async fn lock<'k>(
        self: &Arc<Self>,
        keys: impl Iterator<Item = (u32, &'k [u8])>,
    ) -> Result<StripeGuard> {
        let indexes = keys.map(|(slot, key)| self.stripes.of(slot, key)).collect();
        self.stripes.lock(indexes, || self.help()).await
    }

    /// Drives commits whose callers are gone.
    pub(crate) fn help(self: &Arc<Self>) {
        if self.orphan_count.load(Ordering::Acquire) == 0 {
            return;
        }
        let waker = Waker::from(Arc::new(WakeWaiters(Arc::downgrade(self))));
        let mut cx = Context::from_waker(&waker);
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(orphans) = &mut *orphans else { return };
        orphans.retain_mut(|orphan| orphan.as_mut().poll(&mut cx).is_pending());
        self.orphan_count.store(orphans.len(), Ordering::Release);
    }

    /// Takes over a commit; there are never more than stripes, as each holds some.
    fn adopt(self: &Arc<Self>, orphan: Orphan) {
        {
            let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(orphans) = &mut *orphans else { return };
            orphans.push(orphan);
            self.orphan_count.store(orphans.len(), Ordering::Release);
        }
        self.wake_waiters();
    }

    pub(crate) fn abandon_orphans(&self) {
        let orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(orphans);
    }

    fn wake_waiters(&self) {
        self.gate.wake_all();
        self.stripes.wake_all();
        self.oracle.wake_all();
    }

    // ---- State.

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        Ok(())
    }

    pub(crate) fn check_writable(
        &self,
        operation: &'static str,
        options: &WriteOptions,
    ) -> Result<()> {
        self.check_open(operation)?;
        self.capabilities.check_durability(operation, options.durability)?;
        self.poison.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(crate) fn poison(&self, error: &Error) {
        let _ = self.poison.set(error.clone().into_poison());
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The level of writes that recovery depends on: logged, if there is a log.
    pub(crate) fn logged(&self, at_least: Durability) -> WriteOptions {
        let level = at_least.max(Durability::Os).min(self.capabilities.strongest_durability);
        WriteOptions::with_durability(level).applied()
    }

    // ---- The inner engine.

    /// The newest versions of keys, and what to wait for before showing them.
    pub(crate) async fn read_heads(
        &self,
        targets: &[(u32, &[u8])],
        with_values: bool,
    ) -> Result<(Vec<Option<Head>>, CommitTicket)> {
        let mut heads: Vec<Option<Head>> = targets.iter().map(|_| None).collect();
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_unstable_by_key(|index| targets[*index].0);
        let mut ticket = CommitTicket::NONE;
        for group in order.chunk_by(|a, b| targets[*a].0 == targets[*b].0) {
            let keyspace = crate::directory::heads(targets[group[0]].0);
            let keys: Vec<&[u8]> = group.iter().map(|index| targets[*index].1).collect();
            let mut failed = None;
            let mut visit = |at: usize, entry: Entry<'_>| match Header::decode(entry.value) {
                Ok((header, _)) => {
                    let record = if with_values { entry.value.to_vec() } else { Vec::new() };
                    heads[group[at]] = Some(Head { header, record });
                }
                Err(error) => failed = Some(error.with_key(keys[at])),
            };
            let options = ReadOptions::APPLIED;
            let seen = self.inner.get_many_with(keyspace, &keys, &options, &mut visit).await?;
            if let Some(error) = failed {
                return Err(error);
            }
            ticket = ticket.join(seen.ticket);
        }
        Ok((heads, ticket))
    }

    /// Writes as little as the batch needs.
    pub(crate) async fn write_inner(
        &self,
        batch: &WriteBatch,
        options: &WriteOptions,
    ) -> Result<CommitTicket> {
        use ferrokit_engine::BatchOp;
        let mut ops = batch.iter();
        let written = match (ops.next(), ops.next()) {
            (None, _) => return Ok(CommitTicket::NONE),
            (Some(BatchOp::Put { keyspace, key, value, expire_at }), None) => {
                self.inner.put(keyspace, key, value, expire_at, options).await?
            }
            (Some(BatchOp::Delete { keyspace, key }), None) => {
                self.inner.delete(keyspace, key, options).await?
            }
            _ => self.inner.write(batch, options).await?,
        };
        Ok(written.ticket)
    }

    /// Waits for durability, if the caller wants to: what is left to wait for.
    pub(crate) async fn complete(
        &self,
        completion: Completion,
        ticket: CommitTicket,
    ) -> Result<CommitTicket> {
        if completion == Completion::Applied || ticket == CommitTicket::NONE {
            return Ok(ticket);
        }
        self.inner.committed(ticket).await?;
        Ok(CommitTicket::NONE)
    }

    /// Reserves timestamps in the inner engine. The first time it also stores the geometry and
    /// drops the versions of earlier runs, whose views are gone.
    pub(crate) async fn reserve(self: &Arc<Self>) -> Result<()> {
        let guard = self.stripes.lock(vec![self.stripes.meta()], || self.help()).await?;
        let Some(last) = self.oracle.reserve_from() else { return Ok(()) };
        if last.0 == u64::MAX {
            let message = "all timestamps are used up; copy the data into a new engine";
            return Err(Error::new(ErrorKind::OutOfSpace, "mvcc.reserve", message));
        }
        let core = Arc::clone(self);
        let reserve = async move {
            let end = Timestamp(last.0.saturating_add(RESERVED_TIMESTAMPS));
            let options = WriteOptions::with_durability(core.capabilities.strongest_durability);
            let mut batch = WriteBatch::new();
            if !core.is_started.load(Ordering::Acquire) {
                core.inner.clear_keyspace(HISTORY, &options).await?;
                core.directories.put_geometry(&mut batch);
            }
            let number = encode_meta(end.0);
            batch.put(META, &MetaKey::ReservedTimestamps.encode(), &number, None);
            core.inner.write(&batch, &options).await?;
            core.is_started.store(true, Ordering::Release);
            core.oracle.reserved(end);
            drop(guard);
            Ok(())
        };
        Driven::new(self, reserve).await
    }

    // ---- Expiry.

    /// A read found the newest version of a key to be a tombstone, or expired at `now`.
    pub(crate) fn found_dead(&self, slot: u32, key: &[u8], header: &Header) {
        // An expired version is still a value to the views of today.
        let mut from = header.timestamp;
        if !header.is_tombstone {
            from = Timestamp(self.oracle.last().0.saturating_add(1));
            let expire_at = header.expire_at.map_or(0, |at| at.0);
            self.expired_seen.fetch_max(expire_at, Ordering::AcqRel);
        }
        let timestamp = header.timestamp;
        self.garbage.add_head(DeadHead { from, timestamp, slot, key: key.to_vec() });
    }

    /// The time to store with a durable write, if a read has shown that it was reached.
    pub(crate) fn clock_to_store(&self, level: Durability) -> Option<UnixMillis> {
        let is_behind = || {
            self.expired_seen.load(Ordering::Acquire) > self.clock_stored.load(Ordering::Acquire)
        };
        (level >= Durability::Os && is_behind()).then(|| self.now())
    }

    pub(crate) fn clock_was_stored(&self, now: UnixMillis) {
        self.clock_stored.fetch_max(now.0, Ordering::AcqRel);
    }

    /// The slot of a keyspace, inside the gate.
    pub(crate) fn slot(&self, keyspace: KeyspaceId) -> Arc<Slot> {
        Arc::clone(self.directories.current().slot(keyspace))
    }
}

/// The wrapper's facts over the inner engine's.
fn capabilities(inner: &Capabilities, keyspaces: u32) -> Result<Capabilities> {
    let too_small =
        || Error::invalid("mvcc", "the inner engine's limits leave no room for headers");
    // What a batch has beside its longest value, in bounds, is for headers and the clock's entry.
    let batch = inner.max_batch_bytes;
    let spare = batch.saturating_sub(inner.max_value_bytes).clamp(batch / 8, batch / 2);
    let max_batch_ops =
        inner.max_batch_ops.saturating_sub(1).min((spare / HEADER_BYTES).saturating_sub(1));
    let max_batch_bytes = batch.saturating_sub((max_batch_ops + 1) * HEADER_BYTES);
    let max_key_bytes = inner.max_key_bytes.checked_sub(VERSION_KEY_BYTES).ok_or_else(too_small)?;
    let max_value_bytes = inner.max_value_bytes.checked_sub(HEADER_BYTES).ok_or_else(too_small)?;
    let max_value_bytes = max_value_bytes.min(max_batch_bytes);
    if max_batch_ops == 0 {
        return Err(too_small());
    }
    Ok(Capabilities {
        engine: "mvcc",
        ordered: false,
        snapshots: true,
        checkpoint: false,
        changes: false,
        transactions: Some(Isolation::Serializable),
        sequence_numbers: true,
        exact_len: false,
        max_key_bytes,
        max_value_bytes,
        max_batch_ops,
        max_batch_bytes,
        max_keyspaces: keyspaces,
        strongest_durability: inner.strongest_durability,
        tiers: inner.tiers,
        persistent_memory: inner.persistent_memory,
    })
}

/// Wakes every waiter of the wrapper: the waker of commits without a caller.
struct WakeWaiters(Weak<Core>);

impl Wake for WakeWaiters {
    fn wake(self: Arc<Self>) {
        if let Some(core) = self.0.upgrade() {
            core.wake_waiters();
        }
    }
}

/// A commit under way. If its caller drops it, whoever next waits for what it holds drives it on:
/// its locks are released only once the inner engine has answered.
pub(crate) struct Driven<T: Send + 'static> {
    core: Arc<Core>,
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

impl<T: Send + 'static> Driven<T> {
    pub(crate) fn new(core: &Arc<Core>, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { core: Arc::clone(core), future: Some(Box::pin(future)) }
    }
}

impl<T: Send + 'static> Future for Driven<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let result = future.as_mut().poll(cx);
        if result.is_ready() {
            self.future = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for Driven<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.core.adopt(Box::pin(async move {
                let _ = future.await;
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrokit_memory::{MemoryConfig, MemoryEngine};
    use ferrokit_storage::sim::SimMachine;

    #[test]
    fn the_last_timestamp_is_an_end() {
        let host = SimMachine::new(1).host();
        let inner = MemoryEngine::open(&host, MemoryConfig::default()).unwrap();
        let options = WriteOptions::with_durability(Durability::Memory);
        let mut batch = WriteBatch::new();
        batch.put(META, &MetaKey::ReservedTimestamps.encode(), &encode_meta(u64::MAX), None);
        inner.write(&batch, &options).wait().unwrap();
        let core = Core::open(inner, MvccOptions::default()).unwrap();
        let error = ferrokit_engine::block_on(core.reserve()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    }
}
