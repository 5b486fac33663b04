//! [`Snapshot`]: the store as it was at one moment.

use std::sync::Arc;

use bytes::Bytes;
use ferrokit_engine::{
    Entry, Error as EngineError, KeyspaceId, ReadOptions, Snapshot as EngineSnapshot, UnixMillis,
};
use ferrokit_redis::{Refusal, Value};

use crate::error::Result;
use crate::handle::Ferrokit;
use crate::operations::owned;

/// The store as it was at one moment: no later write, flush or expiry changes what it reads.
/// Everything in it is durable at the level it was written with. Clones are the same snapshot;
/// dropping the last one frees what was kept for it.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) view: Arc<dyn EngineSnapshot>,
    pub(crate) keyspace: KeyspaceId,
    databases: u32,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("database", &self.keyspace.0)
            .field("opened_at", &self.opened_at())
            .finish()
    }
}

impl Ferrokit {
    /// The store as it is at this moment.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.set("balance", "10").await?;
    /// let before = kv.snapshot().await?;
    /// kv.set("balance", "0").await?;
    /// assert_eq!(before.get("balance").await?.as_deref(), Some(&b"10"[..]));
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unsupported` where the engine has no snapshots; `Busy` when too many are open; those of the
    /// engine.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let engine = self.engine();
        let snapshots = engine.as_snapshots().ok_or_else(|| {
            let name = engine.capabilities().engine;
            let message = format!("the engine \"{name}\" has none; mvcc+{name} has");
            EngineError::unsupported("snapshot", message)
        })?;
        let view = snapshots.snapshot().await?;
        Ok(Snapshot { view, keyspace: self.keyspace, databases: self.databases() })
    }
}

impl Snapshot {
    /// Another database of the same snapshot.
    ///
    /// # Errors
    /// `NoSuchDatabase`.
    pub fn db(&self, number: u32) -> Result<Self> {
        if number >= self.databases {
            return Err(Refusal::NO_SUCH_DATABASE.into());
        }
        Ok(Self { keyspace: KeyspaceId(number), ..self.clone() })
    }

    /// When it was opened: the time at which expiry is reckoned in it.
    pub fn opened_at(&self) -> UnixMillis {
        self.view.opened_at()
    }

    /// The value a key had.
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn get(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<Bytes>> {
        let mut value = None;
        let mut visit = |entry: Entry<'_>| {
            let string = Value::decode(entry.value).as_string();
            value = Some(string.map(owned).ok_or(Refusal::WRONG_TYPE));
        };
        let options = ReadOptions::default();
        self.view.get_with(self.keyspace, key.as_ref(), &options, &mut visit).await?;
        Ok(value.transpose()?)
    }

    /// The values several keys had; `None` for those that were absent or held no string.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn mget(
        &self,
        keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<_> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let mut values = vec![None; keys.len()];
        let mut visit = |index: usize, entry: Entry<'_>| {
            if let Some(value) = values.get_mut(index) {
                *value = Value::decode(entry.value).as_string().map(owned);
            }
        };
        let options = ReadOptions::default();
        self.view.get_many_with(self.keyspace, &keys, &options, &mut visit).await?;
        Ok(values)
    }

    /// Whether a key was there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn exists(&self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        let options = ReadOptions::default();
        let seen = self.view.get_with(self.keyspace, key.as_ref(), &options, &mut |_| {}).await?;
        Ok(seen.found > 0)
    }
}
