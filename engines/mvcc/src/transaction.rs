//! [`MvccTransaction`]: optimistic transactions over a [`View`].
//!
//! Reads come from the view, writes wait in the transaction. A commit takes the stripes of every
//! key it writes, and of every key it read if it is serializable, then checks that none of them has
//! a version newer than the view: the first committer wins. A sweep depends on its whole keyspace:
//! no commit to it may have come between.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{
    CommitTicket, Entry, Error, Isolation, KeyspaceId, KvRead, Op, Ordered, ReadOptions, Result,
    Savepoint, Seen, SweepCursor, Swept, Transaction, TransactionOptions, Transactions, UnixMillis,
    WriteOptions, Written,
};

use crate::commit::{Held, Intent, conflict};
use crate::engine::{Mvcc, start, start_checked};
use crate::view::View;

type FullKey = (KeyspaceId, Vec<u8>);

struct PendingWrite {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    /// `None` deletes.
    value: Option<(Vec<u8>, Option<UnixMillis>)>,
}

impl PendingWrite {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |(value, _)| value.len())
    }

    /// What a read at `now` gets.
    fn entry(&self, now: UnixMillis) -> Option<Entry<'_>> {
        let (value, expire_at) = self.value.as_ref()?;
        let expire_at = *expire_at;
        let is_there = !Entry::is_expired_at(expire_at, now);
        is_there.then_some(Entry { value, expire_at, sequence: None })
    }
}

#[derive(Default)]
struct ReadSet {
    keys: HashSet<FullKey>,
    keyspaces: BTreeSet<KeyspaceId>,
}

pub(crate) struct MvccTransaction {
    view: View,
    isolation: Isolation,
    writes: Vec<PendingWrite>,
    write_bytes: usize,
    /// The last write to each key.
    overlay: HashMap<FullKey, usize>,
    /// Number of writes at each savepoint that is still valid.
    savepoints: BTreeMap<usize, usize>,
    next_savepoint: usize,
    reads: Mutex<ReadSet>,
}

impl MvccTransaction {
    fn own(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&PendingWrite> {
        if self.overlay.is_empty() {
            return None;
        }
        let index = self.overlay.get(&(keyspace, key.to_vec()))?;
        self.writes.get(*index)
    }

    fn note_keys(&self, keyspace: KeyspaceId, keys: &[&[u8]]) {
        if self.isolation != Isolation::Serializable {
            return;
        }
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let ReadSet { keys: known, keyspaces } = &mut *reads;
        if keyspaces.contains(&keyspace) {
            return;
        }
        known.extend(keys.iter().map(|key| (keyspace, key.to_vec())));
        if known.len() > self.view.core.options.max_reads {
            keyspaces.extend(known.drain().map(|(keyspace, _)| keyspace));
        }
    }

    fn note_keyspace(&self, keyspace: KeyspaceId) {
        if self.isolation == Isolation::Serializable {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.keyspaces.insert(keyspace);
            reads.keys.retain(|(of, _)| *of != keyspace);
        }
    }

    async fn read_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        let mut found = 0;
        let (mut indexes, mut others) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            match self.own(keyspace, key) {
                None => {
                    indexes.push(index);
                    others.push(*key);
                }
                Some(write) => {
                    if let Some(entry) = write.entry(self.view.opened_at) {
                        found += 1;
                        visit(index, entry);
                    }
                }
            }
        }
        if !others.is_empty() {
            self.note_keys(keyspace, &others);
            let mut visit_other = |at: usize, entry: Entry<'_>| {
                if let Some(index) = indexes.get(at) {
                    visit(*index, entry);
                }
            };
            found += self.view.get_many(keyspace, &others, &mut visit_other).await?;
        }
        Ok(Seen { found, ticket: CommitTicket::NONE })
    }

    /// The view's entries, without the keys written here; these come with the last step.
    async fn sweep_step(
        &self,
        keyspace: KeyspaceId,
        cursor: &SweepCursor,
        budget: usize,
        visit: &mut (dyn FnMut(&[u8], Entry<'_>) + Send + '_),
    ) -> Result<Swept> {
        self.note_keyspace(keyspace);
        let mut visited = 0;
        let mut visit_other = |key: &[u8], entry: Entry<'_>| {
            if self.own(keyspace, key).is_none() {
                visited += 1;
                visit(key, entry);
            }
        };
        let swept = self.view.sweep(keyspace, cursor, budget, &mut visit_other).await?;
        if swept.next.is_none() {
            for ((of, key), index) in &self.overlay {
                let write = self.writes.get(*index).filter(|_| *of == keyspace);
                if let Some(entry) = write.and_then(|write| write.entry(self.view.opened_at)) {
                    visited += 1;
                    visit(key, entry);
                }
            }
        }
        Ok(Swept { visited, ..swept })
    }

    fn push(&mut self, write: PendingWrite) -> Result<()> {
        let facts = &self.view.core.capabilities;
        let bytes = self.write_bytes + write.bytes();
        if self.writes.len() >= facts.max_batch_ops || bytes > facts.max_batch_bytes {
            let message = format!(
                "a transaction is limited to {} writes and {} bytes",
                facts.max_batch_ops, facts.max_batch_bytes
            );
            return Err(Error::invalid("transaction", message).with_key(&write.key));
        }
        self.write_bytes = bytes;
        self.overlay.insert((write.keyspace, write.key.clone()), self.writes.len());
        self.writes.push(write);
        Ok(())
    }

    async fn commit_now(self, options: WriteOptions) -> Result<Written> {
        let Self { view, isolation, writes, overlay, reads, .. } = self;
        let View { core, reader, directory, .. } = view;
        core.check_writable("commit", &options)?;
        if overlay.is_empty() {
            return Ok(Written::default());
        }
        let reads = reads.into_inner().unwrap_or_else(PoisonError::into_inner);
        let gate = core.enter().await;
        let current = core.directories.current();
        // A clear or a swap writes every key of its keyspaces.
        let is_same =
            |keyspace: KeyspaceId| Arc::ptr_eq(directory.slot(keyspace), current.slot(keyspace));
        let touched = overlay.keys().chain(&reads.keys).map(|(keyspace, _)| *keyspace);
        if !touched.chain(reads.keyspaces.iter().copied()).all(is_same) {
            return Err(conflict("commit"));
        }
        let mut intents = Vec::with_capacity(overlay.len());
        for index in overlay.values() {
            let Some(write) = writes.get(*index) else { continue };
            intents.push(Intent {
                slot: Arc::clone(current.slot(write.keyspace)),
                key: &write.key,
                value: write.value.as_ref().map(|(value, at)| (&value[..], *at)),
            });
        }
        let read_only = reads.keys.iter().filter(|full_key| !overlay.contains_key(*full_key));
        let read_only: Vec<(u32, &[u8])> =
            read_only.map(|(keyspace, key)| (current.slot(*keyspace).id, &key[..])).collect();
        let written: Vec<(u32, &[u8])> = intents.iter().map(Intent::target).collect();
        let stripes = core.lock(written.iter().chain(&read_only).copied()).await?;
        let (heads, _) = core.read_heads(&written, true).await?;
        let (read_heads, _) = core.read_heads(&read_only, false).await?;
        let is_newer = |timestamp| timestamp > reader.timestamp;
        if heads.iter().chain(&read_heads).flatten().any(|head| is_newer(head.header.timestamp)) {
            return Err(conflict("commit"));
        }
        debug_assert!(isolation == Isolation::Serializable || read_only.is_empty());
        let clock_of = |keyspace: &KeyspaceId| Arc::clone(&current.slot(*keyspace).clock);
        let unchanged = reads.keyspaces.iter().map(|id| (clock_of(id), reader.timestamp)).collect();
        let held = Held { gate, stripes, heads: Some(heads), unchanged, reader: Some(reader) };
        drop(directory);
        core.commit("commit", &intents, held, &options).await
    }
}

