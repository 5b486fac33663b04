//! [`Batch`]: writes that take effect together.

use std::time::Duration;

use bytes::Bytes;
use ferrokit_redis::{KeySet, Tally, Transaction};

use crate::error::Result;
use crate::handle::Ferrokit;
use crate::options::after;

#[derive(Debug, Clone)]
enum Write {
    Set { key: Bytes, value: Bytes, ttl: Option<Duration> },
    Del { key: Bytes },
}

impl Write {
    fn key(&self) -> &Bytes {
        match self {
            Self::Set { key, .. } | Self::Del { key } => key,
        }
    }
}

/// Writes to any keys that become visible at once and, after a crash, are all there or none. Of two
/// writes to one key the later wins.
///
/// ```
/// # ferrokit::block_on(async {
/// use ferrokit::Batch;
///
/// let kv = ferrokit::open("memory:").await?;
/// let mut batch = Batch::new();
/// batch.set("order:17", "paid").set("mail:17", "to be sent").del("cart:17");
/// kv.write(&batch).await?;
/// # kv.close().await
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// No writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a key a value that does not expire.
    pub fn set(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.writes.push(Write::Set { key: key.into(), value: value.into(), ttl: None });
        self
    }

    /// Gives a key a value that expires `ttl` after the batch was written.
    pub fn set_ex(
        &mut self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> &mut Self {
        self.writes.push(Write::Set { key: key.into(), value: value.into(), ttl: Some(ttl) });
        self
    }

    /// Removes a key.
    pub fn del(&mut self, key: impl Into<Bytes>) -> &mut Self {
        self.writes.push(Write::Del { key: key.into() });
        self
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Forgets the writes.
    pub fn clear(&mut self) {
        self.writes.clear();
    }
}

impl Ferrokit {
    /// Writes a batch: all of it, or nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for one beyond the engine's
    /// [limits](ferrokit_engine::Capabilities::max_batch_ops); those of the engine.
    pub async fn write(&self, batch: &Batch) -> Result<()> {
        let store = &self.shared.store;
        let keys = batch.writes.iter().map(|write| (self.keyspace, &**write.key()));
        let locked = Transaction::begin(store, KeySet::of(keys)).await;
        let mut transaction = locked.with_durability(self.durability());
        let mut tally = Tally::default();
        let written = self.write_inside(batch, &mut transaction, &mut tally).await;
        let outcome = match written {
            Ok(()) => transaction.commit(Default::default(), &mut tally).await,
            Err(refusal) => Err(refusal),
        };
        self.settle(tally, outcome).await
    }

    async fn write_inside(
        &self,
        batch: &Batch,
        transaction: &mut Transaction<'_>,
        tally: &mut Tally,
    ) -> ferrokit_redis::Result<()> {
        let now = self.now();
        let mut db = self.view(tally).inside(transaction.overlay());
        for write in &batch.writes {
            match write {
                Write::Set { key, value, ttl } => {
                    db.set(key, value, ttl.map(|ttl| after(now, ttl))).await?;
                }
                Write::Del { key } => {
                    db.delete(&[&key[..]]).await?;
                }
            }
        }
        Ok(())
    }
}
