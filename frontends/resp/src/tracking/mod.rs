//! [`Tracking`]: which clients cache which keys, and telling them when one changes (CLIENT
//! TRACKING).
//!
//! # Order
//! A key is remembered for a client before the command that reads it runs, and a change is told
//! after it can be read: whoever read the old value is told, at the latest behind the reply.
//!
//! # Bounds
//! The table holds at most `tracking-table-max-keys` keys, and [`TABLE_BYTES_MAX`] of them; beyond
//! that keys are forgotten, and the clients told as if they had changed.
//!
//! Lock order: `tracking`, then a shard of the table; otherwise none of these, `clients` and a
//! prefix's under another. Under them only the leaves of a client.

mod prefixes;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};

use ferrokit_engine::KeyspaceId;
use ferrokit_redis::WriteStamp;
use prefixes::Prefixes;

use crate::client::{Client, flag, lock};
use crate::clients::Clients;
use crate::push::Invalidation;
use crate::settings::Settings;

/// Shards of the table; a power of two.
const SHARDS: usize = 64;
/// What the keys of the table may take, by the reckoning of [`entry_bytes`].
const TABLE_BYTES_MAX: usize = 512 << 20;
/// Keys forgotten at a time when there are too many.
const FORGOTTEN_AT_ONCE: usize = 100;

/// How a client wants its keys tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    /// All keys it reads.
    #[default]
    All,
    /// Those of commands that follow CLIENT CACHING YES.
    In,
    /// All but those of commands that follow CLIENT CACHING NO.
    Out,
}

/// What CLIENT TRACKING set for a session.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) choice: Choice,
    /// CLIENT CACHING was given for the next command.
    pub(crate) is_caching_given: bool,
    /// In broadcast mode.
    pub(crate) prefixes: BTreeSet<Vec<u8>>,
    /// Keys that the transaction under way wrote, and read then.
    pub(crate) own_reads: Vec<OwnRead>,
}

/// A key that a transaction read as it had written it itself. It is told of that write when it
/// commits, which is not to count as a change of what it read.
#[derive(Debug)]
pub(crate) struct OwnRead {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: Box<[u8]>,
    /// The write that was read.
    pub(crate) stamp: WriteStamp,
}

impl Options {
    /// Whether the keys of the command in hand are remembered.
    pub(crate) fn wants_keys(&self) -> bool {
        match self.choice {
            Choice::All => true,
            Choice::In => self.is_caching_given,
            Choice::Out => !self.is_caching_given,
        }
    }
}

/// The clients that may cache a key, by their ids.
type Readers = Vec<u64>;
type Shard = Mutex<HashMap<Box<[u8]>, Readers>>;

/// The caches of all clients, as far as the server knows them.
pub(crate) struct Tracking {
    shards: Box<[Shard]>,
    hasher: RandomState,
    keys: AtomicUsize,
    /// Pairs of a key and a client.
    items: AtomicUsize,
    bytes: AtomicUsize,
    prefixes: Prefixes,
    /// All clients that track, in either mode.
    tracking: Mutex<HashMap<u64, Arc<Client>>>,
    clients: Arc<Clients>,
    settings: Arc<Settings>,
}

/// What a key in the table is reckoned to take.
fn entry_bytes(key: &[u8]) -> usize {
    key.len() + 96
}

