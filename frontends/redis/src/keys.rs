//! Keys of any type: DEL, EXISTS, RENAME, COPY, EXPIRE and their like.

use ferrokit_engine::{Entry, KeyspaceId, UnixMillis, Update};

use crate::db::{Db, ManyVisitor};
use crate::events::{Event, EventClass};
use crate::refusal::{Refusal, Result};
use crate::stripes::KeyHash;
use crate::transaction::KeySet;
use crate::value::{Type, Value};

const DEL: Event = Event::generic("del");

/// When EXPIRE changes an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpireConditions {
    /// NX: there is none.
    pub absent: bool,
    /// XX: there is one.
    pub present: bool,
    /// GT: the new one is later; none is latest.
    pub later: bool,
    /// LT: the new one is earlier.
    pub earlier: bool,
}

impl ExpireConditions {
    fn hold(self, current: Option<UnixMillis>, new: UnixMillis) -> bool {
        !(self.absent && current.is_some()
            || self.present && current.is_none()
            || self.later && current.is_none_or(|current| new <= current)
            || self.earlier && current.is_some_and(|current| new >= current))
    }
}

/// What is known of a key without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its type; `None` for one of a newer version.
    pub kind: Option<Type>,
    /// What OBJECT ENCODING answers.
    pub encoding: &'static str,
    /// When it expires, if ever.
    pub expire_at: Option<UnixMillis>,
    /// Bytes of the stored value.
    pub value_bytes: usize,
}

/// Counts the keys that are there.
struct Counting(usize);

impl ManyVisitor for Counting {
    fn restart(&mut self) {
        self.0 = 0;
    }

    fn visit(&mut self, _: usize, _: Entry<'_>) {
        self.0 += 1;
    }
}

/// An entry that is copied.
struct Copied {
    value: Vec<u8>,
    expire_at: Option<UnixMillis>,
}