impl KvRead for MvccTransaction {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = self.view.check_keys("transaction.get", keyspace, &[key]);
        start_checked(checked, async move {
            let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
            self.read_many(keyspace, &[key], &mut visit_many).await
        })
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let checked = self.view.check_keys("transaction.get_many", keyspace, keys);
        start_checked(checked, self.read_many(keyspace, keys, visit))
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let checked = self.view.check("transaction.sweep", keyspace);
        start_checked(checked, self.sweep_step(keyspace, cursor, budget, visit))
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        None
    }
}

impl Transaction for MvccTransaction {
    fn put(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<()> {
        let facts = &self.view.core.capabilities;
        facts.check_key("transaction.put", keyspace, key)?;
        facts.check_value("transaction.put", key, value)?;
        let value = Some((value.to_vec(), expire_at));
        self.push(PendingWrite { keyspace, key: key.to_vec(), value })
    }

    fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.view.core.capabilities.check_key("transaction.delete", keyspace, key)?;
        self.push(PendingWrite { keyspace, key: key.to_vec(), value: None })
    }

    fn savepoint(&mut self) -> Savepoint {
        // A second mark at the same place is the same one: there are never more than writes.
        if let Some((mark, writes)) = self.savepoints.last_key_value()
            && *writes == self.writes.len()
        {
            return Savepoint(*mark);
        }
        let mark = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.insert(mark, self.writes.len());
        Savepoint(mark)
    }

    fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(writes) = self.savepoints.get(&savepoint.0).copied() else {
            return Err(Error::invalid("rollback_to", "a rollback has passed this savepoint"));
        };
        self.savepoints.split_off(&(savepoint.0.saturating_add(1)));
        self.writes.truncate(writes);
        self.write_bytes = self.writes.iter().map(PendingWrite::bytes).sum();
        self.overlay.clear();
        for (index, write) in self.writes.iter().enumerate() {
            self.overlay.insert((write.keyspace, write.key.clone()), index);
        }
        Ok(())
    }

    fn commit(self: Box<Self>, options: &WriteOptions) -> Op<'static, Written> {
        let options = *options;
        start(async move { self.commit_now(options).await })
    }
}

impl Transactions for Mvcc {
    fn begin(&self, options: &TransactionOptions) -> Op<'_, Box<dyn Transaction>> {
        let isolation = options.isolation;
        start(async move {
            let transaction = MvccTransaction {
                view: View::open(&self.core).await?,
                isolation,
                writes: Vec::new(),
                write_bytes: 0,
                overlay: HashMap::new(),
                savepoints: BTreeMap::new(),
                next_savepoint: 0,
                reads: Mutex::default(),
            };
            Ok(Box::new(transaction) as Box<dyn Transaction>)
        })
    }
}
