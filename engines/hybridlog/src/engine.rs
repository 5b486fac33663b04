//! [`HybridLogEngine`]: the contract over the `Store`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ferrokit_engine::{
    Capabilities, Changes, Checkpoint, CommitTicket, Completion, Durability, Entry, Error,
    ErrorKind, KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions, Result, Seen,
    Snapshots, Stats, SweepCursor, Swept, Transactions, UnixMillis, Update, WriteBatch,
    WriteOptions, Written,
};
use ferrokit_storage::{Host, JobHandle, Progress};

use crate::config::HybridLogConfig;
use crate::store::migrate::TierLimits;
use crate::store::{Intent, Outcome, Reading, Store, SweptBuckets};

/// A FASTER-style engine: a latch-free hash index over a record log that is updated in place.
///
/// Without a directory everything is in memory, all answers but those of long values are ready, and
/// nothing survives the process. With one, writes are as durable as is asked, and the data may outgrow the memory.
///
/// Dropping it without [`close`](KvEngine::close) is a crash of the process as far as durability
/// goes; its job ends either way.
pub struct HybridLogEngine {
    store: Arc<Store>,
    capabilities: Capabilities,
    closed: AtomicBool,
    /// The maintenance job; none once the engine is closed.
    maintenance: Mutex<Option<Arc<JobHandle>>>,
}

impl HybridLogEngine {
    /// Opens the engine in the configured directory, or begins one; without a directory, an empty
    /// engine. Blocks while it recovers.
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot work, `OutOfSpace` if the system has not the
    /// memory, `Locked` if it is open elsewhere, `Corruption` (with file and offset),
    /// `VersionTooNew`, `Io`.
    pub fn open(host: &Host, config: HybridLogConfig) -> Result<Arc<Self>> {
        config.check()?;
        let (store, config) = match config.directory.is_empty() {
            true => {
                let config = config.with_pages(None);
                (Store::new(&host.env, &config)?, config)
            }
            false => Store::open(host, &config)?,
        };
        let store = Arc::new(store);
        let maintained: Weak<Store> = Arc::downgrade(&store);
        let job = move || {
            let Some(store) = maintained.upgrade() else { return Progress::Finished };
            let maintained = if store.maintain() { Progress::More } else { Progress::Idle };
            match store.tend() {
                Progress::Idle => maintained,
                more => more,
            }
        };
        let maintenance =
            Arc::new(host.background.register("hybridlog-maintenance", Box::new(job))?);
        if let Some(tiers) = &store.tiers {
            tiers.set_job(Arc::downgrade(&maintenance));
        }
        Ok(Arc::new(Self {
            store,
            capabilities: capabilities(&config),
            closed: AtomicBool::new(false),
            maintenance: Mutex::new(Some(maintenance)),
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// How much may be in the tiers below memory; none without a directory.
    pub fn tier_limits(&self) -> Option<TierLimits> {
        self.store.tiers.as_ref().map(|tiers| tiers.migration.limits())
    }

    /// Changes how much may be in the tiers below memory. The engine begins at once to map, unmap and
    /// move segments accordingly; what is in the object tier stays there until it is compacted. The
    /// next opening begins with the configured limits again.
    ///
    /// # Errors
    /// `Unsupported` without a directory, `InvalidArgument` for a limit of the disk without an object
    /// tier, `Closed`.
    pub fn set_tier_limits(&self, limits: TierLimits) -> Result<()> {
        const OPERATION: &str = "set_tier_limits";
        self.check_open(OPERATION)?;
        let Some(tiers) = &self.store.tiers else {
            return Err(Error::unsupported(OPERATION, "everything is in memory"));
        };
        if limits.disk_bytes != u64::MAX && !tiers.has_objects() {
            return Err(Error::invalid(OPERATION, "disk_bytes: there is no object tier"));
        }
        tiers.migration.set_limits(limits);
        tiers.wake();
        Ok(())
    }

    #[inline]
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        Ok(())
    }

    fn check_read(&self, operation: &'static str, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.check_open(operation)?;
        self.capabilities.check_key(operation, keyspace, key)
    }

    fn check_write(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &WriteOptions,
    ) -> Result<()> {
        self.check_read(operation, keyspace, key)?;
        self.capabilities.check_durability(operation, options.durability)?;
        self.check_poison()
    }

    #[inline]
    fn check_poison(&self) -> Result<()> {
        self.store.tiers.as_ref().map_or(Ok(()), |tiers| tiers.check_poison())
    }

    /// Wakes the maintenance job if a write asked for it.
    #[inline]
    fn wake_maintenance(&self) {
        if self.store.take_maintenance_wanted()
            && let Some(job) = &*self.lock_maintenance()
        {
            job.wake();
        }
    }

    fn lock_maintenance(&self) -> MutexGuard<'_, Option<Arc<JobHandle>>> {
        self.maintenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report of a write, of which maintenance is told.
    #[inline]
    fn written<'a>(&'a self, outcome: Op<'a, Outcome>, options: &WriteOptions) -> Op<'a, Written> {
        match outcome {
            Op::Ready(outcome) => self.report(outcome, options),
            pending => {
                let options = *options;
                Op::pending(async move {
                    let outcome = pending.await;
                    self.report(outcome, &options).await
                })
            }
        }
    }

    #[inline]
    fn report(&self, outcome: Result<Outcome>, options: &WriteOptions) -> Op<'_, Written> {
        self.wake_maintenance();
        let Outcome { existed, ticket } = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Op::err(error),
        };
        let existed = options.report_existed.then_some(existed);
        let Some(journal) = self.store.journal() else {
            return Op::ok(Written { existed, sequence: None, ticket: CommitTicket::NONE });
        };
        if journal.makes_checkpoint_due(ticket)
            && let Some(tiers) = &self.store.tiers
        {
            tiers.wake();
        }
        self.completed(options.completion, ticket, move |ticket| Written {
            existed,
            sequence: None,
            ticket,
        })
    }

    /// The answer of an operation that saw what `ticket` covers.
    #[inline]
    fn completed<'a, T: Send + 'a>(
        &self,
        completion: Completion,
        ticket: CommitTicket,
        make: impl FnOnce(CommitTicket) -> T,
    ) -> Op<'a, T> {
        let Some(journal) = self.store.journal().filter(|_| ticket != CommitTicket::NONE) else {
            return Op::ok(make(CommitTicket::NONE));
        };
        if completion == Completion::Applied {
            return Op::ok(make(ticket));
        }
        let value = make(CommitTicket::NONE);
        match journal.log().committed(ticket) {
            Op::Ready(Ok(())) => Op::ok(value),
            Op::Ready(Err(error)) => Op::err(error),
            pending => pending.map(|()| value),
        }
    }

