//! Whole databases: FLUSHDB, SWAPDB, DBSIZE, and sweeps and scans over their keys.

use ferrokit_engine::{
    Direction, Entry, Error, KeyRange, KeyspaceId, KeyspaceLen, ReadOptions, ScanLimits, Scanned,
    SweepCursor, Swept,
};

use crate::db::Db;
use crate::refusal::Result;
use crate::transaction::KeySet;

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