impl Db<'_> {
    /// DEL and UNLINK: how many keys were there. Several are removed at once.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn delete(&mut self, keys: &[&[u8]]) -> Result<usize> {
        if let [key] = keys {
            return self.delete_one(key).await.map(usize::from);
        }
        let locked = self.key_set(keys.iter().copied());
        let mut scope = self.begin(locked).await;
        let mut db = self.within(&mut scope);
        let mut deleted = 0;
        for key in keys {
            deleted += usize::from(db.delete_one(key).await?);
        }
        self.commit(scope).await?;
        Ok(deleted)
    }

    async fn delete_one(&mut self, key: &[u8]) -> Result<bool> {
        let existed = self.remove(key).await?;
        if existed {
            self.happened(DEL, key);
        }
        Ok(existed)
    }

    /// EXISTS: how many of the keys are there; one that is given twice counts twice. With
    /// `touches` (TOUCH) that is an access.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn exist(&mut self, keys: &[&[u8]], touches: bool) -> Result<usize> {
        let mut counting = Counting(0);
        let mut quiet = self.at(self.keyspace);
        quiet.set_touching(touches);
        quiet.read_many(keys, &mut counting).await?;
        let found = counting.0.min(keys.len());
        self.tally().hits += found as u64;
        self.tally().misses += (keys.len() - found) as u64;
        Ok(found)
    }

    /// What is known of a key; `None` if it is not there. Not taken for an access.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn key_info(&mut self, key: &[u8]) -> Result<Option<KeyInfo>> {
        let mut info = None;
        let mut visit = |entry: Entry<'_>| {
            let value = Value::decode(entry.value);
            info = Some(KeyInfo {
                kind: value.kind(),
                encoding: value.encoding(),
                expire_at: entry.expire_at,
                value_bytes: entry.value.len(),
            });
        };
        self.peek(key, &mut visit).await?;
        Ok(info)
    }

    /// Seconds since the last access of a key that is there: an estimate, never too high.
    pub fn idle_secs(&self, key: &[u8]) -> u32 {
        let store = self.store();
        store.accesses.idle_secs(KeyHash::of(self.keyspace, key), store.second())
    }

    /// The logarithmic count of a key's accesses, where they are counted.
    pub fn frequency(&self, key: &[u8]) -> Option<u8> {
        let store = self.store();
        let options = store.frequency_counting()?;
        Some(store.accesses.frequency(KeyHash::of(self.keyspace, key), store.second(), options))
    }

    /// Says since when a key is idle, or how often it was used (RESTORE).
    pub fn set_access(&self, key: &[u8], idle_secs: u32, frequency: Option<u8>) {
        let store = self.store();
        let second = store.second().wrapping_sub(idle_secs);
        store.accesses.set(KeyHash::of(self.keyspace, key), second, frequency);
    }

    /// EXPIRE and its like: whether the expiry was changed. A time that has passed removes the key.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn expire(
        &mut self,
        key: &[u8],
        at: UnixMillis,
        conditions: ExpireConditions,
    ) -> Result<bool> {
        let now = self.store().now();
        let mut is_set = false;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            is_set = current.is_some_and(|entry| conditions.hold(entry.expire_at, at));
            match current {
                Some(_) if is_set && at <= now => Update::Delete,
                Some(entry) if is_set => {
                    out.extend_from_slice(entry.value);
                    Update::Put { expire_at: Some(at) }
                }
                _ => Update::Keep,
            }
        };
        self.update(key, &mut change).await?;
        if is_set {
            self.happened(if at <= now { DEL } else { Event::generic("expire") }, key);
        }
        Ok(is_set)
    }

    /// PERSIST: whether the key had an expiry.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn persist(&mut self, key: &[u8]) -> Result<bool> {
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| match current
            .filter(|entry| entry.expire_at.is_some())
        {
            Some(entry) => {
                out.extend_from_slice(entry.value);
                Update::Put { expire_at: None }
            }
            None => Update::Keep,
        };
        let had_expiry = self.update(key, &mut change).await?;
        if had_expiry {
            self.happened(Event::generic("persist"), key);
        }
        Ok(had_expiry)
    }

    /// The expiry of a key: `None` without the key, `Some(None)` without an expiry.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn expire_time(&mut self, key: &[u8]) -> Result<Option<Option<UnixMillis>>> {
        let mut expire_at = None;
        let is_there = self.peek(key, &mut |entry: Entry<'_>| expire_at = entry.expire_at).await?;
        self.looked_up(key, is_there);
        Ok(is_there.then_some(expire_at))
    }

    async fn copy_out(&mut self, key: &[u8]) -> Result<Option<Copied>> {
        let mut copied = None;
        let mut visit = |entry: Entry<'_>| {
            copied = Some(Copied { value: entry.value.to_vec(), expire_at: entry.expire_at });
        };
        self.read(key, &mut visit).await?;
        Ok(copied)
    }

    /// RENAME, or with `only_if_absent` RENAMENX: whether it happened.
    ///
    /// # Errors
    /// `NO_SUCH_KEY`; those of the engine.
    pub async fn rename(&mut self, from: &[u8], to: &[u8], only_if_absent: bool) -> Result<bool> {
        let mut scope = self.begin(self.key_set([from, to])).await;
        let mut db = self.within(&mut scope);
        let copied = db.copy_out(from).await?.ok_or(Refusal::NO_SUCH_KEY)?;
        if from == to {
            return Ok(!only_if_absent);
        }
        if only_if_absent && db.peek(to, &mut |_| {}).await? {
            return Ok(false);
        }
        db.put_stored(to, &copied.value, copied.expire_at, false).await?;
        db.remove(from).await?;
        db.happened(Event::generic("rename_from"), from);
        db.happened(Event::generic("rename_to"), to);
        self.commit(scope).await?;
        Ok(true)
    }

    /// COPY: whether it happened; not if the destination is there, unless it `replaces`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn copy(
        &mut self,
        from: &[u8],
        to: (KeyspaceId, &[u8]),
        replaces: bool,
    ) -> Result<bool> {
        let (to_keyspace, to) = to;
        let locked = KeySet::of([(self.keyspace, from), (to_keyspace, to)]);
        let mut scope = self.begin(locked).await;
        let mut db = self.within(&mut scope);
        let Some(copied) = db.copy_out(from).await? else { return Ok(false) };
        let mut destination = db.at(to_keyspace);
        if !replaces && destination.peek(to, &mut |_| {}).await? {
            return Ok(false);
        }
        destination.put_stored(to, &copied.value, copied.expire_at, false).await?;
        destination.happened(Event::generic("copy_to"), to);
        self.commit(scope).await?;
        Ok(true)
    }

    /// MOVE: whether it happened; not if the key is in the other database already.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn move_to(&mut self, key: &[u8], keyspace: KeyspaceId) -> Result<bool> {
        let locked = KeySet::of([(self.keyspace, key), (keyspace, key)]);
        let mut scope = self.begin(locked).await;
        let mut db = self.within(&mut scope);
        let Some(copied) = db.copy_out(key).await? else { return Ok(false) };
        if db.at(keyspace).peek(key, &mut |_| {}).await? {
            return Ok(false);
        }
        let mut destination = db.at(keyspace);
        destination.put_stored(key, &copied.value, copied.expire_at, false).await?;
        db.remove(key).await?;
        db.happened(Event::generic("move_from"), key);
        db.at(keyspace).happened(Event::generic("move_to"), key);
        self.commit(scope).await?;
        Ok(true)
    }

    /// Stores a value as another store wrote it (RESTORE, SORT's STORE): whether it happened; not
    /// if the key is there, unless it `replaces`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn put_value(
        &mut self,
        key: &[u8],
        stored: &[u8],
        expire_at: Option<UnixMillis>,
        replaces: bool,
        event: Event,
    ) -> Result<bool> {
        let mut is_put = false;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            is_put = replaces || current.is_none();
            if !is_put {
                return Update::Keep;
            }
            out.extend_from_slice(stored);
            Update::Put { expire_at }
        };
        self.update(key, &mut change).await?;
        if is_put {
            self.notify(Event::new(EventClass::NEW, "new"), key);
            self.happened(event, key);
        }
        Ok(is_put)
    }
}
