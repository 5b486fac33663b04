//! [`Peer`]: a foreign engine, and [`PeerEngine`], which puts it behind the contract.
//!
//! So peers and ferrokit's engines run through the same driver, and the conformance suite's point,
//! batch and scan cases run on a peer's adapter. What a peer cannot do (time to live, keyspaces,
//! snapshots, ...) is `Unsupported`, as for any engine. Operations block their thread until they
//! are done.

use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{
    Capabilities, Changes, Checkpoint, CommitTicket, Direction, Durability, Entry, Error,
    ErrorKind, KeyRange, KeyspaceId, KeyspaceLen, KvEngine, KvRead, Op, Ordered, ReadOptions,
    Result, ScanLimits, Scanned, Seen, Snapshots, Stats, SweepCursor, Swept, Tier, Transactions,
    UnixMillis, Update, WriteBatch, WriteOptions, Written,
};

/// Gets the key and the value of each entry of a scan; answers whether the scan is to go on.
pub type VisitEntry<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// The change of an update: the present value, and the empty buffer for a new one. It may run more
/// than once; the last run counts.
pub type ChangeValue<'a> = dyn FnMut(Option<&[u8]>, &mut Vec<u8>) -> Update + 'a;

/// What a peer can do.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its name in URLs.
    pub name: &'static str,
    /// Whether there is a [`scan`](Peer::scan).
    pub is_ordered: bool,
    /// Whether a [`write`](Peer::write) is atomic; without, there is none.
    pub has_batches: bool,
    /// Whether no concurrent change of a key gets lost in an [`update`](Peer::update).
    pub updates_are_atomic: bool,
    /// The strongest durability a write may ask for.
    pub strongest_durability: Durability,
    /// The longest key in bytes.
    pub max_key_bytes: usize,
    /// The longest value in bytes.
    pub max_value_bytes: usize,
}

/// A foreign engine. Each method answers the errors of the engine.
pub trait Peer: Send + Sync + 'static {
    /// What it can do: the same at each call.
    fn facts(&self) -> Facts;

    /// Stores `value` under `key`; complete when it survives what `durability` says.
    ///
    /// # Errors
    /// Those of the engine.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()>;

    /// Lends the value of `key` to `visit`; answers whether there is one.
    ///
    /// # Errors
    /// Those of the engine.
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Removes `key`.
    ///
    /// # Errors
    /// Those of the engine.
    fn delete(&self, key: &[u8], durability: Durability) -> Result<()>;

    /// Lends the values of those of `keys` that are there, with their index.
    ///
    /// # Errors
    /// Those of the engine.
    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (index, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| visit(index, value))?;
        }
        Ok(())
    }

    /// Changes the value of `key`; by default a read and a write, as YCSB does.
    ///
    /// # Errors
    /// Those of the engine.
    fn update(
        &self,
        key: &[u8],
        durability: Durability,
        change: &mut ChangeValue<'_>,
    ) -> Result<()> {
        let mut new = Vec::new();
        let mut update = Update::Keep;
        if !self.get(key, &mut |old| update = change(Some(old), &mut new))? {
            update = change(None, &mut new);
        }
        match update {
            Update::Keep => Ok(()),
            Update::Put { expire_at } => {
                refuse_expiry(expire_at)?;
                self.put(key, &new, durability)
            }
            Update::Delete => self.delete(key, durability),
        }
    }

    /// Applies a batch atomically.
    ///
    /// # Errors
    /// `Unsupported` without [`Facts::has_batches`]; those of the engine.
    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        let _ = (batch, durability);
        Err(Error::unsupported("peer.write", "the engine has no atomic batches"))
    }

    /// Visits the entries of a range that is not empty, in key order or against it.
    ///
    /// # Errors
    /// `Unsupported` without [`Facts::is_ordered`]; those of the engine.
    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        let _ = (range, direction, visit);
        Err(Error::unsupported("peer.scan", "the engine keeps its keys in no order"))
    }

    /// Visits every entry once, in an order of the engine's own: what an engine without
    /// [`scan`](Self::scan) is swept with, in one step.
    ///
    /// # Errors
    /// `Unsupported` if it cannot; those of the engine.
    fn visit_all(&self, visit: &mut VisitEntry<'_>) -> Result<()> {
        self.scan(&KeyRange::ALL, Direction::Forward, visit)
    }

    /// Makes everything that was written as durable as the engine can.
    ///
    /// # Errors
    /// Those of the engine.
    fn sync(&self) -> Result<()>;

    /// Makes everything durable, ends background work and releases the directory.
    ///
    /// # Errors
    /// Those of the engine.
    fn close(&self) -> Result<()>;
}

