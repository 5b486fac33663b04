//! [`Keys`]: the keys of a database, in no order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ferrokit_engine::{Entry, ReadOptions, SweepCursor};
use ferrokit_redis::{Tally, glob};

use crate::chunks::{Chunk, Chunks, Fetch, stream_of_chunks};
use crate::error::Result;
use crate::handle::Ferrokit;
use crate::operations::owned;
use crate::scan::Source;

/// Keys in a chunk.
const CHUNK_KEYS: usize = 256;

#[derive(Clone)]
struct FetchKeys {
    source: Source,
    pattern: Option<Bytes>,
}

impl Fetch for FetchKeys {
    type Item = Bytes;
    type Cursor = SweepCursor;

    async fn fetch(self, cursor: SweepCursor) -> Result<Chunk<Bytes, SweepCursor>> {
        let mut keys = VecDeque::new();
        let pattern = self.pattern.as_deref();
        let mut visit = |key: &[u8], _: Entry<'_>| {
            if pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
                keys.push_back(owned(key));
            }
        };
        let next = match &self.source {
            Source::Live(kv) => {
                let mut tally = Tally::default();
                let swept = kv.view(&mut tally).sweep(&cursor, CHUNK_KEYS, &mut visit).await;
                kv.settle(tally, swept).await?.next
            }
            Source::Snapshot(snapshot, keyspace) => {
                let options = ReadOptions::default();
                snapshot.sweep(*keyspace, &cursor, CHUNK_KEYS, &options, &mut visit).await?.next
            }
        };
        Ok((keys, next))
    }
}

/// The keys of a database, in an order of the engine's own: a [`Stream`](futures_core::Stream).
///
/// A key that is there from the beginning to the end comes at least once, possibly more often; one
/// that is new or removed meanwhile comes or does not. It ends even under constant writes.
pub struct Keys {
    chunks: Chunks<FetchKeys>,
}

stream_of_chunks!(Keys, Bytes);

impl Keys {
    fn new(source: Source) -> Self {
        let fetch = FetchKeys { source, pattern: None };
        Self { chunks: Chunks::new(fetch, SweepCursor::start()) }
    }

    /// Only keys that match a glob pattern of Redis: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`.
    #[must_use]
    pub fn matching(mut self, pattern: impl Into<Bytes>) -> Self {
        self.chunks.fetch.pattern = Some(pattern.into());
        self
    }
}

impl Ferrokit {
    /// The keys of the database, on any engine, in no order.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.mset([("user:1", "ada"), ("user:2", "bob"), ("visits", "7")]).await?;
    /// let mut users = kv.keys().matching("user:*");
    /// while let Some(key) = users.next().await {
    ///     println!("{:?}", key?);
    /// }
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    pub fn keys(&self) -> Keys {
        Keys::new(Source::Live(self.clone()))
    }
}

impl crate::Snapshot {
    /// The keys of the database at that moment, in no order.
    pub fn keys(&self) -> Keys {
        Keys::new(Source::Snapshot(Arc::clone(&self.view), self.keyspace))
    }
}
