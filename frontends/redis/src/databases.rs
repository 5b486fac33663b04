//! Whole databases: FLUSHDB, SWAPDB, DBSIZE, and sweeps and scans over their keys.

use std::future::poll_fn;
use std::task::Poll;

use ferrokit_engine::{
    Direction, Entry, Error, ErrorKind, KeyRange, KeyspaceId, KeyspaceLen, ReadOptions, ScanLimits,
    Scanned, SweepCursor, Swept,
};

use crate::db::Db;
use crate::glob;
use crate::refusal::{Refusal, Result};
use crate::transaction::KeySet;

/// Entries visited before others get a turn.
const SWEEP_BUDGET: usize = 1000;
/// Entries of which RANDOMKEY chooses one.
const RANDOM_SAMPLE: usize = 64;

impl Db<'_> {
    /// FLUSHDB: removes all keys of this database, at once.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn flush(&mut self) -> Result<()> {
        let keyspace = self.keyspace;
        self.flush_databases(&[keyspace]).await?;
        self.store().tell_flushed(Some(keyspace), self.client);
        Ok(())
    }

    /// FLUSHALL: removes all keys of all databases, database after database, each at once. No
    /// writer comes in between.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn flush_all(&mut self) -> Result<()> {
        let all: Vec<KeyspaceId> = (0..self.store().databases()).map(KeyspaceId).collect();
        self.flush_databases(&all).await?;
        self.store().tell_flushed(None, self.client);
        Ok(())
    }

    async fn flush_databases(&mut self, databases: &[KeyspaceId]) -> Result<()> {
        let mut scope = self.begin(KeySet::all()).await;
        let mut db = self.within(&mut scope);
        db.spill().await?;
        for &keyspace in databases {
            db.touch_watched(keyspace, None).await?;
            db.note_written();
            let store = db.store();
            let options = db.write_options();
            let written = store.engine().clear_keyspace(keyspace, &options).await?;
            store.expiries.forget_round(keyspace);
            db.tally().join(written.ticket);
            db.tally().changes += 1;
        }
        self.commit(scope).await
    }

    /// SWAPDB: exchanges two databases, at once.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn swap(&mut self, a: KeyspaceId, b: KeyspaceId) -> Result<()> {
        let mut scope = self.begin(KeySet::all()).await;
        let mut db = self.within(&mut scope);
        db.spill().await?;
        db.touch_watched(a, Some(b)).await?;
        db.touch_watched(b, Some(a)).await?;
        db.note_written();
        let store = db.store();
        let written = store.engine().swap_keyspaces(a, b, &db.write_options()).await?;
        db.tally().join(written.ticket);
        db.tally().changes += 1;
        store.expiries.forget_round(a);
        store.expiries.forget_round(b);
        store.tell_flushed(Some(a), db.client);
        store.tell_flushed(Some(b), db.client);
        self.commit(scope).await
    }

    fn note_written(&mut self) {
        if let Some(overlay) = self.overlay.as_deref_mut() {
            overlay.note_written();
        }
    }

    /// Touches the watched keys of a database that is about to be emptied, or replaced by another:
    /// those that are there before or after.
    async fn touch_watched(&mut self, keyspace: KeyspaceId, by: Option<KeyspaceId>) -> Result<()> {
        for key in self.store().stripes.watched_keys(keyspace) {
            let mut is_affected = self.at(keyspace).peek(&key, &mut |_| {}).await?;
            if let Some(by) = by {
                is_affected |= self.at(by).peek(&key, &mut |_| {}).await?;
            }
            if is_affected {
                self.store().stripes.touch(keyspace, &key);
            }
        }
        Ok(())
    }

    /// KEYS: all keys that match a pattern, each once; `None` if they come to more than
    /// `bytes_max`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn keys(
        &mut self,
        pattern: &[u8],
        bytes_max: usize,
    ) -> Result<Option<Vec<Box<[u8]>>>> {
        let (mut keys, mut bytes): (Vec<Box<[u8]>>, usize) = (Vec::new(), 0);
        let mut cursor = Some(SweepCursor::start());
        while let Some(from) = cursor {
            let mut visit = |key: &[u8], _: Entry<'_>| {
                if bytes <= bytes_max && glob::matches(pattern, key) {
                    bytes += key.len() + size_of::<Box<[u8]>>();
                    keys.push(key.into());
                }
            };
            cursor = self.sweep(&from, SWEEP_BUDGET, &mut visit).await?.next;
            if bytes > bytes_max {
                return Ok(None);
            }
            give_way().await;
        }
        // An engine that grows meanwhile may show a key twice.
        keys.sort_unstable();
        keys.dedup();
        Ok(Some(keys))
    }

    /// RANDOMKEY: some key. In a large database one near where the last call left off, so that it
    /// takes a few entries and not all of them.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn random_key(&mut self) -> Result<Option<Vec<u8>>> {
        let (store, keyspace) = (self.store(), self.keyspace);
        let mut cursor = store.random_cursor(keyspace);
        let mut is_from_start = cursor.is_start();
        loop {
            let (mut chosen, mut seen) = (None, 0);
            let mut visit = |key: &[u8], _: Entry<'_>| {
                seen += 1;
                if store.env().random.next_u64().is_multiple_of(seen) {
                    chosen = Some(key.to_vec());
                }
            };
            let next = match self.sweep(&cursor, RANDOM_SAMPLE, &mut visit).await {
                Ok(swept) => swept.next,
                // The database is another one than when the cursor was kept.
                Err(Refusal::Engine(error))
                    if error.kind() == ErrorKind::InvalidArgument && !is_from_start =>
                {
                    None
                }
                Err(refusal) => return Err(refusal),
            };
            if chosen.is_some() {
                store.keep_random_cursor(keyspace, next);
                return Ok(chosen);
            }
            let is_at_end = next.is_none();
            if is_at_end && is_from_start {
                return Ok(None);
            }
            is_from_start |= is_at_end;
            cursor = next.unwrap_or_default();
            give_way().await;
        }
    }

    /// DBSIZE.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn len(&mut self) -> Result<KeyspaceLen> {
        self.spill().await?;
        Ok(self.store().engine().keyspace_len(self.keyspace).await?)
    }

    /// Visits about `budget` entries, as they are stored; see
    /// [`KvRead::sweep`](ferrokit_engine::KvRead::sweep).
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn sweep<'a>(
        &mut self,
        cursor: &'a SweepCursor,
        budget: usize,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Result<Swept> {
        self.spill().await?;
        let options = ReadOptions::APPLIED;
        let engine = self.store().engine();
        let swept = engine.sweep(self.keyspace, cursor, budget, &options, visit).await?;
        self.tally().join(swept.ticket);
        Ok(swept)
    }

    /// Visits the entries of a range in key order or against it, up to `limits`, as they are
    /// stored; see [`Ordered::scan_with`](ferrokit_engine::Ordered::scan_with).
    ///
    /// # Errors
    /// `Unsupported` where the engine's keys have no order; those of the engine.
    pub async fn scan<'a>(
        &mut self,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Result<Scanned> {
        self.spill().await?;
        let engine = self.store().engine();
        let ordered = engine.as_ordered().ok_or_else(|| {
            let name = engine.capabilities().engine;
            Error::unsupported("scan", format!("the keys of the engine \"{name}\" have no order"))
        })?;
        let options = ReadOptions::APPLIED;
        let scanned =
            ordered.scan_with(self.keyspace, range, direction, limits, &options, visit).await?;
        self.tally().join(scanned.ticket);
        Ok(scanned)
    }
}

/// Lets others run on this thread.
async fn give_way() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
