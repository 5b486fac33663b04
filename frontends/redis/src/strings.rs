//! Strings: GET, SET and their like.

use ferrokit_engine::{Entry, UnixMillis, Update};

use crate::db::Db;
use crate::decimal::{self, Number};
use crate::events::{Event, EventClass};
use crate::integer::{parse_integer, push_integer};
use crate::refusal::{Refusal, Result};
use crate::value::{StringWriter, Value, encode_string};

const SET: Event = Event::string("set");
const EXPIRE: Event = Event::generic("expire");
const PERSIST: Event = Event::generic("persist");
const DEL: Event = Event::generic("del");
const NEW: Event = Event::new(EventClass::NEW, "new");

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// NX: the key is absent.
    IfAbsent,
    /// XX: it is there.
    IfPresent,
}

/// What becomes of a key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// None from now on.
    #[default]
    Remove,
    /// As it is.
    Keep,
    /// The key expires then.
    At(UnixMillis),
}

impl Expiry {
    pub(crate) fn applied_to(self, current: Option<UnixMillis>) -> Option<UnixMillis> {
        match self {
            Self::Remove => None,
            Self::Keep => current,
            Self::At(at) => Some(at),
        }
    }
}

/// How SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetOptions {
    /// When.
    pub condition: Condition,
    /// Until when.
    pub expiry: Expiry,
    /// Whether the value before is asked for: it must be a string then.
    pub gets: bool,
}

/// What an edit of a string comes to, with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<T> {
    /// The key is left as it is.
    Keep(T),
    /// What was written is its new value; the expiry stays.
    Put(T),
    /// The key is removed.
    Delete(T),
}

/// A string as its key holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StringEntry<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When it expires, if ever.
    pub expire_at: Option<UnixMillis>,
}

impl<'a> StringEntry<'a> {
    /// The string of an entry.
    ///
    /// # Errors
    /// [`Refusal::WRONG_TYPE`].
    #[inline]
    pub fn of(entry: Entry<'a>) -> Result<Self> {
        let bytes = Value::decode(entry.value).as_string().ok_or(Refusal::WRONG_TYPE)?;
        Ok(Self { bytes, expire_at: entry.expire_at })
    }
}

