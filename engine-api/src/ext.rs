//! [`KvEngineExt`]: what callers write every day, over the contract's few methods.

use std::future::Future;

use crate::engine::KvEngine;
use crate::entry::{Entry, KeyspaceId, UnixMillis, Update};
use crate::error::{Error, Result};
use crate::options::{ReadOptions, WriteOptions};
use crate::ordered::{Direction, KeyRange, ScanLimits};

/// An owned entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// The value.
    pub value: Vec<u8>,
    /// When the entry ceases to exist, if ever.
    pub expire_at: Option<UnixMillis>,
}

/// Sugar over [`KvEngine`], for every engine.
pub trait KvEngineExt: KvEngine {
    /// The value of `key`.
    fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send {
        async move { Ok(self.get_entry(keyspace, key).await?.map(|entry| entry.value)) }
    }

    /// The value and expiry of `key`.
    fn get_entry(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<OwnedEntry>>> + Send {
        async move {
            let mut found = None;
            let mut visit = |entry: Entry<'_>| {
                found =
                    Some(OwnedEntry { value: entry.value.to_vec(), expire_at: entry.expire_at });
            };
            self.get_with(keyspace, key, &ReadOptions::default(), &mut visit).await?;
            Ok(found)
        }
    }

    /// The values of `keys`, in their order.
    fn get_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>>> + Send {
        async move {
            let mut found = vec![None; keys.len()];
            let mut visit = |index: usize, entry: Entry<'_>| {
                if let Some(slot) = found.get_mut(index) {
                    *slot = Some(entry.value.to_vec());
                }
            };
            self.get_many_with(keyspace, keys, &ReadOptions::default(), &mut visit).await?;
            Ok(found)
        }
    }

    /// Whether `key` is present.
    fn contains(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let mut visit = |_: Entry<'_>| {};
            let seen = self.get_with(keyspace, key, &ReadOptions::default(), &mut visit).await?;
            Ok(seen.found > 0)
        }
    }

    /// Stores a value that does not expire, with the default options: durable on completion.
    fn set(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
    ) -> impl Future<Output = Result<()>> + Send {
        async move { self.put(keyspace, key, value, None, &WriteOptions::default()).await.map(|_| ()) }
    }

    /// Removes a key and tells whether it was there.
    fn remove(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let options = WriteOptions::default().reporting_existed();
            Ok(self.delete(keyspace, key, &options).await?.existed.unwrap_or(false))
        }
    }

    /// Adds `delta` to the decimal number at `key` (absent counts as 0), keeping its expiry.
    ///
    /// # Errors
    /// `InvalidArgument` if the value is no number or the sum overflows; nothing changes then.
    fn incr(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        delta: i64,
        options: &WriteOptions,
    ) -> impl Future<Output = Result<i64>> + Send {
        let options = *options;
        async move {
            let mut sum = Ok(0);
            let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
                sum = parse_i64(current.map_or(b"0", |entry| entry.value)).and_then(|number| {
                    number.checked_add(delta).ok_or_else(|| Error::invalid("incr", "overflow"))
                });
                match &sum {
                    Ok(number) => {
                        out.extend_from_slice(number.to_string().as_bytes());
                        Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
                    }
                    Err(_) => Update::Keep,
                }
            };
            self.update(keyspace, key, &options, &mut change).await?;
            sum.map_err(|error: Error| error.with_key(key))
        }
    }

    /// All entries of a range in key order, collected in chunks. One consistent view per chunk.
    ///
    /// # Errors
    /// `Unsupported` where keys are not ordered.
    fn scan(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
    ) -> impl Future<Output = Result<Vec<(Vec<u8>, Vec<u8>)>>> + Send {
        async move {
            let ordered = self.as_ordered().ok_or_else(|| {
                Error::unsupported("scan", "this engine keeps its keys in no order")
            })?;
            let mut entries = Vec::new();
            let mut rest = Some(range.clone());
            while let Some(range) = rest {
                let mut visit = |key: &[u8], entry: Entry<'_>| {
                    entries.push((key.to_vec(), entry.value.to_vec()));
                };
                let scanned = ordered
                    .scan_with(
                        keyspace,
                        &range,
                        direction,
                        ScanLimits::entries(1024),
                        &ReadOptions::default(),
                        &mut visit,
                    )
                    .await?;
                rest = scanned.rest;
            }
            Ok(entries)
        }
    }
}

impl<E: KvEngine + ?Sized> KvEngineExt for E {}

fn parse_i64(bytes: &[u8]) -> Result<i64> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::invalid("incr", "the value is not a 64-bit decimal number"))
}
