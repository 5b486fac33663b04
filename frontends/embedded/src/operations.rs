//! Operations of a view, with owned answers: what a handle and a transaction have in common.

use bytes::Bytes;
use ferrokit_engine::Entry;
use ferrokit_redis::{Db, Expiry, ManyVisitor, Refusal, Result, Rewrite, Value};

use crate::options::{SetOptions, SetOutcome, Swap, Ttl, Update};

pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(crate) async fn get(db: &mut Db<'_>, key: &[u8]) -> Result<Option<Bytes>> {
    let mut value = None;
    db.get(key, |bytes| value = Some(owned(bytes))).await?;
    Ok(value)
}

pub(crate) async fn set_with(
    db: &mut Db<'_>,
    key: &[u8],
    value: &[u8],
    options: SetOptions,
) -> Result<SetOutcome> {
    let options = options.resolved(db.store().now());
    let mut previous = None;
    let is_set = db.set_with(key, value, &options, |before| previous = before.map(owned)).await?;
    Ok(SetOutcome { is_set, previous })
}

/// Gathers the strings of several keys; of another type it finds none.
struct Strings(Vec<Option<Bytes>>);

impl ManyVisitor for Strings {
    fn restart(&mut self) {
        self.0.iter_mut().for_each(|value| *value = None);
    }

    fn visit(&mut self, index: usize, entry: Entry<'_>) {
        if let Some(value) = self.0.get_mut(index) {
            *value = Value::decode(entry.value).as_string().map(owned);
        }
    }
}

pub(crate) async fn mget(db: &mut Db<'_>, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
    let mut strings = Strings(vec![None; keys.len()]);
    let found = db.read_many(keys, &mut strings).await?;
    db.looked_up_many(keys.len(), found);
    Ok(strings.0)
}

pub(crate) async fn ttl(db: &mut Db<'_>, key: &[u8]) -> Result<Ttl> {
    let expire_time = db.expire_time(key).await?;
    let now = db.store().now();
    Ok(match expire_time {
        None => Ttl::Absent,
        Some(None) => Ttl::Forever,
        Some(Some(at)) => Ttl::Left(std::time::Duration::from_millis(at.0.saturating_sub(now.0))),
    })
}

pub(crate) async fn get_range(db: &mut Db<'_>, key: &[u8], start: i64, end: i64) -> Result<Bytes> {
    let mut part = Bytes::new();
    db.get_range(key, start, end, |bytes| part = owned(bytes)).await?;
    Ok(part)
}

pub(crate) async fn incr_by_float(db: &mut Db<'_>, key: &[u8], delta: f64) -> Result<f64> {
    // In decimals, as Redis reads it: 0.1 is a tenth.
    let text = delta.to_string();
    let delta = ferrokit_redis::decimal::Number::parse(text.as_bytes());
    let sum = db.incr_by_float(key, delta.ok_or(Refusal::NOT_A_FLOAT)?).await?;
    sum.parse().map_err(|_| Refusal::NOT_FINITE)
}

/// Rewrites a string by `change`; the value after it.
pub(crate) async fn update(
    db: &mut Db<'_>,
    key: &[u8],
    mut change: impl FnMut(Option<&[u8]>) -> Update + Send,
) -> Result<Option<Bytes>> {
    let mut after = None;
    db.rewrite_string(key, |current, out| {
        let current = current.map(|current| current.bytes);
        let (value, expiry) = match change(current) {
            Update::Keep => {
                after = current.map(owned);
                return Ok(Rewrite::Keep);
            }
            Update::Delete => {
                after = None;
                return Ok(Rewrite::Delete);
            }
            Update::Set(value) => (value, Expiry::Keep),
            Update::SetUntil(value, at) => (value, Expiry::At(at)),
        };
        out.extend(&value);
        after = Some(value);
        Ok(Rewrite::Put(expiry))
    })
    .await?;
    Ok(after)
}

pub(crate) async fn compare_and_swap(
    db: &mut Db<'_>,
    key: &[u8],
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Result<Swap> {
    let mut swap = Swap::Done;
    db.rewrite_string(key, |current, out| {
        let current = current.map(|current| current.bytes);
        if current != expected {
            swap = Swap::Found(current.map(owned));
            return Ok(Rewrite::Keep);
        }
        swap = Swap::Done;
        Ok(match new {
            Some(new) => {
                out.extend(new);
                Rewrite::Put(Expiry::Keep)
            }
            None if current.is_some() => Rewrite::Delete,
            None => Rewrite::Keep,
        })
    })
    .await?;
    Ok(swap)
}

pub(crate) async fn get_del(db: &mut Db<'_>, key: &[u8]) -> Result<Option<Bytes>> {
    let mut value = None;
    db.get_del(key, |before| value = before.map(owned)).await?;
    Ok(value)
}
