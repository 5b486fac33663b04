//! [`DashEngine`]: the contract over the core.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ferrokit_engine::{
    Capabilities, Changes, Checkpoint, CommitTicket, Durability, Entry, Error, ErrorKind,
    ExpiryClock, KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions, Result, Seen,
    Snapshots, Stats, SweepCursor, Swept, Tier, Transactions, UnixMillis, Update, WriteBatch,
    WriteOptions, Written,
};
use ferrokit_storage::pmem::EmulatedProvider;
use ferrokit_storage::{Host, PmemProvider, PmemRegion};

use crate::config::DashConfig;
use crate::core::{Assign, Core};
use crate::hash::KeyHash;
use crate::keyspaces::{KEYSPACES, Keyspaces};
use crate::purger::{self, PurgeQueue};
use crate::record::RecordView;
use crate::table::Table;
use crate::table::layout::NORMAL_BUCKETS;
use crate::table::modify::{Action, Change};

/// The longest key: its length has 16 bits in the record.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// The longest value.
const VALUE_BYTES_MAX: usize = 64 << 20;
/// The most writes of a batch, each of which holds two latches.
const BATCH_OPS_MAX: usize = 1 << 16;
/// The most bytes of a batch.
const BATCH_BYTES_MAX: usize = 256 << 20;
/// Home buckets that a sweep step looks into at most, however few entries they hold.
const SWEEP_HOMES_MAX: usize = 4096;
/// The part of all hashes that a sweep step covers at least (one in 2^18), so that a sweep ends
/// however fast the table grows.
const SWEEP_HASHES_MIN: u64 = 1 << 46;
/// A sweep cursor: the segment's first hash (8 bytes) and the home bucket (1 byte).
const CURSOR_BYTES: usize = 9;

/// The Dash hash table as a storage engine.
///
/// Every operation is ready at once. Data lives in memory written back as persistent memory is;
/// the engine promises [`Durability::Memory`].
pub struct DashEngine {
    core: Arc<Core>,
}

impl DashEngine {
    /// Opens an empty engine in emulated persistent memory.
    ///
    /// # Errors
    /// `InvalidArgument` for impossible options, `Io` if there is no memory or no thread.
    pub fn open(host: &Host, config: DashConfig) -> Result<Arc<Self>> {
        Self::open_on(host, config, &EmulatedProvider)
    }

