//! [`HybridLogEngine`]: the contract over the `Store`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferrokit_engine::{
    Capabilities, Changes, Checkpoint, CommitTicket, Durability, Entry, Error, ErrorKind,
    KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions, Result, Seen, Snapshots,
    Stats, SweepCursor, Swept, Tier, Transactions, UnixMillis, Update, WriteBatch, WriteOptions,
    Written,
};
use ferrokit_storage::{Host, JobHandle, Progress};

use crate::config::HybridLogConfig;
use crate::store::Store;

/// A FASTER-style engine in memory: a latch-free hash index over a record log that is updated in
/// place. All answers are ready; nothing survives the process.
pub struct HybridLogEngine {
    store: Arc<Store>,
    capabilities: Capabilities,
    closed: AtomicBool,
    /// The maintenance job; none once the engine is closed.
    maintenance: Mutex<Option<JobHandle>>,
}

impl HybridLogEngine {
    /// Opens an empty engine.
    ///
    /// # Errors
    /// `InvalidArgument` for sizes out of range, `OutOfSpace` if the system has not the memory, `Io`
    /// if it has no thread for maintenance.
    pub fn open(host: &Host, config: HybridLogConfig) -> Result<Arc<Self>> {
        config.check()?;
        let store = Arc::new(Store::new(&host.env, &config)?);
        let maintained: Weak<Store> = Arc::downgrade(&store);
        let job = move || match maintained.upgrade() {
            None => Progress::Finished,
            Some(store) if store.maintain() => Progress::More,
            Some(_) => Progress::Idle,
        };
        let maintenance = host.background.register("hybridlog-maintenance", Box::new(job))?;
        Ok(Arc::new(Self {
            store,
            capabilities: capabilities(&config),
            closed: AtomicBool::new(false),
            maintenance: Mutex::new(Some(maintenance)),
        }))
    }

    #[inline]
    fn check_open(&self, operation: &'static str) -> Result<()> {
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
        self.capabilities.check_durability(operation, options.durability)
    }

    /// Wakes the maintenance job if a write asked for it.
    #[inline]
    fn wake_maintenance(&self) {
        if self.store.take_maintenance_wanted()
            && let Some(job) = &*self.maintenance.lock().unwrap_or_else(PoisonError::into_inner)
        {
            job.wake();
        }
    }

    /// The report of a write, of which maintenance is told.
    #[inline]
    fn written(&self, existed: Result<bool>, options: &WriteOptions) -> Result<Written> {
        self.wake_maintenance();
        let existed = options.report_existed.then_some(existed?);
        Ok(Written { existed, sequence: None, ticket: CommitTicket::NONE })
    }
}

fn capabilities(config: &HybridLogConfig) -> Capabilities {
    Capabilities {
        engine: "hybridlog",
        ordered: false,
        snapshots: false,
        checkpoint: false,
        changes: false,
        transactions: None,
        sequence_numbers: false,
        exact_len: true,
        max_key_bytes: config.max_key_bytes(),
        max_value_bytes: config.max_value_bytes(),
        max_batch_ops: config.max_batch_ops(),
        max_batch_bytes: config.max_batch_bytes(),
        max_keyspaces: config.keyspaces,
        strongest_durability: Durability::Memory,
        tiers: &[Tier::Memory],
        persistent_memory: false,
    }
}

impl KvRead for HybridLogEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let read = self
            .check_read("get", keyspace, key)
            .and_then(|()| self.store.get(keyspace, key, visit));
        Op::Ready(read.map(|found| Seen { found: usize::from(found), ticket: CommitTicket::NONE }))
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let read = self
            .check_open("get_many")
            .and_then(|()| self.capabilities.check_keyspace("get_many", keyspace))
            .and_then(|()| {
                keys.iter()
                    .try_for_each(|key| self.capabilities.check_key("get_many", keyspace, key))
            })
            .and_then(|()| self.store.get_many(keyspace, keys, visit));
        Op::Ready(read.map(|found| Seen { found, ticket: CommitTicket::NONE }))
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let swept = self
            .check_open("sweep")
            .and_then(|()| self.capabilities.check_keyspace("sweep", keyspace))
            .and_then(|()| decode_cursor(cursor))
            .and_then(|cursor| self.store.sweep(keyspace, cursor, budget, visit));
        Op::Ready(swept.map(|swept| Swept {
            next: swept.next.map(encode_cursor),
            visited: swept.visited,
            ticket: CommitTicket::NONE,
        }))
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
        let existed = checked.and_then(|()| self.store.put(keyspace, key, value, expire_at));
        Op::Ready(self.written(existed, options))
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let existed = self
            .check_write("delete", keyspace, key, options)
            .and_then(|()| self.store.delete(keyspace, key));
        Op::Ready(self.written(existed, options))
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        let limit = self.capabilities.max_value_bytes;
        let existed = self
            .check_write("update", keyspace, key, options)
            .and_then(|()| self.store.update(keyspace, key, limit, change));
        Op::Ready(self.written(existed, &options.reporting_existed()))
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        let existed = self
            .check_open("write")
            .and_then(|()| self.capabilities.check_durability("write", options.durability))
            .and_then(|()| self.capabilities.check_batch("write", batch))
            .and_then(|()| self.store.write(batch));
        Op::Ready(self.written(existed, options))
    }

    fn committed(&self, ticket: CommitTicket) -> Op<'_, ()> {
        Op::Ready(self.check_open("committed").and_then(|()| {
            if ticket == CommitTicket::NONE {
                return Ok(());
            }
            Err(Error::invalid("committed", "the ticket is another engine's: this has no log"))
        }))
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        Op::Ready(
            self.check_open("sync")
                .and_then(|()| self.capabilities.check_durability("sync", level)),
        )
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        let cleared = self
            .check_write("clear_keyspace", keyspace, b"", options)
            .and_then(|()| self.store.clear_keyspace(keyspace));
        self.wake_maintenance();
        Op::Ready(cleared.map(|()| Written::default()))
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        let swapped = self
            .check_write("swap_keyspaces", a, b"", options)
            .and_then(|()| self.capabilities.check_keyspace("swap_keyspaces", b))
            .and_then(|()| self.store.swap_keyspaces(a, b));
        Op::Ready(swapped.map(|()| Written::default()))
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        let entries = self
            .check_open("keyspace_len")
            .and_then(|()| self.capabilities.check_keyspace("keyspace_len", keyspace))
            .and_then(|()| self.store.keyspace_entries(keyspace));
        Op::Ready(entries.map(|entries| KeyspaceLen { entries, exact: true }))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }

    fn close(&self) -> Op<'_, ()> {
        self.closed.store(true, Ordering::Release);
        let job = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping the handle stops the job.
        drop(job);
        Op::ok(())
    }

    fn as_snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    fn as_checkpoint(&self) -> Option<&dyn Checkpoint> {
        None
    }

    fn as_changes(&self) -> Option<&dyn Changes> {
        None
    }

    fn as_transactions(&self) -> Option<&dyn Transactions> {
        None
    }
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