impl Tracking {
    pub(crate) fn new(clients: Arc<Clients>, settings: Arc<Settings>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            keys: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            prefixes: Prefixes::default(),
            tracking: Mutex::default(),
            clients,
            settings,
        }
    }

    /// Adds a client that tracks.
    pub(crate) fn add(&self, client: &Arc<Client>) {
        lock(&self.tracking).insert(client.id, Arc::clone(client));
    }

    /// Strikes a client off. Its keys stay until they change or there are too many, or nobody is left
    /// who tracks: then changes are no longer told.
    pub(crate) fn remove(&self, client: &Client) {
        let mut tracking = lock(&self.tracking);
        if tracking.remove(&client.id).is_some() && tracking.is_empty() {
            // Whoever begins to track waits: what it remembers is not lost.
            self.forget_all();
        }
        drop(tracking);
        self.prefixes.remove(client);
    }

    /// Has a client told of every change of a key that begins with `prefix`.
    pub(crate) fn broadcast(&self, prefix: &[u8], client: &Arc<Client>) {
        self.prefixes.add(prefix, client);
    }

    /// How many clients track.
    pub(crate) fn clients(&self) -> usize {
        lock(&self.tracking).len()
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    pub(crate) fn items(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.prefixes.count()
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    /// Remembers that a client is about to read a key.
    pub(crate) fn remember(&self, key: &[u8], client: u64) {
        let shard = self.shard_of(key);
        {
            let mut table = lock(&self.shards[shard]);
            match table.get_mut(key) {
                Some(readers) if readers.contains(&client) => return,
                Some(readers) => readers.push(client),
                None => {
                    table.insert(key.into(), vec![client]);
                    self.keys.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(entry_bytes(key), Ordering::Relaxed);
                }
            }
            self.items.fetch_add(1, Ordering::Relaxed);
        }
        // Before the read: a change that is not seen by it sees the key in the table.
        fence(Ordering::SeqCst);
        if self.has_too_many() {
            // Not the key that was just added.
            self.forget_some((shard + 1) % SHARDS, FORGOTTEN_AT_ONCE);
        }
    }

    fn has_too_many(&self) -> bool {
        let max = usize::try_from(self.settings.tracking_table_max_keys.get()).unwrap_or(0);
        (max > 0 && self.keys() > max) || self.bytes.load(Ordering::Relaxed) > TABLE_BYTES_MAX
    }

    /// Forgets keys while there are too many, `count` at most, those of a shard first.
    fn forget_some(&self, first: usize, count: usize) {
        let mut left = count;
        for shard in (first..SHARDS).chain(0..first) {
            while left > 0 && self.has_too_many() {
                let key = lock(&self.shards[shard]).keys().next().cloned();
                let Some(key) = key else { break };
                self.invalidate(&key, None);
                left -= 1;
            }
        }
    }

    /// Brings the table within its bounds, after they were narrowed.
    pub(crate) fn keep_bounds(&self) {
        if self.has_too_many() {
            self.forget_some(0, usize::MAX);
        }
    }

    /// A key was changed by a client, or by the server itself: 0. [`flush`](Self::flush) is to
    /// follow.
    pub(crate) fn modified(&self, key: &[u8], by: u64) {
        let is_much = self.prefixes.note(key, by);
        self.invalidate(key, Some(by));
        if is_much || by == 0 {
            self.flush();
        }
    }

    /// Sends what was noted for clients in broadcast mode, at the end of a command.
    #[inline]
    pub(crate) fn flush(&self) {
        if self.prefixes.has_notes() {
            self.prefixes.flush(|client, push| self.send(client, push));
        }
    }

    /// Forgets a key and tells its readers; `by` is who changed it, if that is why.
    fn invalidate(&self, key: &[u8], by: Option<u64>) {
        let spared = by.filter(|id| self.tracker(*id).is_some_and(|it| it.is(flag::NO_LOOP)));
        let readers = self.take_readers(key, spared);
        if readers.is_empty() {
            return;
        }
        let push = Invalidation::of(&[key]);
        for client in readers.into_iter().filter_map(|id| self.tracker(id)) {
            if !client.is(flag::BROADCAST) {
                self.send(&client, &push);
            }
        }
    }

    /// Takes the readers of a key out of the table, but for one that is not told: it may have read
    /// what it wrote itself, in the same transaction, and relies on being told of the next change.
    fn take_readers(&self, key: &[u8], spared: Option<u64>) -> Readers {
        let mut table = lock(&self.shards[self.shard_of(key)]);
        let Some(readers) = table.get_mut(key) else { return Vec::new() };
        let (kept, taken): (Readers, Readers) =
            readers.drain(..).partition(|id| Some(*id) == spared);
        *readers = kept;
        if readers.is_empty() {
            table.remove(key);
            self.keys.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(entry_bytes(key), Ordering::Relaxed);
        }
        self.items.fetch_sub(taken.len(), Ordering::Relaxed);
        taken
    }

    fn tracker(&self, id: u64) -> Option<Arc<Client>> {
        lock(&self.tracking).get(&id).cloned()
    }

    /// All keys are gone.
    pub(crate) fn flushed(&self) {
        self.forget_all();
        let all: Vec<Arc<Client>> = lock(&self.tracking).values().cloned().collect();
        let push = Invalidation::of_all();
        all.iter().for_each(|client| self.send(client, &push));
    }

    /// Empties the table.
    fn forget_all(&self) {
        for shard in &self.shards {
            let table = std::mem::take(&mut *lock(shard));
            let items = table.values().map(Vec::len).sum();
            let bytes = table.keys().map(|key| entry_bytes(key)).sum();
            self.keys.fetch_sub(table.len(), Ordering::Relaxed);
            self.items.fetch_sub(items, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Sends an invalidation to a client, or to where it had them redirected.
    fn send(&self, client: &Arc<Client>, push: &Invalidation) {
        let to = client.redirect();
        if to <= 0 {
            return client.push_invalidation(push, false);
        }
        match self.clients.by_id(to.unsigned_abs()) {
            Some(other) => other.push_invalidation(push, true),
            None => {
                client.set_flag(flag::BROKEN_REDIRECT, true);
                client.push_broken_redirect(to);
            }
        }
    }
}

#[cfg(test)]
mod tests;
