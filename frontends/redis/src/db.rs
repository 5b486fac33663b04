//! [`Db`]: one caller's view of one database, and the few operations everything is made of.
//!
//! Outside a [`Transaction`] a read goes straight to the engine, and a write of
//! one key is one operation of the engine, under the shared lock of its stripe. Inside, reads look
//! into the transaction first, and writes stay there until it commits. What is built on these
//! operations need not know which of the two it is.
//!
//! A key that is longer than the engine's keys is absent, and cannot be written.

use ferrokit_engine::{
    CommitTicket, Durability, Entry, KeyspaceId, ReadOptions, UnixMillis, Update, WriteOptions,
};
use smallvec::SmallVec;

use crate::events::{ClientId, Event, EventClass, Interest};
use crate::refusal::Result;
use crate::store::Store;
use crate::stripes::{KeyHash, Shared};
use crate::transaction::{KeySet, Overlay, Transaction, WriteStamp};

/// How often a read of several keys is tried beside writers before it locks them out.
const TRIES_BESIDE_WRITERS: usize = 3;

/// What commands came to, beyond their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// What must be durable before an answer is shown.
    pub ticket: CommitTicket,
    /// Keys read that were there.
    pub hits: u64,
    /// Keys read that were not.
    pub misses: u64,
    /// Keys changed.
    pub changes: u64,
}

impl Tally {
    /// Takes note of what must be durable.
    #[inline]
    pub fn join(&mut self, ticket: CommitTicket) {
        self.ticket = self.ticket.join(ticket);
    }
}

/// What an [`update`](Db::update) does to an entry; see
/// [`KvEngine::update`](ferrokit_engine::KvEngine::update).
pub type Change<'a> = dyn FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send + 'a;

/// Takes the entries of several keys.
pub trait ManyVisitor: Send {
    /// Forget what was visited: the keys are read again.
    fn restart(&mut self);

    /// The entry of key `index`; in any order.
    fn visit(&mut self, index: usize, entry: Entry<'_>);
}

/// One caller's view of one database.
pub struct Db<'s> {
    pub(crate) store: &'s Store,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) client: ClientId,
    pub(crate) tally: &'s mut Tally,
    pub(crate) overlay: Option<&'s mut Overlay>,
    notes_accesses: bool,
    /// `None`: the store's.
    durability: Option<Durability>,
}

impl<'s> Db<'s> {
    #[inline]
    pub(crate) fn new(
        store: &'s Store,
        keyspace: KeyspaceId,
        client: ClientId,
        tally: &'s mut Tally,
    ) -> Self {
        Self {
            store,
            keyspace,
            client,
            tally,
            overlay: None,
            notes_accesses: true,
            durability: None,
        }
    }

    /// The same view inside a transaction.
    #[must_use]
    pub fn inside(self, overlay: &'s mut Overlay) -> Self {
        Self { overlay: Some(overlay), ..self }
    }

    /// The same view, whose reads and writes do not count as accesses (CLIENT NO-TOUCH).
    #[must_use]
    pub fn without_touching(self) -> Self {
        Self { notes_accesses: false, ..self }
    }

    /// The same view, whose writes are durable at `level` instead of the store's. What a
    /// transaction writes is as durable as the transaction: see
    /// [`Transaction::with_durability`].
    #[must_use]
    pub fn with_durability(self, level: Durability) -> Self {
        Self { durability: Some(level), ..self }
    }

    /// How this view writes: at once, to be awaited by its ticket.
    #[inline]
    pub(crate) fn write_options(&self) -> WriteOptions {
        self.store.write_options(self.durability)
    }

    /// Reads and writes do not count as accesses from now on, or do again.
    pub fn set_touching(&mut self, touches: bool) {
        self.notes_accesses = touches;
    }

