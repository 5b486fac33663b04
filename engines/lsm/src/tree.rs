//! [`Tree`]: the state all parts of the engine share.
//!
//! Lock order: `manifest`, then `writer`, then the short inner locks (snapshot registry, expiry
//! queue, notifications, the log's own), which take no other.
//!
//! A write, under `writer`: append to the log, note the commit ticket, insert into the memtable,
//! publish the sequence. It takes effect there; that it is durable is awaited outside the lock.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use ferrokit_engine::{
    Capabilities, CommitTicket, Error, ErrorKind, ExpiryClock, Result, Sequence, UnixMillis,
};
use ferrokit_storage::{CommitGate, DirLock, Host, Log, Notify};

use crate::cache::BlockCache;
use crate::checkpoint::CheckpointQueue;
use crate::config::LsmConfig;
use crate::expiry::ExpiryQueue;
use crate::jobs::Jobs;
use crate::key::{PhysicalKeyspace, stored_key};
use crate::memtable::{Kind, Memtable};
use crate::snapshot::SnapshotRegistry;
use crate::sst::Garbage;
use crate::sst::filter::filter_hash;
use crate::stats::Counters;
use crate::version::{Manifest, SealedMemtable, View};
use crate::wal::{self, LogChange};

/// What the write lock guards.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) last_sequence: u64,
    /// The encoded record of the write under way.
    record: Vec<u8>,
    /// The new value of the update under way.
    pub(crate) scratch: Vec<u8>,
    /// Entries by physical keyspace, where they are counted.
    pub(crate) counts: Option<std::collections::HashMap<PhysicalKeyspace, u64>>,
}

impl Writer {
    pub(crate) fn new(last_sequence: u64) -> Self {
        Self { last_sequence, record: Vec::new(), scratch: Vec::new(), counts: None }
    }

    /// Counts an entry that came (`1`) or went (`-1`).
    pub(crate) fn count(&mut self, keyspace: PhysicalKeyspace, change: i64) {
        if let Some(counts) = &mut self.counts {
            let count = counts.entry(keyspace).or_default();
            *count = count.saturating_add_signed(change);
        }
    }
}

pub(crate) struct Tree {
    pub(crate) config: LsmConfig,
    pub(crate) capabilities: Capabilities,
    pub(crate) host: Host,
    pub(crate) log: Arc<Log>,
    pub(crate) gate: CommitGate,
    pub(crate) clock: ExpiryClock,
    pub(crate) view: ArcSwap<View>,
    /// The sequence up to which writes are visible.
    pub(crate) visible: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) cache: BlockCache,
    pub(crate) garbage: Arc<Garbage>,
    pub(crate) snapshots: SnapshotRegistry,
    pub(crate) expiry: ExpiryQueue,
    pub(crate) checkpoints: CheckpointQueue,
    pub(crate) next_table_id: AtomicU64,
    /// Open change feeds: while there are any, every write enters the log.
    pub(crate) feeds: AtomicUsize,
    pub(crate) jobs: Jobs,
    /// Something writers, closers or checkpoints wait for has changed.
    pub(crate) progress: Notify,
    pub(crate) is_closed: AtomicBool,
    /// The failure after which nothing may become durable any more.
    poison: OnceLock<Error>,
    /// The failure that keeps flushes or compactions from going on; they try again.
    background_error: Mutex<Option<Error>>,
    pub(crate) directory_lock: Mutex<Option<Box<dyn DirLock>>>,
    pub(crate) counters: Counters,
}

/// Everything a [`Tree`] is put together from.
pub(crate) struct TreeParts {
    pub(crate) config: LsmConfig,
    pub(crate) capabilities: Capabilities,
    pub(crate) host: Host,
    pub(crate) log: Arc<Log>,
    pub(crate) clock: ExpiryClock,
    pub(crate) view: View,
    pub(crate) writer: Writer,
    pub(crate) manifest: Manifest,
    pub(crate) garbage: Arc<Garbage>,
    pub(crate) next_table_id: u64,
    pub(crate) directory_lock: Box<dyn DirLock>,
}

impl Tree {
    pub(crate) fn new(parts: TreeParts) -> Self {
        Self {
            gate: CommitGate::new(),
            view: ArcSwap::from_pointee(parts.view),
            visible: AtomicU64::new(parts.writer.last_sequence),
            writer: Mutex::new(parts.writer),
            manifest: Mutex::new(parts.manifest),
            cache: BlockCache::new(parts.config.cache_bytes),
            garbage: parts.garbage,
            snapshots: SnapshotRegistry::default(),
            expiry: ExpiryQueue::default(),
            checkpoints: CheckpointQueue::default(),
            next_table_id: AtomicU64::new(parts.next_table_id),
            feeds: AtomicUsize::new(0),
            jobs: Jobs::default(),
            progress: Notify::default(),
            is_closed: AtomicBool::new(false),
            poison: OnceLock::new(),
            background_error: Mutex::new(None),
            directory_lock: Mutex::new(Some(parts.directory_lock)),
            counters: Counters::default(),
            config: parts.config,
            capabilities: parts.capabilities,
            host: parts.host,
            log: parts.log,
            clock: parts.clock,
        }
    }