    /// Runs a write once the log has room for it.
    #[inline]
    fn with_room<'a>(
        &'a self,
        durability: Durability,
        write: impl FnOnce() -> Op<'a, Outcome> + Send + 'a,
    ) -> Op<'a, Outcome> {
        let room = match self.store.journal() {
            Some(journal) if journal.logs(durability) => journal.log().room(),
            _ => return write(),
        };
        match room {
            Op::Ready(Ok(())) => write(),
            Op::Ready(Err(error)) => Op::err(error),
            pending => Op::pending(async move {
                pending.await?;
                write().await
            }),
        }
    }

    /// The answer of a read.
    #[inline]
    fn seen<'a>(&'a self, reading: Op<'a, Reading>, options: &ReadOptions) -> Op<'a, Seen> {
        let completion = options.completion;
        let answer = move |reading: Reading| {
            let found = reading.found;
            self.completed(completion, reading.ticket, move |ticket| Seen { found, ticket })
        };
        match reading {
            Op::Ready(Ok(reading)) => answer(reading),
            Op::Ready(Err(error)) => Op::err(error),
            pending => Op::pending(async move { answer(pending.await?).await }),
        }
    }
}

impl Drop for HybridLogEngine {
    fn drop(&mut self) {
        // Stops the job: after a step that is under way it touches nothing any more.
        if let Some(job) = self.lock_maintenance().take() {
            job.stop();
        }
    }
}

