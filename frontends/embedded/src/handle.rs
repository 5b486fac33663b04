//! [`Ferrokit`]: the handle of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{
    Capabilities, Durability, KeyspaceId, KeyspaceLen, KvEngine, Stats, UnixMillis,
};
use ferrokit_redis::{ClientId, Db, Refusal, Store, Tally};

use crate::error::Result;
use crate::watch::Watches;

/// Runs one operation of a view `$db` of the handle `$kv`, and waits for what it saw and did.
macro_rules! run {
    ($kv:expr, $db:ident => $operation:expr) => {{
        let kv: &$crate::Ferrokit = $kv;
        let mut tally = ferrokit_redis::Tally::default();
        let outcome = {
            #[allow(unused_mut, reason = "as the operation needs it")]
            let mut $db = kv.view(&mut tally);
            $operation.await
        };
        kv.settle(tally, outcome).await
    }};
}
pub(crate) use run;

/// What all handles of a store share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) watches: Arc<Watches>,
    /// Somebody looks for what has expired.
    is_collecting: AtomicBool,
}

/// Ends the turn of who looks for what has expired.
struct Collecting<'a>(&'a AtomicBool);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A handle of one database of a store. Clones are cheap, and are the same store; it goes from
/// thread to thread and from task to task.
///
/// # Durability
/// A write completes when it is durable, at the store's level or at that of
/// [`with_durability`](Self::with_durability). A read completes when what it saw is durable at the
/// level it was written with: nobody acts upon what a crash could undo.
///
/// # Cancellation
/// A future of this crate may be dropped at any point. A write that was under way then happened or
/// did not, as a whole, and holds nothing back.
#[derive(Clone)]
pub struct Ferrokit {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keyspace: KeyspaceId,
    /// `None`: the store's.
    pub(crate) durability: Option<Durability>,
}

impl std::fmt::Debug for Ferrokit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ferrokit")
            .field("engine", &self.capabilities().engine)
            .field("database", &self.keyspace.0)
            .field("durability", &self.durability())
            .finish()
    }
}

impl Ferrokit {
    pub(crate) fn over(store: Store) -> Self {
        let watches = Arc::new(Watches::new(store.databases()));
        // A store that was just made has no other observer.
        let _only_one = store.set_observer(Arc::clone(&watches) as _);
        let shared = Arc::new(Shared { store, watches, is_collecting: AtomicBool::new(false) });
        Self { shared, keyspace: KeyspaceId::DEFAULT, durability: None }
    }

    /// A handle of database `number` of the same store; 0 is the one a store is opened with.
    ///
    /// # Errors
    /// `NoSuchDatabase`: there are [`databases`](Self::databases).
    pub fn db(&self, number: u32) -> Result<Self> {
        let keyspace = self.shared.store.database(i64::from(number))?;
        Ok(Self { keyspace, ..self.clone() })
    }

    /// How many databases there are: 16, or fewer where the engine has fewer keyspaces.
    pub fn databases(&self) -> u32 {
        self.shared.store.databases()
    }

    /// A handle of the same database whose writes are durable at `level`.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// use ferrokit::Durability;
    ///
    /// let kv = ferrokit::open("memory:").await?;
    /// let hasty = kv.with_durability(Durability::Memory)?;
    /// hasty.incr("page:hits").await?;
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unsupported` where the engine cannot give it.
    pub fn with_durability(&self, level: Durability) -> Result<Self> {
        self.capabilities().check_durability("with_durability", level)?;
        Ok(Self { durability: Some(level), ..self.clone() })
    }

    /// How durable this handle's writes are.
    pub fn durability(&self) -> Durability {
        self.durability.unwrap_or_else(|| self.shared.store.durability())
    }

    /// The engine, for what is not in this crate. Values are stored in an encoding of
    /// ferrokit-redis, and its locks do not see what is written past it.
    pub fn engine(&self) -> &Arc<dyn KvEngine> {
        self.shared.store.engine()
    }

    /// What the engine can do, and where its limits are.
    pub fn capabilities(&self) -> &Capabilities {
        self.engine().capabilities()
    }

    /// The engine's counters and gauges at this moment.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// The time that expiry goes by; it never goes back.
    pub fn now(&self) -> UnixMillis {
        self.shared.store.now()
    }

    /// How many keys the database holds; those that have expired may still count.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn dbsize(&self) -> Result<KeyspaceLen> {
        run!(self, db => db.len())
    }

    /// Removes all keys of the database, at once.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn flush(&self) -> Result<()> {
        run!(self, db => db.flush())
    }

    /// Removes all keys of all databases, database after database.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn flush_all(&self) -> Result<()> {
        run!(self, db => db.flush_all())
    }

    /// Exchanges the contents of two databases, at once.
    ///
    /// # Errors
    /// `NoSuchDatabase`; those of the engine.
    pub async fn swap_databases(&self, a: u32, b: u32) -> Result<()> {
        let store = &self.shared.store;
        let (a, b) = (store.database(i64::from(a))?, store.database(i64::from(b))?);
        run!(self, db => db.swap(a, b))
    }

    /// Frees the space of keys that have expired: looks at about `entries` entries of each database
    /// that may hold such, and goes on from there the next time. An expired key is absent without
    /// it, and freed when it is met; a store whose keys expire without being asked for any more (a
    /// cache) calls this some times a second.
    ///
    /// Does nothing while another task is at it; and frees nothing on `hybridlog`, which does that
    /// by itself when its memory runs short.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// use std::time::Duration;
    ///
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.set_ex("login", "ada", Duration::from_millis(1)).await?;
    /// // Now and then, in a task of the application's own:
    /// kv.collect_expired(1000).await?;
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn collect_expired(&self, entries: usize) -> Result<()> {
        if self.shared.is_collecting.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _turn = Collecting(&self.shared.is_collecting);
        Ok(self.shared.store.run_expiry_cycle(entries).await?)
    }

    /// Makes durable at `level` what was written before, at [`Durability::Os`] or above.
    ///
    /// # Errors
    /// `Unsupported` where the engine cannot give that level; those of the engine.
    pub async fn sync(&self, level: Durability) -> Result<()> {
        Ok(self.engine().sync(level).await?)
    }

    /// Closes the store, for all its handles: what was written at [`Durability::Os`] and above is
    /// on the device on completion, and the directory may be opened again. Later operations are
    /// answered `Closed`, watches end. Closing twice is no error.
    ///
    /// Dropping the last handle without closing is, as far as durability goes, a crash of the
    /// process: what was promised holds.
    ///
    /// # Errors
    /// Those of the engine; what was promised still holds.
    pub async fn close(&self) -> Result<()> {
        let closed = self.engine().close().await;
        self.shared.watches.close();
        Ok(closed?)
    }

    /// A view of the database for one operation.
    pub(crate) fn view<'s>(&'s self, tally: &'s mut Tally) -> Db<'s> {
        let db = self.shared.store.db(self.keyspace, ClientId::default(), tally);
        match self.durability {
            Some(level) => db.with_durability(level),
            None => db,
        }
    }

    /// The outcome of an operation, once all it saw and did is durable.
    pub(crate) async fn settle<T>(&self, tally: Tally, outcome: Result<T, Refusal>) -> Result<T> {
        if let Err(Refusal::Engine(error)) = outcome {
            return Err(error.into());
        }
        self.shared.store.committed(tally.ticket).await?;
        Ok(outcome?)
    }
}