/// Refuses a time to live, which no peer is asked for.
///
/// # Errors
/// `Unsupported` if there is one.
pub fn refuse_expiry(expire_at: Option<UnixMillis>) -> Result<()> {
    match expire_at {
        None => Ok(()),
        Some(_) => Err(Error::unsupported("peer.put", "the adapter has no time to live")),
    }
}

/// A [`Peer`] behind the contract.
pub struct PeerEngine<P> {
    peer: P,
    capabilities: Capabilities,
    is_closed: AtomicBool,
}

impl<P: Peer> PeerEngine<P> {
    /// Puts `peer` behind the contract.
    pub fn new(peer: P) -> Self {
        let facts = peer.facts();
        let is_durable = facts.strongest_durability > Durability::Memory;
        let capabilities = Capabilities {
            engine: facts.name,
            ordered: facts.is_ordered,
            snapshots: false,
            checkpoint: false,
            changes: false,
            transactions: None,
            sequence_numbers: false,
            exact_len: false,
            max_key_bytes: facts.max_key_bytes,
            max_value_bytes: facts.max_value_bytes,
            max_batch_ops: if facts.has_batches { 1 << 16 } else { 0 },
            max_batch_bytes: if facts.has_batches { 64 << 20 } else { 0 },
            max_keyspaces: 1,
            strongest_durability: facts.strongest_durability,
            tiers: if is_durable { &[Tier::Memory, Tier::Disk] } else { &[Tier::Memory] },
            persistent_memory: false,
        };
        Self { peer, capabilities, is_closed: AtomicBool::new(false) }
    }

    #[inline]
    fn check(&self, operation: &'static str, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        self.capabilities.check_key(operation, keyspace, key)
    }

    #[inline]
    fn check_write(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &WriteOptions,
    ) -> Result<()> {
        self.check(operation, keyspace, key)?;
        self.capabilities.check_durability(operation, options.durability)
    }

    fn written(&self, key: &[u8], options: &WriteOptions) -> Result<Written> {
        let existed = match options.report_existed {
            true => Some(self.peer.get(key, &mut |_| ())?),
            false => None,
        };
        Ok(Written { existed, ..Written::default() })
    }
}

impl<P: Peer> KvRead for PeerEngine<P> {
    #[inline]
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        Op::Ready(self.check("peer.get", keyspace, key).and_then(|()| {
            let found = self.peer.get(key, &mut |value| visit(entry(value)))?;
            Ok(Seen { found: usize::from(found), ticket: CommitTicket::NONE })
        }))
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = keys.iter().try_for_each(|key| self.check("peer.get_many", keyspace, key));
        Op::Ready(checked.and_then(|()| {
            let mut found = 0;
            self.peer.get_many(keys, &mut |index, value| {
                found += 1;
                visit(index, entry(value));
            })?;
            Ok(Seen { found, ticket: CommitTicket::NONE })
        }))
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        Op::Ready(self.check("peer.sweep", keyspace, &[]).and_then(|()| {
            let mut visited = 0;
            if !self.capabilities.ordered {
                self.peer.visit_all(&mut |key, value| {
                    visit(key, entry(value));
                    visited += 1;
                    true
                })?;
                return Ok(Swept { next: None, visited, ticket: CommitTicket::NONE });
            }
            let mut range = KeyRange::ALL;
            if let Some((_, last)) = cursor.as_bytes().split_first() {
                range.start = std::ops::Bound::Excluded(last.to_vec());
            }
            let mut next = None;
            self.peer.scan(&range, Direction::Forward, &mut |key, value| {
                visit(key, entry(value));
                visited += 1;
                if visited < budget.max(1) {
                    return true;
                }
                next = Some(SweepCursor::from_bytes(&[&[1], key].concat()));
                false
            })?;
            Ok(Swept { next, visited, ticket: CommitTicket::NONE })
        }))
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        self.capabilities.ordered.then_some(self as &dyn Ordered)
    }
}

