//! [`Transaction`]: several keys, all or nothing.
//!
//! It holds the stripes of its keys exclusively, so that no writer comes between what it reads and
//! what it writes. Its writes stay in the [`Overlay`] until it commits; then they are one batch of
//! the engine: readers see all of it or nothing, and so does recovery after a crash.
//!
//! Operations of whole databases (FLUSHDB, SWAPDB, DBSIZE, SCAN) cannot see an overlay: before one
//! of them what is there is written out, so that a transaction with such a command in its middle is
//! two batches, still without any writer in between.

use std::collections::HashMap;

use ferrokit_engine::{Durability, Entry, KeyspaceId, UnixMillis, WriteBatch, WriteOptions};

use crate::db::Tally;
use crate::events::{ClientId, Event};
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::{Exclusive, KeyHash, Stripes};

/// The last state a transaction gave a key.
#[derive(Debug)]
pub(crate) struct Overlaid {
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    /// `None`: deleted.
    value: Option<Vec<u8>>,
    expire_at: Option<UnixMillis>,
    stamp: WriteStamp,
}

/// One write of a transaction among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteStamp(u64);

impl Overlaid {
    /// What a read sees at `now`.
    pub(crate) fn entry(&self, now: UnixMillis) -> Option<Entry<'_>> {
        let value = self.value.as_deref()?;
        let is_gone = Entry::is_expired_at(self.expire_at, now);
        (!is_gone).then_some(Entry { value, expire_at: self.expire_at, sequence: None })
    }
}

/// What a transaction has written and not committed.
#[derive(Debug, Default)]
pub struct Overlay {
    /// In the order of the first write of each key.
    entries: Vec<Overlaid>,
    places: HashMap<(KeyspaceId, Box<[u8]>), usize>,
    events: Vec<(Event, KeyspaceId, Box<[u8]>)>,
    last_write: WriteStamp,
    /// Something went to the engine.
    has_written: bool,
}

impl Overlay {
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Overlaid> {
        if self.entries.is_empty() {
            return None;
        }
        let place = *self.places.get(&(keyspace, key.into()))?;
        self.entries.get(place)
    }

    pub(crate) fn put(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) {
        let (value, stamp) = (Some(value.to_vec()), self.next_stamp());
        self.set(Overlaid { keyspace, key: key.into(), value, expire_at, stamp });
    }

    pub(crate) fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let (key, stamp) = (key.into(), self.next_stamp());
        self.set(Overlaid { keyspace, key, value: None, expire_at: None, stamp });
    }

    fn next_stamp(&mut self) -> WriteStamp {
        self.last_write.0 += 1;
        self.last_write
    }

    /// The write that gave a key its state; `None` if that is not the transaction's, or the engine
    /// has it already.
    pub fn stamp(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<WriteStamp> {
        self.get(keyspace, key).map(|overlaid| overlaid.stamp)
    }

    fn set(&mut self, overlaid: Overlaid) {
        let next = self.entries.len();
        let place = *self.places.entry((overlaid.keyspace, overlaid.key.clone())).or_insert(next);
        match self.entries.get_mut(place) {
            Some(entry) => *entry = overlaid,
            None => self.entries.push(overlaid),
        }
    }

    pub(crate) fn note_event(&mut self, event: Event, keyspace: KeyspaceId, key: &[u8]) {
        self.events.push((event, keyspace, key.into()));
    }

    /// Something went to the engine beside the overlay.
    pub(crate) fn note_written(&mut self) {
        self.has_written = true;
    }

    /// Writes what there is, as one batch, and tells of it.
    pub(crate) async fn write_out(
        &mut self,
        store: &Store,
        options: &WriteOptions,
        client: ClientId,
        tally: &mut Tally,
    ) -> Result<()> {
        if !self.entries.is_empty() {
            self.has_written = true;
            let mut batch = WriteBatch::new();
            for entry in &self.entries {
                match &entry.value {
                    Some(value) => {
                        batch.put(entry.keyspace, &entry.key, value, entry.expire_at);
                    }
                    None => {
                        batch.delete(entry.keyspace, &entry.key);
                    }
                }
                // First: a write that fails may have happened.
                store.stripes.touch(entry.keyspace, &entry.key);
            }
            let written = store.engine().write(&batch, options).await?;
            tally.join(written.ticket);
            for entry in self.entries.drain(..) {
                store.tell_modified(entry.keyspace, &entry.key, client);
                if let Some(at) = entry.expire_at {
                    store.expiries.note_database(entry.keyspace);
                    if store.keeps_deadlines() {
                        store.keep_deadline(entry.keyspace, &entry.key, at);
                    }
                }
            }
            self.places.clear();
        }
        for (event, keyspace, key) in self.events.drain(..) {
            store.tell_event(event, keyspace, &key);
        }
        Ok(())
    }
}

/// The keys a transaction may read or write.
#[derive(Debug, Clone)]
pub struct KeySet {
    /// Ascending, without repetitions.
    stripes: Vec<u16>,
}

impl KeySet {
    /// These keys.
    pub fn of<'k>(keys: impl IntoIterator<Item = (KeyspaceId, &'k [u8])>) -> Self {
        let stripe = |(keyspace, key)| KeyHash::of(keyspace, key).stripe() as u16;
        let mut stripes: Vec<u16> = keys.into_iter().map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        Self { stripes }
    }

    /// All keys of all databases.
    pub fn all() -> Self {
        Self { stripes: Stripes::all() }
    }
}

/// Several keys, changed together. Dropped without a commit, it changes nothing.
pub struct Transaction<'s> {
    store: &'s Store,
    pub(crate) overlay: Overlay,
    /// `None`: the store's.
    pub(crate) durability: Option<Durability>,
    locked: Exclusive<'s>,
}

impl<'s> Transaction<'s> {
    /// Locks the keys it may read or write.
    pub async fn begin(store: &'s Store, keys: KeySet) -> Self {
        let locked = store.stripes.exclusive(keys.stripes).await;
        Self { store, overlay: Overlay::default(), durability: None, locked }
    }

    /// The same transaction, whose writes are durable at `level` instead of the store's.
    #[must_use]
    pub fn with_durability(mut self, level: Durability) -> Self {
        self.durability = Some(level);
        self
    }

    /// Whether it may read and write a key.
    pub fn covers(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.locked.covers(KeyHash::of(keyspace, key))
    }

    /// What it has written so far; see [`Db::inside`](crate::Db::inside).
    pub fn overlay(&mut self) -> &mut Overlay {
        &mut self.overlay
    }

    /// Makes its writes visible, all at once, and tells of them.
    ///
    /// # Errors
    /// Those of the engine: nothing of it happened after `InvalidArgument` (it is larger than the
    /// engine's largest batch) and `Unsupported`; after others all or nothing did.
    pub async fn commit(mut self, client: ClientId, tally: &mut Tally) -> Result<()> {
        self.publish(client, tally).await
    }

    /// [`commit`](Self::commit), behind which the keys are still locked, until the transaction is
    /// dropped.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub async fn publish(&mut self, client: ClientId, tally: &mut Tally) -> Result<()> {
        let options = self.store.write_options(self.durability);
        self.overlay.write_out(self.store, &options, client, tally).await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.overlay.has_written {
            self.locked.modified();
        }
    }
}