fn capabilities(config: &HybridLogConfig) -> Capabilities {
    let is_durable = !config.directory.is_empty();
    Capabilities {
        engine: "hybridlog",
        ordered: false,
        snapshots: false,
        checkpoint: is_durable,
        changes: is_durable,
        transactions: None,
        sequence_numbers: false,
        exact_len: !is_durable,
        max_key_bytes: config.max_key_bytes(),
        max_value_bytes: config.max_value_bytes(),
        max_batch_ops: config.max_batch_ops(),
        max_batch_bytes: config.max_batch_bytes(),
        max_keyspaces: config.keyspaces,
        strongest_durability: if is_durable { Durability::Synced } else { Durability::Memory },
        tiers: config.tiers(),
        persistent_memory: false,
    }
}

impl KvRead for HybridLogEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        match self.check_read("get", keyspace, key) {
            Ok(()) => self.seen(self.store.get(keyspace, key, visit), options),
            Err(error) => Op::err(error),
        }
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = self
            .check_open("get_many")
            .and_then(|()| self.capabilities.check_keyspace("get_many", keyspace))
            .and_then(|()| {
                keys.iter()
                    .try_for_each(|key| self.capabilities.check_key("get_many", keyspace, key))
            });
        match checked {
            Ok(()) => self.seen(self.store.get_many(keyspace, keys, visit), options),
            Err(error) => Op::err(error),
        }
    }

    fn prefetch(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> bool {
        self.store.prefetch(keyspace, keys);
        true
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let cursor = self
            .check_open("sweep")
            .and_then(|()| self.capabilities.check_keyspace("sweep", keyspace))
            .and_then(|()| decode_cursor(cursor));
        let cursor = match cursor {
            Ok(cursor) => cursor,
            Err(error) => return Op::err(error),
        };
        let completion = options.completion;
        let answer = move |swept: SweptBuckets| {
            let (next, visited) = (swept.next.map(encode_cursor), swept.visited);
            self.completed(completion, swept.ticket, |ticket| Swept { next, visited, ticket })
        };
        match self.store.sweep(keyspace, cursor, budget, visit) {
            Op::Ready(Ok(swept)) => answer(swept),
            Op::Ready(Err(error)) => Op::err(error),
            pending => Op::pending(async move { answer(pending.await?).await }),
        }
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

impl KvEngine for HybridLogEngine {
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
            .and_then(|()| self.capabilities.check_value("put", key, value));
        if let Err(error) = checked {
            return Op::err(error);
        }
        let intent = intent("put", keyspace, key, options);
        let put = move || self.store.put(intent, value, expire_at);
        self.written(self.with_room(options.durability, put), options)
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        if let Err(error) = self.check_write("delete", keyspace, key, options) {
            return Op::err(error);
        }
        let intent = intent("delete", keyspace, key, options);
        let delete = move || self.store.delete(intent);
        self.written(self.with_room(options.durability, delete), options)
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        if let Err(error) = self.check_write("update", keyspace, key, options) {
            return Op::err(error);
        }
        let options = &options.reporting_existed();
        let limit = self.capabilities.max_value_bytes;
        let intent = intent("update", keyspace, key, options);
        let durability = options.durability;
        let update = self.with_room(durability, move || self.store.update(intent, limit, change));
        self.written(update, options)
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        let checked = self
            .check_open("write")
            .and_then(|()| self.capabilities.check_durability("write", options.durability))
            .and_then(|()| self.capabilities.check_batch("write", batch))
            .and_then(|()| self.check_poison());
        if let Err(error) = checked {
            return Op::err(error);
        }
        let (durability, reports_existed) = (options.durability, options.report_existed);
        let write = move || self.store.write(batch, durability, reports_existed);
        self.written(self.with_room(durability, write), options)
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        if let Err(error) = self.check_open("committed") {
            return Op::err(error);
        }
        match self.store.journal() {
            _ if ticket == CommitTicket::NONE => Op::ok(()),
            Some(journal) => journal.log().committed(ticket),
            None => Op::err(Error::invalid(
                "committed",
                "the ticket is another engine's: this has no log",
            )),
        }
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        let checked = self
            .check_open("sync")
            .and_then(|()| self.capabilities.check_durability("sync", level))
            .and_then(|()| self.check_poison());
        match (checked, self.store.journal()) {
            (Err(error), _) => Op::err(error),
            (Ok(()), Some(journal)) => journal.log().sync(level),
            (Ok(()), None) => Op::ok(()),
        }
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        if let Err(error) = self.check_write("clear_keyspace", keyspace, b"", options) {
            return Op::err(error);
        }
        let durability = options.durability;
        let clear = move || exchanged(self.store.clear_keyspace(keyspace, durability));
        self.written(self.with_room(durability, clear), options)
            .map(|written| Written { existed: None, ..written })
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        let checked = self
            .check_write("swap_keyspaces", a, b"", options)
            .and_then(|()| self.capabilities.check_keyspace("swap_keyspaces", b));
        if let Err(error) = checked {
            return Op::err(error);
        }
        let durability = options.durability;
        let swap = move || exchanged(self.store.swap_keyspaces(a, b, durability));
        self.written(self.with_room(durability, swap), options)
            .map(|written| Written { existed: None, ..written })
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        let checked = self
            .check_open("keyspace_len")
            .and_then(|()| self.capabilities.check_keyspace("keyspace_len", keyspace));
        if let Err(error) = checked {
            return Op::err(error);
        }
        let exact = self.capabilities.exact_len;
        let answer = move |(entries, ticket): (u64, CommitTicket)| {
            self.completed(Completion::Durable, ticket, move |_| KeyspaceLen { entries, exact })
        };
        match self.store.keyspace_entries(keyspace) {
            Op::Ready(Ok(entries)) => answer(entries),
            Op::Ready(Err(error)) => Op::err(error),
            pending => Op::pending(async move { answer(pending.await?).await }),
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }

    fn close(&self) -> Op<'_, ()> {
        self.closed.store(true, Ordering::Release);
        let Some(tiers) = &self.store.tiers else {
            // Dropping the handle stops the job.
            drop(self.lock_maintenance().take());
            return Op::ok(());
        };
        Op::pending(async move {
            // Whoever comes while another closes, or after one who went away, does what is left.
            let checkpointed = match tiers.is_closed() {
                true => Ok(()),
                // So that the next opening has nothing to replay; without it, it has.
                false => self.store.checkpointed().await,
            };
            let job = self.lock_maintenance().take();
            if let Some(job) = job {
                job.stop();
            }
            tiers.close();
            // What was promised holds by the log alone.
            if let Err(error) = checkpointed
                && error.kind() != ErrorKind::Closed
            {
                tracing::warn!(%error, "closed without a last checkpoint");
            }
            let closed = match self.store.journal().filter(|_| !tiers.is_released()) {
                Some(journal) => journal.log().close().await,
                None => Ok(()),
            };
            tiers.release_directory();
            closed
        })
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        self.capabilities.checkpoint.then_some(self)
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        self.capabilities.changes.then_some(self)
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        None
    }
}

fn intent<'a>(
    operation: &'static str,
    keyspace: KeyspaceId,
    key: &'a [u8],
    options: &WriteOptions,
) -> Intent<'a> {
    let (durability, reports_existed) = (options.durability, options.report_existed);
    Intent { operation, keyspace, key, durability, reports_existed }
}

/// What an exchange of keyspaces did.
fn exchanged<'a>(ticket: Result<CommitTicket>) -> Op<'a, Outcome> {
    Op::Ready(ticket.map(|ticket| Outcome { existed: false, ticket }))
}

/// The first byte of a cursor: its format.
const CURSOR_FORMAT: u8 = 1;

fn encode_cursor(cursor: u32) -> SweepCursor {
    let [a, b, c, d] = cursor.to_le_bytes();
    SweepCursor::from_bytes(&[CURSOR_FORMAT, a, b, c, d])
}

fn decode_cursor(cursor: &SweepCursor) -> Result<u32> {
    match *cursor.as_bytes() {
        [] => Ok(0),
        [CURSOR_FORMAT, a, b, c, d] => Ok(u32::from_le_bytes([a, b, c, d])),
        _ => Err(Error::invalid("sweep", "the cursor is not one of this engine")),
    }
}