    /// Opens an empty engine in a new region of `provider`.
    ///
    /// # Errors
    /// As [`open`](Self::open); those of the provider; `Unsupported` if the region has a table
    /// already: its keyspaces would be lost; `Corruption` or `VersionTooNew` if it has one that
    /// cannot be read.
    pub fn open_on(
        host: &Host,
        config: DashConfig,
        provider: &dyn PmemProvider,
    ) -> Result<Arc<Self>> {
        config.check()?;
        let region = PmemRegion::new(provider.open("table.dash", config.capacity_bytes)?);
        match Table::recover(region.clone()) {
            Ok(table) => {
                return Err(Error::unsupported(
                    "dash.open",
                    format!("the region holds a table of {} segments already", table.segments()),
                ));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // One that is damaged, or newer than this code, is somebody's data all the same.
            Err(error) => return Err(error),
        }
        let core = Arc::new(Core {
            table: Table::format(region, host.env.random.next_u64())?,
            keyspaces: Keyspaces::new(),
            clock: ExpiryClock::new(Arc::clone(&host.env.clock), UnixMillis(0)),
            queue: PurgeQueue::default(),
            capabilities: capabilities(),
            closed: false.into(),
        });
        let weak: Weak<Core> = Arc::downgrade(&core);
        let job = host.background.register("dash-purge", Box::new(move || purger::step(&weak)))?;
        core.queue.attach(job);
        Ok(Arc::new(Self { core }))
    }

    fn check_read(&self, operation: &'static str, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.core.check_open(operation)?;
        self.core.capabilities.check_key(operation, keyspace, key)
    }

    fn check_write(&self, operation: &'static str, options: &WriteOptions) -> Result<()> {
        self.core.check_open(operation)?;
        self.core.capabilities.check_durability(operation, options.durability)
    }

    fn assign(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        put: Option<(&[u8], Option<UnixMillis>)>,
        options: &WriteOptions,
    ) -> Result<Written> {
        let now = self.core.clock.now();
        let put = put.filter(|(_, expire_at)| !Entry::is_expired_at(*expire_at, now));
        let action = put.map_or(Action::Remove, |(_, expire_at)| Action::Put { expire_at });
        let value = put.map_or(&[][..], |(value, _)| value);
        let mut change = Assign { action, value, now, existed: false };
        self.core.change(keyspace, key, put, &mut change).map_err(|error| error.with_key(key))?;
        let existed = options.report_existed.then_some(change.existed);
        Ok(Written { existed, ..Written::default() })
    }
}

impl Drop for DashEngine {
    fn drop(&mut self) {
        self.core.queue.stop();
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        engine: "dash",
        ordered: false,
        snapshots: false,
        checkpoint: false,
        changes: false,
        transactions: None,
        sequence_numbers: false,
        exact_len: true,
        max_key_bytes: KEY_BYTES_MAX,
        max_value_bytes: VALUE_BYTES_MAX,
        max_batch_ops: BATCH_OPS_MAX,
        max_batch_bytes: BATCH_BYTES_MAX,
        max_keyspaces: KEYSPACES,
        strongest_durability: Durability::Memory,
        tiers: &[Tier::Pmem],
        persistent_memory: false,
    }
}

/// Turns checks and a computation into a ready answer.
fn ready<'a, T>(check: Result<()>, run: impl FnOnce() -> Result<T>) -> Op<'a, T> {
    Op::Ready(check.and_then(|()| run()))
}

impl KvRead for DashEngine {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        ready(self.check_read("get", keyspace, key), || {
            let found = self.core.get(keyspace, key, visit);
            Ok(Seen { found: usize::from(found), ..Seen::default() })
        })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let check = self
            .core
            .check_open("get_many")
            .and_then(|()| self.core.capabilities.check_keyspace("get_many", keyspace))
            .and_then(|()| {
                let mut keys = keys.iter();
                keys.try_for_each(|key| self.check_read("get_many", keyspace, key))
            });
        ready(check, || {
            let found = self.core.get_many(keyspace, keys, visit);
            Ok(Seen { found, ..Seen::default() })
        })
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let check = self
            .core
            .check_open("sweep")
            .and_then(|()| self.core.capabilities.check_keyspace("sweep", keyspace));
        ready(check, || {
            let (mut hash, mut home) = parse_cursor(cursor)?;
            let (mut visited, mut covered) = (0, 0_u64);
            for _ in 0..budget.clamp(NORMAL_BUCKETS, SWEEP_HOMES_MAX) {
                let (count, identity) = self.core.sweep_home(keyspace, hash, home, visit);
                visited += count;
                covered = covered.saturating_add(identity.hashes_per_home());
                home += 1;
                if home == NORMAL_BUCKETS {
                    // What a split moved to this segment's upper neighbour is swept there, from
                    // its first bucket.
                    home = 0;
                    match identity.next_hash() {
                        Some(next) => hash = next,
                        None => return Ok(Swept { next: None, visited, ..Swept::default() }),
                    }
                }
                if visited >= budget.max(1) && covered >= SWEEP_HASHES_MIN {
                    break;
                }
            }
            let next = Some(make_cursor(hash, home));
            Ok(Swept { next, visited, ..Swept::default() })
        })
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

impl KvEngine for DashEngine {
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let check = self
            .check_write("put", options)
            .and_then(|()| self.core.capabilities.check_key("put", keyspace, key))
            .and_then(|()| self.core.capabilities.check_value("put", key, value));
        ready(check, || self.assign(keyspace, key, Some((value, expire_at)), options))
    }

    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        let check = self
            .check_write("delete", options)
            .and_then(|()| self.core.capabilities.check_key("delete", keyspace, key));
        ready(check, || self.assign(keyspace, key, None, options))
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        let check = self
            .check_write("update", options)
            .and_then(|()| self.core.capabilities.check_key("update", keyspace, key));
        ready(check, || {
            let mut change = UpdateChange {
                change,
                now: self.core.clock.now(),
                capabilities: &self.core.capabilities,
                key,
                scratch: Vec::new(),
                existed: false,
                refused: Ok(()),
            };
            self.core
                .change(keyspace, key, None, &mut change)
                .map_err(|error| error.with_key(key))?;
            change.refused?;
            Ok(Written { existed: Some(change.existed), ..Written::default() })
        })
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        let check = self
            .check_write("write", options)
            .and_then(|()| self.core.capabilities.check_batch("write", batch));
        ready(check, || {
            if !batch.is_empty() {
                self.core.write(batch)?;
            }
            Ok(Written::default())
        })
    }

