//! [`Watch`]: what becomes of a key.
//!
//! A watch keeps no queue: a flag says that the key was changed since it was last looked at, so
//! that a slow watcher costs no memory and misses no last state, only states in between.
//!
//! # Lock order
//! The lock of a database's watches, then the count, or a watch's own; under these nothing.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use ferrokit_engine::{Entry, KeyspaceId, UnixMillis};
use ferrokit_redis::{
    ClientId, Event, Interest, KeySet, Observer, Refusal, Store, Transaction, Value,
};

use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Ferrokit, Shared, run};
use crate::operations::owned;

/// Watches of one store.
const WATCHES_MAX: usize = 1 << 16;

/// What one watch is told.
#[derive(Default)]
struct Flag(Mutex<FlagState>);

#[derive(Default)]
struct FlagState {
    is_changed: bool,
    is_closed: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
enum Told {
    Changed,
    Closed,
}

impl Flag {
    fn lock(&self) -> MutexGuard<'_, FlagState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: Told) {
        let mut state = self.lock();
        match told {
            Told::Changed => state.is_changed = true,
            Told::Closed => state.is_closed = true,
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once the key was changed since the last time, or the store is closed.
    fn poll(&self, cx: &Context<'_>) -> Poll<Told> {
        let mut state = self.lock();
        if state.is_closed {
            return Poll::Ready(Told::Closed);
        }
        if std::mem::take(&mut state.is_changed) {
            return Poll::Ready(Told::Changed);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

type OfDatabase = HashMap<Box<[u8]>, Vec<Arc<Flag>>>;

/// The watches of a store, by database. Writers of keys share the locks.
pub(crate) struct Watches {
    databases: Box<[RwLock<OfDatabase>]>,
    /// How many there are. While there are none, the store tells nothing.
    count: Mutex<usize>,
}

impl Watches {
    pub(crate) fn new(databases: u32) -> Self {
        let databases = (0..databases).map(|_| RwLock::default()).collect();
        Self { databases, count: Mutex::default() }
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, keyspace: KeyspaceId) -> Option<RwLockReadGuard<'_, OfDatabase>> {
        let database = self.databases.get(keyspace.0 as usize)?;
        Some(database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, keyspace: KeyspaceId) -> Option<RwLockWriteGuard<'_, OfDatabase>> {
        let database = self.databases.get(keyspace.0 as usize)?;
        Some(database.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, store: &Store, keyspace: KeyspaceId, key: &[u8], flag: &Arc<Flag>) -> Result<()> {
        let Some(mut database) = self.change(keyspace) else {
            return Err(Refusal::NO_SUCH_DATABASE.into());
        };
        let mut count = self.count();
        if *count >= WATCHES_MAX {
            let message = format!("{WATCHES_MAX} keys are watched; end other watches first");
            return Err(Error::new(ErrorKind::TooManyWatches, message));
        }
        *count += 1;
        database.entry(key.into()).or_default().push(Arc::clone(flag));
        store.set_interest(Interest::MODIFICATIONS);
        Ok(())
    }

    fn remove(&self, store: &Store, keyspace: KeyspaceId, key: &[u8], flag: &Arc<Flag>) {
        let Some(mut database) = self.change(keyspace) else { return };
        if let Some(flags) = database.get_mut(key) {
            let before = flags.len();
            flags.retain(|it| !Arc::ptr_eq(it, flag));
            let mut count = self.count();
            *count -= before - flags.len();
            if *count == 0 {
                store.set_interest(Interest::NONE);
            }
            drop(count);
            if flags.is_empty() {
                database.remove(key);
            }
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        for number in 0..self.databases.len() {
            if let Some(database) = self.read(KeyspaceId(number as u32)) {
                tell_all(&database, Told::Closed);
            }
        }
    }
}

impl Observer for Watches {
    fn event(&self, _: Event, _: KeyspaceId, _: &[u8]) {}

    fn modified(&self, keyspace: KeyspaceId, key: &[u8], _: ClientId) {
        let Some(database) = self.read(keyspace) else { return };
        for flag in database.get(key).into_iter().flatten() {
            flag.tell(Told::Changed);
        }
    }

    fn flushed(&self, keyspace: Option<KeyspaceId>, _: ClientId) {
        let numbers = 0..self.databases.len() as u32;
        for number in numbers.map(KeyspaceId).filter(|it| keyspace.is_none_or(|of| of == *it)) {
            if let Some(database) = self.read(number) {
                tell_all(&database, Told::Changed);
            }
        }
    }
}

fn tell_all(database: &OfDatabase, told: Told) {
    database.values().flatten().for_each(|flag| flag.tell(told));
}

/// What a key held when it was looked at.
struct Held {
    value: Result<Option<Bytes>>,
    expire_at: Option<UnixMillis>,
}

/// Looks at the key; the error is one that ends the watch.
async fn look(kv: &Ferrokit, key: &[u8]) -> Result<Held> {
    let mut held = Held { value: Ok(None), expire_at: None };
    let mut visit = |entry: Entry<'_>| {
        let string = Value::decode(entry.value).as_string();
        held.value = string.map(|bytes| Some(owned(bytes))).ok_or(Refusal::WRONG_TYPE.into());
        held.expire_at = entry.expire_at;
    };
    run!(kv, db => db.peek(key, &mut visit))?;
    Ok(held)
}

/// Waits for the next change of a key; `None` once the store is closed.
async fn next_change(
    kv: Ferrokit,
    key: Bytes,
    flag: Arc<Flag>,
    mut expire_at: Option<UnixMillis>,
) -> Result<Option<Held>> {
    loop {
        let told = told_or_expired(&kv, &flag, expire_at).await;
        if matches!(told, Some(Told::Closed)) {
            return Ok(None);
        }
        let held = look(&kv, &key).await?;
        let has_expired = matches!(held.value, Ok(None));
        if told.is_some() || has_expired {
            return Ok(Some(held));
        }
        expire_at = held.expire_at;
    }
}

/// Waits until the flag tells something, or the time has come (`None`).
async fn told_or_expired(
    kv: &Ferrokit,
    flag: &Flag,
    expire_at: Option<UnixMillis>,
) -> Option<Told> {
    let mut expiry = expire_at.map(|at| {
        let left = at.0.saturating_sub(kv.now().0);
        kv.shared.store.env().timer.sleep(Duration::from_millis(left))
    });
    poll_fn(|cx| {
        if let Poll::Ready(told) = flag.poll(cx) {
            return Poll::Ready(Some(told));
        }
        match &mut expiry {
            Some(expiry) => expiry.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

type Waiting = Pin<Box<dyn Future<Output = Result<Option<Held>>> + Send>>;

/// What becomes of a key: a [`Stream`](futures_core::Stream) of the values it is given, `None` for
/// its removal, be it by expiry or because the database was flushed.
///
/// Each item is the key's value at a moment after a change, and durable. Changes that follow each
/// other faster than they are looked at come as one; the last state always comes. It ends when the
/// store is closed, and after an error of the engine. A key that is given a value of another type
/// comes as the error `WrongType`, and goes on being watched.
pub struct Watch {
    kv: Ferrokit,
    key: Bytes,
    flag: Arc<Flag>,
    expire_at: Option<UnixMillis>,
    waiting: Option<Waiting>,
    is_over: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Shared { store, watches, .. } = &*self.kv.shared;
        watches.remove(store, self.kv.keyspace, &self.key, &self.flag);
    }
}

impl Ferrokit {
    /// Watches a key: every change that begins after this has completed shows in the
    /// [`Watch`].
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// let mut watch = kv.watch("config").await?;
    /// kv.set("config", "new").await?;
    /// let changed = watch.next().await.transpose()?.flatten();
    /// assert_eq!(changed.as_deref(), Some(&b"new"[..]));
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `TooManyWatches`: there are 65,536 of this store already; those of the engine.
    pub async fn watch(&self, key: impl AsRef<[u8]> + Send) -> Result<Watch> {
        let key = owned(key.as_ref());
        let flag = Arc::new(Flag::default());
        self.shared.watches.add(&self.shared.store, self.keyspace, &key, &flag)?;
        let mut watch = Watch {
            kv: self.clone(),
            key: key.clone(),
            flag,
            expire_at: None,
            waiting: None,
            is_over: false,
        };
        // Whoever takes the key's lock from now on sees the watch.
        let keys = KeySet::of([(self.keyspace, &key[..])]);
        drop(Transaction::begin(&self.shared.store, keys).await);
        watch.expire_at = look(self, &key).await?.expire_at;
        Ok(watch)
    }
}

impl Watch {
    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The next change; see [`Watch`].
    pub async fn next(&mut self) -> Option<Result<Option<Bytes>>> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Option<Bytes>>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let (kv, key, flag) = (self.kv.clone(), self.key.clone(), Arc::clone(&self.flag));
            Box::pin(next_change(kv, key, flag, self.expire_at))
        });
        let change = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(match change {
            Ok(Some(held)) => {
                self.expire_at = held.expire_at;
                Some(held.value)
            }
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(error) => {
                self.is_over = true;
                (!error.is_closed()).then_some(Err(error))
            }
        })
    }
}

impl futures_core::Stream for Watch {
    type Item = Result<Option<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_change(cx)
    }
}