impl Db<'_> {
    /// Lends the string of a key; whether it is there.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    #[inline]
    pub async fn get(&mut self, key: &[u8], mut visit: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let mut is_string = true;
        let mut visit = |entry: Entry<'_>| match Value::decode(entry.value).as_string() {
            Some(bytes) => visit(bytes),
            None => is_string = false,
        };
        let is_there = self.read(key, &mut visit).await?;
        self.looked_up(key, is_there);
        if is_string { Ok(is_there) } else { Err(Refusal::WRONG_TYPE) }
    }

    /// Stores a string, whatever the key held.
    ///
    /// # Errors
    /// Those of the engine.
    #[inline]
    pub async fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        expire_at: Option<UnixMillis>,
    ) -> Result<()> {
        let mut scratch = Vec::new();
        let stored = encode_string(value, &mut scratch);
        let asks = self.tells_of_new_keys();
        let existed = self.put_stored(key, stored, expire_at, asks).await?;
        if existed == Some(false) {
            self.notify(NEW, key);
        }
        self.happened(SET, key);
        if expire_at.is_some() {
            self.notify(EXPIRE, key);
        }
        Ok(())
    }

    /// SET with its options: whether it wrote. With `gets`, `visit` is lent the string before, the
    /// last time counting.
    ///
    /// # Errors
    /// `WRONG_TYPE` with `gets`; those of the engine.
    pub async fn set_with(
        &mut self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
        mut visit: impl FnMut(Option<&[u8]>) + Send,
    ) -> Result<bool> {
        let mut outcome = Ok(false);
        let mut existed = false;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            existed = current.is_some();
            if options.gets {
                match current.map(StringEntry::of).transpose() {
                    Ok(before) => visit(before.map(|before| before.bytes)),
                    Err(refusal) => {
                        outcome = Err(refusal);
                        return Update::Keep;
                    }
                }
            }
            let is_set = match options.condition {
                Condition::Always => true,
                Condition::IfAbsent => current.is_none(),
                Condition::IfPresent => current.is_some(),
            };
            outcome = Ok(is_set);
            if !is_set {
                return Update::Keep;
            }
            let mut writer = StringWriter::new(out, false);
            writer.extend(value);
            writer.finish();
            let kept = current.and_then(|entry| entry.expire_at);
            Update::Put { expire_at: options.expiry.applied_to(kept) }
        };
        self.update(key, &mut change).await?;
        if options.gets {
            self.looked_up(key, existed);
        }
        let is_set = outcome?;
        if is_set {
            if !existed {
                self.notify(NEW, key);
            }
            self.happened(SET, key);
            if matches!(options.expiry, Expiry::At(_)) {
                self.notify(EXPIRE, key);
            }
        }
        Ok(is_set)
    }

    /// GETDEL: lends the string of a key and removes it; whether it was there.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn get_del(
        &mut self,
        key: &[u8],
        mut visit: impl FnMut(Option<&[u8]>) + Send,
    ) -> Result<bool> {
        let mut outcome = Ok(false);
        let mut change = |current: Option<Entry<'_>>, _: &mut Vec<u8>| {
            let current = current.map(StringEntry::of).transpose();
            if let Ok(before) = &current {
                visit(before.map(|before| before.bytes));
            }
            outcome = current.map(|before| before.is_some());
            if matches!(outcome, Ok(true)) { Update::Delete } else { Update::Keep }
        };
        self.update(key, &mut change).await?;
        let was_there = outcome?;
        self.looked_up(key, was_there);
        if was_there {
            self.happened(DEL, key);
        }
        Ok(was_there)
    }

    /// GETEX: lends the string of a key and changes its expiry; whether it is there. A time that
    /// has passed removes the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn get_ex(
        &mut self,
        key: &[u8],
        expiry: Expiry,
        mut visit: impl FnMut(Option<&[u8]>) + Send,
    ) -> Result<bool> {
        let now = self.store().now();
        let mut outcome = Ok(false);
        let mut event = None;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            event = None;
            let before = match current.map(StringEntry::of).transpose() {
                Ok(before) => before,
                Err(refusal) => {
                    outcome = Err(refusal);
                    return Update::Keep;
                }
            };
            visit(before.map(|before| before.bytes));
            outcome = Ok(before.is_some());
            let (Some(entry), Some(before)) = (current, before) else { return Update::Keep };
            let expire_at = expiry.applied_to(before.expire_at);
            if expire_at == before.expire_at && !matches!(expiry, Expiry::At(_)) {
                return Update::Keep;
            }
            if Entry::is_expired_at(expire_at, now) {
                event = Some(DEL);
                return Update::Delete;
            }
            event = Some(if expire_at.is_some() { EXPIRE } else { PERSIST });
            out.extend_from_slice(entry.value);
            Update::Put { expire_at }
        };
        self.update(key, &mut change).await?;
        let is_there = outcome?;
        self.looked_up(key, is_there);
        if let Some(event) = event {
            self.happened(event, key);
        }
        Ok(is_there)
    }

    /// Edits a string in one atomic step: `edit` is given the present one, writes the new one if it
    /// wants to, and says which. It may run more than once, the last time counts. Tells nobody: see
    /// [`happened`](Self::happened).
    ///
    /// # Errors
    /// `WRONG_TYPE`, those of `edit` (nothing is changed then), those of the engine.
    pub async fn edit_string<T: Send>(
        &mut self,
        key: &[u8],
        mut edit: impl FnMut(Option<&[u8]>, &mut StringWriter<'_>) -> Result<Edit<T>> + Send,
    ) -> Result<T> {
        let mut outcome = None;
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            let mut writer = StringWriter::new(out, true);
            let edited = current.map(StringEntry::of).transpose().and_then(|before| {
                let bytes = before.map(|before| before.bytes);
                Ok((edit(bytes, &mut writer)?, before.and_then(|before| before.expire_at)))
            });
            writer.finish();
            let (answer, update) = match edited {
                Ok((Edit::Keep(answer), _)) => (Ok(answer), Update::Keep),
                Ok((Edit::Put(answer), expire_at)) => (Ok(answer), Update::Put { expire_at }),
                Ok((Edit::Delete(answer), _)) => (Ok(answer), Update::Delete),
                Err(refusal) => (Err(refusal), Update::Keep),
            };
            outcome = Some(answer);
            update
        };
        self.update(key, &mut change).await?;
        outcome.unwrap_or_else(|| Err(Refusal::text("ERR the engine did not look at the key")))
    }

    /// APPEND: the new length.
    ///
    /// # Errors
    /// `WRONG_TYPE`, `TOO_LONG`; those of the engine.
    pub async fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<usize> {
        let limit = self.store().string_bytes_max();
        let mut was_absent = false;
        let len = self
            .edit_string(key, |before, out| {
                was_absent = before.is_none();
                if was_absent {
                    out.begin_new();
                }
                let before = before.unwrap_or_default();
                if before.len() + suffix.len() > limit {
                    return Err(Refusal::TOO_LONG);
                }
                out.extend(before);
                out.extend(suffix);
                Ok(Edit::Put(out.len()))
            })
            .await?;
        if was_absent {
            self.notify(NEW, key);
        }
        self.happened(Event::string("append"), key);
        Ok(len)
    }

    /// SETRANGE: the new length. Without bytes to write nothing is changed.
    ///
    /// # Errors
    /// `WRONG_TYPE`, `TOO_LONG`; those of the engine.
    pub async fn set_range(&mut self, key: &[u8], offset: usize, bytes: &[u8]) -> Result<usize> {
        let limit = self.store().string_bytes_max();
        let (len, is_changed) = self
            .edit_string(key, |before, out| {
                let before = before.unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(Edit::Keep((before.len(), false)));
                }
                let end = offset.checked_add(bytes.len()).filter(|end| *end <= limit);
                let end = end.ok_or(Refusal::TOO_LONG)?;
                out.extend(before);
                out.resize(end.max(before.len()));
                if let Some(place) = out.bytes().get_mut(offset..end) {
                    place.copy_from_slice(bytes);
                }
                Ok(Edit::Put((out.len(), true)))
            })
            .await?;
        if is_changed {
            self.happened(Event::string("setrange"), key);
        }
        Ok(len)
    }

    /// STRLEN; 0 without the key.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn strlen(&mut self, key: &[u8]) -> Result<usize> {
        let mut len = 0;
        self.get(key, |bytes| len = bytes.len()).await?;
        Ok(len)
    }

    /// GETRANGE: lends the bytes from `start` to `end`, both included, negative ones counting from
    /// the end; of no key, no bytes.
    ///
    /// # Errors
    /// `WRONG_TYPE`; those of the engine.
    pub async fn get_range(
        &mut self,
        key: &[u8],
        start: i64,
        end: i64,
        mut visit: impl FnMut(&[u8]) + Send,
    ) -> Result<()> {
        if !self.get(key, |bytes| visit(range(bytes, start, end))).await? {
            visit(b"");
        }
        Ok(())
    }

    /// INCRBY and its like: the sum.
    ///
    /// # Errors
    /// `WRONG_TYPE`, `NOT_AN_INTEGER`, an overflow; those of the engine.
    pub async fn incr_by(&mut self, key: &[u8], delta: i64) -> Result<i64> {
        let mut outcome = Err(Refusal::NOT_AN_INTEGER);
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            outcome = current.map(StringEntry::of).transpose().and_then(|before| {
                let before = before.map_or(Some(0), |before| parse_integer(before.bytes));
                before.ok_or(Refusal::NOT_AN_INTEGER)?.checked_add(delta).ok_or(Refusal::OVERFLOW)
            });
            match &outcome {
                Ok(sum) => push_integer(out, *sum),
                Err(_) => return Update::Keep,
            }
            Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
        };
        self.update(key, &mut change).await?;
        let sum = outcome?;
        self.happened(Event::string("incrby"), key);
        Ok(sum)
    }

    /// INCRBYFLOAT: the sum, as it is stored.
    ///
    /// # Errors
    /// `WRONG_TYPE`, `NOT_A_FLOAT`, an overflow; those of the engine.
    pub async fn incr_by_float(&mut self, key: &[u8], delta: Number) -> Result<String> {
        let mut outcome = Err(Refusal::NOT_A_FLOAT);
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            outcome = current.map(StringEntry::of).transpose().and_then(|before| {
                let before =
                    before.map_or(Some(Number::Fixed(0)), |before| Number::parse(before.bytes));
                decimal::add(before.ok_or(Refusal::NOT_A_FLOAT)?, delta).ok_or(Refusal::NOT_FINITE)
            });
            match &outcome {
                Ok(sum) => out.extend_from_slice(sum.as_bytes()),
                Err(_) => return Update::Keep,
            }
            Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
        };
        self.update(key, &mut change).await?;
        let sum = outcome?;
        self.happened(Event::string("incrbyfloat"), key);
        Ok(sum)
    }

    /// MSET, or with `only_if_absent` MSETNX: whether it wrote. All keys change at once, or none.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn set_many(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        only_if_absent: bool,
    ) -> Result<bool> {
        let locked = self.key_set(pairs.iter().map(|(key, _)| *key));
        let mut scope = self.begin(locked).await;
        let mut db = self.within(&mut scope);
        if only_if_absent {
            for (key, _) in pairs {
                if db.peek(key, &mut |_| {}).await? {
                    return Ok(false);
                }
            }
        }
        // Inside a transaction that goes on nothing may be written of what fails.
        if let Some((key, _)) = pairs.iter().find(|(key, _)| db.store.is_too_long(key)) {
            return Err(db.store.too_long(key));
        }
        for (key, value) in pairs {
            db.set(key, value, None).await?;
        }
        self.commit(scope).await?;
        Ok(true)
    }
}

/// The bytes from `start` to `end`, both included; negative ones count from the end.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_end = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end {
        return b"";
    }
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    value.get(start..=end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_count_from_either_end() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-1, -3, ""),
            (-100, 1, "Th"),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(range(b"This is a string", start, end), expected.as_bytes());
        }
        assert_eq!(range(b"", 0, -1), b"");
        assert_eq!(range(b"", i64::MIN, i64::MIN), b"");
    }
}