impl<P: Peer> Ordered for PeerEngine<P> {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        _: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        Op::Ready(self.check("peer.scan", keyspace, &[]).and_then(|()| {
            let mut scanned = Scanned { rest: None, visited: 0, ticket: CommitTicket::NONE };
            if range.is_empty() {
                return Ok(scanned);
            }
            let mut bytes = 0_usize;
            self.peer.scan(range, direction, &mut |key, value| {
                visit(key, entry(value));
                scanned.visited += 1;
                bytes += key.len() + value.len();
                if scanned.visited < limits.entries.max(1) && bytes < limits.bytes {
                    return true;
                }
                scanned.rest = Some(range.after(key, direction));
                false
            })?;
            Ok(scanned)
        }))
    }
}

impl<P: Peer> KvEngine for PeerEngine<P> {
    #[inline]
    fn put<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        value: &'a [u8],
        expire_at: Option<UnixMillis>,
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        Op::Ready(self.check_write("peer.put", keyspace, key, options).and_then(|()| {
            refuse_expiry(expire_at)?;
            self.capabilities.check_value("peer.put", key, value)?;
            let written = self.written(key, options)?;
            self.peer.put(key, value, options.durability)?;
            Ok(written)
        }))
    }

    #[inline]
    fn delete<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
    ) -> Op<'a, Written> {
        Op::Ready(self.check_write("peer.delete", keyspace, key, options).and_then(|()| {
            let written = self.written(key, options)?;
            self.peer.delete(key, options.durability)?;
            Ok(written)
        }))
    }

    fn update<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &WriteOptions,
        change: &'a mut (dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a),
    ) -> Op<'a, Written> {
        Op::Ready(self.check_write("peer.update", keyspace, key, options).and_then(|()| {
            let mut existed = false;
            self.peer.update(key, options.durability, &mut |old, new| {
                existed = old.is_some();
                new.clear();
                change(old.map(entry), new)
            })?;
            Ok(Written { existed: Some(existed), ..Written::default() })
        }))
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch, options: &WriteOptions) -> Op<'a, Written> {
        Op::Ready(
            self.check_write("peer.write", KeyspaceId::DEFAULT, &[], options)
                .and_then(|()| {
                    if !self.peer.facts().has_batches {
                        return self.peer.write(batch, options.durability);
                    }
                    self.capabilities.check_batch("peer.write", batch)?;
                    batch.iter().try_for_each(|op| match op {
                        ferrokit_engine::BatchOp::Put { expire_at, .. } => refuse_expiry(expire_at),
                        ferrokit_engine::BatchOp::Delete { .. } => Ok(()),
                    })?;
                    match batch.is_empty() {
                        true => Ok(()),
                        false => self.peer.write(batch, options.durability),
                    }
                })
                .map(|()| Written::default()),
        )
    }

    fn committed(&self, _: CommitTicket) -> Op<'_, ()> {
        // Every write completed at its durability.
        Op::ok(())
    }

    fn sync(&self, level: Durability) -> Op<'_, ()> {
        Op::Ready(
            self.capabilities
                .check_durability("peer.sync", level)
                .and_then(|()| self.check("peer.sync", KeyspaceId::DEFAULT, &[]))
                .and_then(|()| self.peer.sync()),
        )
    }

    fn clear_keyspace(&self, _: KeyspaceId, _: &WriteOptions) -> Op<'_, Written> {
        Op::err(Error::unsupported("peer.clear_keyspace", "the adapter has no keyspaces"))
    }

    fn swap_keyspaces(&self, _: KeyspaceId, _: KeyspaceId, _: &WriteOptions) -> Op<'_, Written> {
        Op::err(Error::unsupported("peer.swap_keyspaces", "the adapter has no keyspaces"))
    }

    fn keyspace_len(&self, _: KeyspaceId) -> Op<'_, KeyspaceLen> {
        Op::err(Error::unsupported("peer.keyspace_len", "the adapter does not count"))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> Op<'_, ()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Op::ok(());
        }
        Op::Ready(self.peer.close())
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

#[inline]
fn entry(value: &[u8]) -> Entry<'_> {
    Entry { value, expire_at: None, sequence: None }
}