    fn committed(&self, _ticket: CommitTicket) -> Op<'_, ()> {
        ready(self.core.check_open("committed"), || Ok(()))
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        let check = self
            .core
            .check_open("sync")
            .and_then(|()| self.core.capabilities.check_durability("sync", level));
        ready(check, || Ok(()))
    }

    fn clear_keyspace(&self, keyspace: KeyspaceId, options: &WriteOptions) -> Op<'_, Written> {
        let check = self
            .check_write("clear_keyspace", options)
            .and_then(|()| self.core.capabilities.check_keyspace("clear_keyspace", keyspace));
        ready(check, || {
            let entries = self.core.keyspaces.clear(keyspace);
            if entries > 0 {
                self.core.queue.start_pass();
            }
            let existed = options.report_existed.then_some(entries > 0);
            Ok(Written { existed, ..Written::default() })
        })
    }

    fn swap_keyspaces(
        &self,
        a: KeyspaceId,
        b: KeyspaceId,
        options: &WriteOptions,
    ) -> Op<'_, Written> {
        let check = self
            .check_write("swap_keyspaces", options)
            .and_then(|()| self.core.capabilities.check_keyspace("swap_keyspaces", a))
            .and_then(|()| self.core.capabilities.check_keyspace("swap_keyspaces", b));
        ready(check, || {
            self.core.keyspaces.swap(a, b);
            Ok(Written::default())
        })
    }

    fn keyspace_len(&self, keyspace: KeyspaceId) -> Op<'_, KeyspaceLen> {
        let check = self
            .core
            .check_open("keyspace_len")
            .and_then(|()| self.core.capabilities.check_keyspace("keyspace_len", keyspace));
        ready(check, || {
            let entries = self.core.keyspaces.len(keyspace);
            Ok(KeyspaceLen { entries, exact: true })
        })
    }

    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn stats(&self) -> Stats {
        let table = &self.core.table;
        let mut stats = Stats::new();
        stats
            .push("segments", table.segments())
            .push("directory_depth_bits", u64::from(table.directory_depth()))
            .push("data_bytes", table.taken_bytes())
            .push("region_taken_bytes", table.taken_bytes())
            .push("read_retries", table.read_retries());
        stats
    }

    fn close(&self) -> Op<'_, ()> {
        if !self.core.closed.swap(true, Ordering::AcqRel) {
            self.core.queue.stop();
        }
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

/// A caller's read-modify-write.
struct UpdateChange<'a> {
    change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    now: UnixMillis,
    capabilities: &'a Capabilities,
    key: &'a [u8],
    scratch: Vec<u8>,
    existed: bool,
    refused: Result<()>,
}

impl Change for UpdateChange<'_> {
    fn decide(&mut self, current: Option<&RecordView<'_>>) -> Action {
        let current = current.filter(|view| !Entry::is_expired_at(view.header.expire_at, self.now));
        self.existed = current.is_some();
        self.scratch.clear();
        match (self.change)(current.map(RecordView::entry), &mut self.scratch) {
            Update::Keep => Action::Keep,
            Update::Delete => Action::Remove,
            Update::Put { expire_at } if Entry::is_expired_at(expire_at, self.now) => {
                Action::Remove
            }
            Update::Put { expire_at } => {
                self.refused = self.capabilities.check_value("update", self.key, &self.scratch);
                if self.refused.is_ok() { Action::Put { expire_at } } else { Action::Keep }
            }
        }
    }

    fn value(&self) -> &[u8] {
        &self.scratch
    }
}

fn make_cursor(hash: KeyHash, home: usize) -> SweepCursor {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&hash.0.to_le_bytes());
    bytes[8] = home as u8;
    SweepCursor::from_bytes(&bytes)
}

fn parse_cursor(cursor: &SweepCursor) -> Result<(KeyHash, usize)> {
    if cursor.is_start() {
        return Ok((KeyHash(0), 0));
    }
    match cursor.as_bytes().split_first_chunk::<8>() {
        Some((hash, [home])) if usize::from(*home) < NORMAL_BUCKETS => {
            Ok((KeyHash(u64::from_le_bytes(*hash)), usize::from(*home)))
        }
        _ => Err(Error::invalid("sweep", "not a cursor of this engine")),
    }
}