    /// The store.
    pub fn store(&self) -> &'s Store {
        self.store
    }

    /// The database.
    pub fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The tally this view adds to.
    pub fn tally(&mut self) -> &mut Tally {
        self.tally
    }

    /// A view of another database, for as long as this one is not used.
    pub fn at(&mut self, keyspace: KeyspaceId) -> Db<'_> {
        Db {
            store: self.store,
            keyspace,
            client: self.client,
            tally: self.tally,
            overlay: self.overlay.as_deref_mut(),
            notes_accesses: self.notes_accesses,
            durability: self.durability,
        }
    }

    /// Takes note of an access; the key's hash.
    #[inline]
    fn touch(&self, key: &[u8]) -> KeyHash {
        let hash = KeyHash::of(self.keyspace, key);
        if self.notes_accesses {
            self.store.note_access(hash);
        }
        hash
    }

    /// Reads the entry of a key as it is stored; whether it is there. Counts neither a hit nor a
    /// miss.
    ///
    /// # Errors
    /// Those of the engine.
    #[inline]
    pub async fn read<'a>(
        &mut self,
        key: &'a [u8],
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Result<bool> {
        self.touch(key);
        self.peek(key, visit).await
    }

    /// [`read`](Self::read), which is not taken for an access.
    ///
    /// # Errors
    /// Those of the engine.
    #[inline]
    pub async fn peek<'a>(
        &mut self,
        key: &'a [u8],
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Result<bool> {
        if let Some(overlay) = self.overlay.as_deref()
            && let Some(known) = overlay.get(self.keyspace, key)
        {
            let entry = known.entry(self.store.now());
            return Ok(entry.map(visit).is_some());
        }
        if self.store.is_too_long(key) {
            return Ok(false);
        }
        let engine = self.store.engine();
        let seen = engine.get_with(self.keyspace, key, &ReadOptions::APPLIED, visit).await?;
        self.tally.join(seen.ticket);
        Ok(seen.found > 0)
    }

    /// Reads several keys, each for itself.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn read_each<'a>(
        &mut self,
        keys: &'a [&'a [u8]],
        visitor: &'a mut (dyn ManyVisitor + 'a),
    ) -> Result<usize> {
        if self.overlay.is_some() || keys.iter().any(|key| self.store.is_too_long(key)) {
            return self.read_one_by_one(keys, visitor).await;
        }
        keys.iter().for_each(|key| {
            self.touch(key);
        });
        let engine = self.store.engine();
        let mut visit = |index: usize, entry: Entry<'_>| visitor.visit(index, entry);
        let options = ReadOptions::APPLIED;
        let seen = engine.get_many_with(self.keyspace, keys, &options, &mut visit).await?;
        self.tally.join(seen.ticket);
        Ok(seen.found)
    }

    /// Reads several keys as they were at one moment; how many are there.
    ///
    /// The keys are read beside writers, and again if one of their stripes was written meanwhile;
    /// after a few tries writers are locked out.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn read_many<'a>(
        &mut self,
        keys: &'a [&'a [u8]],
        visitor: &'a mut (dyn ManyVisitor + 'a),
    ) -> Result<usize> {
        if self.overlay.is_some() || keys.len() < 2 {
            return self.read_each(keys, visitor).await;
        }
        let store = self.store;
        let hashes: SmallVec<[KeyHash; 16]> =
            keys.iter().map(|key| KeyHash::of(self.keyspace, key)).collect();
        let versions = || -> Option<SmallVec<[u64; 16]>> {
            hashes.iter().map(|hash| store.stripes.version(*hash)).collect()
        };
        for _ in 0..TRIES_BESIDE_WRITERS {
            let Some(before) = versions() else { continue };
            visitor.restart();
            let found = self.read_each(keys, &mut *visitor).await?;
            if versions().is_some_and(|after| after == before) {
                return Ok(found);
            }
        }
        let keys_locked = self.key_set(keys.iter().copied());
        let _locked = Transaction::begin(store, keys_locked).await;
        visitor.restart();
        self.read_each(keys, visitor).await
    }

    async fn read_one_by_one(
        &mut self,
        keys: &[&[u8]],
        visitor: &mut dyn ManyVisitor,
    ) -> Result<usize> {
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            let mut visit = |entry: Entry<'_>| visitor.visit(index, entry);
            found += usize::from(self.read(key, &mut visit).await?);
        }
        Ok(found)
    }

    /// Stores an encoded value; whether the key was there, if `asks`.
    pub(crate) async fn put_stored(
        &mut self,
        key: &[u8],
        stored: &[u8],
        expire_at: Option<UnixMillis>,
        asks: bool,
    ) -> Result<Option<bool>> {
        if self.store.is_too_long(key) {
            return Err(self.store.too_long(key));
        }
        let hash = self.touch(key);
        if self.overlay.is_some() {
            let existed = if asks { Some(self.peek(key, &mut |_| {}).await?) } else { None };
            if let Some(overlay) = self.overlay.as_deref_mut() {
                overlay.put(self.keyspace, key, stored, expire_at);
            }
            return Ok(existed);
        }
        let mut shared = self.store.stripes.shared(self.keyspace, key, hash).await;
        let mut options = self.write_options();
        options.report_existed = asks;
        let engine = self.store.engine();
        let written = engine.put(self.keyspace, key, stored, expire_at, &options).await?;
        self.tally.join(written.ticket);
        if let Some(at) = expire_at {
            self.note_expiry(&mut shared, key, at);
        }
        Ok(written.existed)
    }

    /// Takes note of an expiry that was just set.
    fn note_expiry(&self, shared: &mut Shared<'_>, key: &[u8], at: UnixMillis) {
        self.store.expiries.note_database(self.keyspace);
        if self.store.keeps_deadlines() {
            shared.modified();
            self.store.keep_deadline(self.keyspace, key, at);
        }
    }

    /// Removes a key, whatever it holds; whether it was there. Tells nobody: see
    /// [`happened`](Self::happened).
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove(&mut self, key: &[u8]) -> Result<bool> {
        if self.overlay.is_some() {
            let existed = self.peek(key, &mut |_| {}).await?;
            if existed && let Some(overlay) = self.overlay.as_deref_mut() {
                overlay.delete(self.keyspace, key);
            }
            return Ok(existed);
        }
        if self.store.is_too_long(key) {
            return Ok(false);
        }
        let hash = KeyHash::of(self.keyspace, key);
        let mut shared = self.store.stripes.shared(self.keyspace, key, hash).await;
        let options = self.write_options().reporting_existed();
        let written = self.store.engine().delete(self.keyspace, key, &options).await?;
        self.tally.join(written.ticket);
        let existed = written.existed == Some(true);
        if !existed {
            shared.unmodified();
        }
        Ok(existed)
    }

    /// Atomic read-modify-write of one key as it is stored; whether it was changed. Tells nobody:
    /// see [`happened`](Self::happened).
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn update<'a>(&mut self, key: &'a [u8], change: &'a mut Change<'a>) -> Result<bool> {
        if self.store.is_too_long(key) {
            return match change(None, &mut Vec::new()) {
                Update::Keep | Update::Delete => Ok(false),
                Update::Put { .. } => Err(self.store.too_long(key)),
            };
        }
        let hash = self.touch(key);
        if self.overlay.is_some() {
            return self.update_inside(key, change).await;
        }
        let mut shared = self.store.stripes.shared(self.keyspace, key, hash).await;
        let (mut is_kept, mut new_expiry) = (false, None);
        let mut noting = |entry: Option<Entry<'_>>, out: &mut Vec<u8>| {
            let update = change(entry, out);
            is_kept = update == Update::Keep || update == Update::Delete && entry.is_none();
            new_expiry = match update {
                Update::Put { expire_at } => expire_at,
                Update::Keep | Update::Delete => None,
            };
            update
        };
        let options = self.write_options();
        let engine = self.store.engine();
        let written = engine.update(self.keyspace, key, &options, &mut noting).await?;
        self.tally.join(written.ticket);
        if let Some(at) = new_expiry {
            self.note_expiry(&mut shared, key, at);
        }
        if is_kept {
            shared.unmodified();
        }
        Ok(!is_kept)
    }

    async fn update_inside(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<bool> {
        let mut current: Option<(Vec<u8>, Option<UnixMillis>)> = None;
        self.peek(key, &mut |entry: Entry<'_>| {
            current = Some((entry.value.to_vec(), entry.expire_at));
        })
        .await?;
        let entry = current.as_ref().map(|(value, expire_at)| Entry {
            value,
            expire_at: *expire_at,
            sequence: None,
        });
        let mut out = Vec::new();
        let update = change(entry, &mut out);
        let (keyspace, exists) = (self.keyspace, entry.is_some());
        let Some(overlay) = self.overlay.as_deref_mut() else { return Ok(false) };
        match update {
            Update::Keep => return Ok(false),
            Update::Delete if !exists => return Ok(false),
            Update::Delete => overlay.delete(keyspace, key),
            Update::Put { expire_at } => overlay.put(keyspace, key, &out, expire_at),
        }
        Ok(true)
    }

    /// Tells that a key was changed, and how: for keyspace notifications and client-side caches.
    #[inline]
    pub fn happened(&mut self, event: Event, key: &[u8]) {
        self.notify(event, key);
        self.modified(key);
    }

    /// Tells that a key was changed, for client-side caches, where that is no event.
    #[inline]
    pub fn modified(&mut self, key: &[u8]) {
        self.tally.changes += 1;
        match self.overlay.as_deref_mut() {
            None => self.store.tell_modified(self.keyspace, key, self.client),
            Some(_) => { /* told when it commits */ }
        }
    }

    /// Tells of an event that is no change of its own.
    #[inline]
    pub fn notify(&mut self, event: Event, key: &[u8]) {
        if !self.store.interest().includes(Interest::in_events(event.class)) {
            return;
        }
        match self.overlay.as_deref_mut() {
            None => self.store.tell_event(event, self.keyspace, key),
            Some(overlay) => overlay.note_event(event, self.keyspace, key),
        }
    }

    /// Counts a key that was looked up.
    #[inline]
    pub fn looked_up(&mut self, key: &[u8], is_there: bool) {
        if is_there {
            self.tally.hits += 1;
        } else {
            self.tally.misses += 1;
            self.notify(Event::new(EventClass::KEY_MISS, "keymiss"), key);
        }
    }

    /// Counts keys that were looked up together.
    pub fn looked_up_many(&mut self, asked: usize, found: usize) {
        self.tally.hits += found as u64;
        self.tally.misses += asked.saturating_sub(found) as u64;
    }

    /// Whether somebody wants to know of keys that are new.
    pub(crate) fn tells_of_new_keys(&self) -> bool {
        self.store.interest().includes(Interest::in_events(EventClass::NEW))
    }

    /// Begins a transaction over `keys`, unless this view is inside one.
    pub async fn begin(&self, keys: KeySet) -> Scope<'s> {
        if self.overlay.is_some() {
            return Scope(None);
        }
        let mut transaction = Transaction::begin(self.store, keys).await;
        transaction.durability = self.durability;
        Scope(Some(transaction))
    }

    /// Keys of this database.
    pub fn key_set<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> KeySet {
        let keyspace = self.keyspace;
        KeySet::of(keys.into_iter().map(|key| (keyspace, key)))
    }

    /// The write that gave a key its state, if it was one of the transaction this view is inside.
    pub fn write_stamp(&self, key: &[u8]) -> Option<WriteStamp> {
        self.overlay.as_deref()?.stamp(self.keyspace, key)
    }

    /// This view inside the scope's transaction, or the one it is inside already.
    pub fn within<'a>(&'a mut self, scope: &'a mut Scope<'s>) -> Db<'a> {
        let overlay = match &mut scope.0 {
            Some(transaction) => Some(&mut transaction.overlay),
            None => self.overlay.as_deref_mut(),
        };
        Db {
            store: self.store,
            keyspace: self.keyspace,
            client: self.client,
            tally: self.tally,
            overlay,
            notes_accesses: self.notes_accesses,
            durability: self.durability,
        }
    }

    /// Commits the scope's own transaction; one that was there before goes on.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn commit(&mut self, scope: Scope<'s>) -> Result<()> {
        match scope.0 {
            Some(transaction) => transaction.commit(self.client, self.tally).await,
            None => Ok(()),
        }
    }

    /// Inside a transaction, makes what it did so far visible to operations of whole databases.
    pub(crate) async fn spill(&mut self) -> Result<()> {
        let options = self.write_options();
        match self.overlay.as_deref_mut() {
            Some(overlay) => overlay.write_out(self.store, &options, self.client, self.tally).await,
            None => Ok(()),
        }
    }
}

/// A transaction of a command's own, or the one it runs inside.
#[must_use]
pub struct Scope<'s>(Option<Transaction<'s>>);
