//! [`Scan`]: the entries of a range of keys, in order.

use std::collections::VecDeque;
use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::sync::Arc;

use bytes::Bytes;
use ferrokit_engine::{
    Direction, Entry, Error as EngineError, KeyRange, KeyspaceId, ReadOptions, ScanLimits, Snapshot,
};
use ferrokit_redis::{Tally, Value};

use crate::chunks::{Chunk, Chunks, Fetch, stream_of_chunks};
use crate::error::Result;
use crate::handle::Ferrokit;
use crate::operations::owned;

/// Entries in a chunk, unless said otherwise.
const CHUNK_ENTRIES: usize = 256;
/// Key and value bytes in a chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// What a scan can range over: `..`, `"a".."b"`, `"a"..="b"`, `"a"..`, `.."b"`, a [`KeyRange`].
pub trait IntoKeyRange {
    /// The range of keys.
    fn into_key_range(self) -> KeyRange;
}

impl IntoKeyRange for KeyRange {
    fn into_key_range(self) -> KeyRange {
        self
    }
}

impl IntoKeyRange for RangeFull {
    fn into_key_range(self) -> KeyRange {
        KeyRange::ALL
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for Range<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange::half_open(self.start.as_ref(), self.end.as_ref())
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for RangeInclusive<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: included(self.start()), end: included(self.end()) }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for RangeFrom<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: included(&self.start), end: Bound::Unbounded }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for RangeTo<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: Bound::Unbounded, end: Bound::Excluded(self.end.as_ref().to_vec()) }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for RangeToInclusive<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: Bound::Unbounded, end: included(&self.end) }
    }
}

fn included(key: &impl AsRef<[u8]>) -> Bound<Vec<u8>> {
    Bound::Included(key.as_ref().to_vec())
}

/// What is scanned.
#[derive(Clone)]
pub(crate) enum Source {
    Live(Ferrokit),
    Snapshot(Arc<dyn Snapshot>, KeyspaceId),
}

#[derive(Clone)]
struct FetchEntries {
    source: Source,
    direction: Direction,
    limits: ScanLimits,
}

impl Fetch for FetchEntries {
    type Item = (Bytes, Bytes);
    type Cursor = KeyRange;

    async fn fetch(self, range: KeyRange) -> Result<Chunk<Self::Item, KeyRange>> {
        let mut entries = VecDeque::new();
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            if let Some(value) = Value::decode(entry.value).as_string() {
                entries.push_back((owned(key), owned(value)));
            }
        };
        let (direction, limits) = (self.direction, self.limits);
        let rest = match &self.source {
            Source::Live(kv) => {
                let mut tally = Tally::default();
                let scanned = kv.view(&mut tally).scan(&range, direction, limits, &mut visit).await;
                kv.settle(tally, scanned).await?.rest
            }
            Source::Snapshot(snapshot, keyspace) => {
                let ordered = snapshot.as_ordered().ok_or_else(|| no_order("snapshot"))?;
                let options = ReadOptions::default();
                ordered
                    .scan_with(*keyspace, &range, direction, limits, &options, &mut visit)
                    .await?
                    .rest
            }
        };
        Ok((entries, rest))
    }
}

#[cold]
fn no_order(engine: &str) -> EngineError {
    EngineError::unsupported("scan", format!("the keys of \"{engine}\" have no order; try keys()"))
}

/// Entries in the order of their keys, or against it: a [`Stream`](futures_core::Stream) of keys
/// and values.
///
/// They are read chunk by chunk as they are asked for. A chunk is a view of one moment; the scan of
/// a [`Snapshot`](crate::Snapshot) is one as a whole. Keys that hold no string are passed over.
pub struct Scan {
    chunks: Chunks<FetchEntries>,
}

stream_of_chunks!(Scan, (Bytes, Bytes));

impl Scan {
    pub(crate) fn new(source: Source, range: KeyRange) -> Self {
        let limits = ScanLimits { entries: CHUNK_ENTRIES, bytes: CHUNK_BYTES };
        let fetch = FetchEntries { source, direction: Direction::Forward, limits };
        Self { chunks: Chunks::new(fetch, range) }
    }

    /// The same scan from the greatest key down. To be said before the first entry is asked for;
    /// after it, what is left of the range is scanned in the other direction.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.chunks.fetch.direction = Direction::Backward;
        self
    }

    /// Reads so many entries at a time, at least one: few where only the first are wanted. 256
    /// unless said otherwise, and about 1 MiB at most.
    #[must_use]
    pub fn chunk_entries(mut self, entries: usize) -> Self {
        self.chunks.fetch.limits.entries = entries.max(1);
        self
    }
}

impl Ferrokit {
    /// The entries of a range of keys, in their order.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.mset([("a", "1"), ("b", "2"), ("c", "3")]).await?;
    /// let mut entries = kv.scan("a".."c")?;
    /// while let Some(entry) = entries.next().await {
    ///     let (key, value) = entry?;
    ///     println!("{key:?} {value:?}");
    /// }
    /// let last = kv.scan(..)?.reversed().chunk_entries(1).next().await.transpose()?;
    /// assert_eq!(last, Some(("c".into(), "3".into())));
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unsupported` where the engine's keys have no order: see [`keys`](Self::keys).
    pub fn scan(&self, range: impl IntoKeyRange) -> Result<Scan> {
        if self.engine().as_ordered().is_none() {
            return Err(no_order(self.capabilities().engine).into());
        }
        Ok(Scan::new(Source::Live(self.clone()), range.into_key_range()))
    }

    /// The entries whose keys begin with `prefix`, in their order.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Scan> {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }
}

impl crate::Snapshot {
    /// The entries of a range of keys, in their order, all of one moment.
    ///
    /// # Errors
    /// `Unsupported` where the engine's keys have no order.
    pub fn scan(&self, range: impl IntoKeyRange) -> Result<Scan> {
        if self.view.as_ordered().is_none() {
            return Err(no_order("snapshot").into());
        }
        let source = Source::Snapshot(Arc::clone(&self.view), self.keyspace);
        Ok(Scan::new(source, range.into_key_range()))
    }

    /// The entries whose keys begin with `prefix`, in their order, all of one moment.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Scan> {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }
}