    /// Lets others open the directory.
    pub(crate) fn release_directory(&self) {
        *self.directory_lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the directory was released already.
    pub(crate) fn is_released(&self) -> bool {
        self.directory_lock.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses operations on a closed engine.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        Ok(())
    }

    /// The failure after which nothing may become durable any more.
    pub(crate) fn poison(&self) -> Option<Error> {
        self.poison.get().cloned().or_else(|| self.log.poison())
    }

    /// Ends all writing: what the manifest says on the device is unknown.
    pub(crate) fn set_poison(&self, error: Error) -> Error {
        let poison = self.poison.get_or_init(|| error.into_poison()).clone();
        self.progress.notify();
        poison
    }

    pub(crate) fn background_error(&self) -> Option<Error> {
        self.background_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_background_error(&self, error: Option<Error>) {
        *self.background_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.progress.notify();
    }

    /// Makes `changes` take effect together. The caller holds the write lock and has checked the
    /// limits; nothing takes effect on an error.
    pub(crate) fn apply<'a>(
        &self,
        writer: &mut Writer,
        changes: impl ExactSizeIterator<Item = LogChange<'a>> + Clone,
        durability: ferrokit_engine::Durability,
    ) -> Result<(Sequence, CommitTicket)> {
        if let Some(poison) = self.poison() {
            return Err(poison);
        }
        self.check_open("lsm.write")?;
        let time = self.clock.now();
        let first_sequence = writer.last_sequence + 1;
        let is_logged = durability > ferrokit_engine::Durability::Memory
            || self.feeds.load(Ordering::SeqCst) > 0;
        let mut ticket = CommitTicket::NONE;
        if is_logged {
            wal::encode(&mut writer.record, time, first_sequence, changes.clone());
            let appended = self.log.append(&[&writer.record], durability)?;
            ticket = appended.ticket(durability);
            shrink(&mut writer.record);
        }
        let view = self.view.load_full();
        let mut keyspaces = Arc::clone(&view.keyspaces);
        for (sequence, change) in (first_sequence..).zip(changes) {
            self.insert(&view.active, &mut keyspaces, sequence, &change, ticket);
            writer.last_sequence = sequence;
        }
        if !Arc::ptr_eq(&keyspaces, &view.keyspaces) {
            self.view.store(Arc::new(View {
                active: Arc::clone(&view.active),
                sealed: view.sealed.clone(),
                version: Arc::clone(&view.version),
                keyspaces,
                flushes: view.flushes,
            }));
        }
        // Release: who sees the sequence sees the versions and the tickets behind it.
        self.visible.store(writer.last_sequence, Ordering::Release);
        if view.active.bytes() >= self.config.memtable_bytes {
            self.seal(writer, time);
        }
        Ok((Sequence(writer.last_sequence), ticket))
    }

    fn insert(
        &self,
        memtable: &Memtable,
        keyspaces: &mut Arc<crate::keyspaces::KeyspaceMap>,
        sequence: u64,
        change: &LogChange<'_>,
        ticket: CommitTicket,
    ) {
        match *change {
            LogChange::Put { keyspace, key, value, expire_at } => {
                let key = stored_key(keyspaces.physical(keyspace), key);
                self.gate.note(filter_hash(&key), ticket);
                memtable.insert(&key, sequence, Kind::Put, expire_at, value);
            }
            LogChange::Delete { keyspace, key } | LogChange::Expired { keyspace, key } => {
                let key = stored_key(keyspaces.physical(keyspace), key);
                self.gate.note(filter_hash(&key), ticket);
                memtable.insert(&key, sequence, Kind::Delete, None, &[]);
            }
            LogChange::Clear { keyspace, fresh } => {
                *keyspaces = Arc::new(keyspaces.cleared(keyspace, fresh, ticket));
            }
            LogChange::Swap { a, b } => *keyspaces = Arc::new(keyspaces.swapped(a, b, ticket)),
        }
    }

    /// Seals the active memtable, whatever it holds, and has it flushed. The caller holds the
    /// write lock.
    pub(crate) fn seal(&self, writer: &Writer, time: UnixMillis) {
        let view = self.view.load_full();
        let sealed = SealedMemtable {
            memtable: Arc::clone(&view.active),
            log_end: self.log.end(),
            last_sequence: writer.last_sequence,
            keyspaces: Arc::clone(&view.keyspaces),
            time,
        };
        let mut queue = Vec::with_capacity(view.sealed.len() + 1);
        queue.push(Arc::new(sealed));
        queue.extend(view.sealed.iter().cloned());
        self.view.store(Arc::new(View {
            active: Arc::new(Memtable::new()),
            sealed: queue,
            version: Arc::clone(&view.version),
            keyspaces: Arc::clone(&view.keyspaces),
            flushes: view.flushes,
        }));
        self.jobs.wake_flush();
    }

    /// The view, and the sequence up to which a read of it may look, in the order that keeps them
    /// consistent.
    pub(crate) fn read_point(&self) -> (Arc<View>, u64) {
        let view = self.view.load_full();
        let sequence = self.visible.load(Ordering::Acquire);
        (view, sequence)
    }
}

/// Gives back the room of an unusually large record.
fn shrink(buffer: &mut Vec<u8>) {
    const KEEP_BYTES: usize = 1 << 20;
    if buffer.capacity() > KEEP_BYTES {
        *buffer = Vec::new();
    }
}
