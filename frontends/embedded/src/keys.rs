//! Keys, whatever they hold: del, exists, expire, rename and their like.

use std::time::Duration;

use ferrokit_engine::UnixMillis;
use ferrokit_redis::Type;
use ferrokit_redis::keys::ExpireConditions;

use crate::error::Result;
use crate::handle::{Ferrokit, run};
use crate::operations;
use crate::options::{Ttl, after};

impl Ferrokit {
    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn del(&self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        let deleted = run!(self, db => db.delete(&[key.as_ref()]))?;
        Ok(deleted > 0)
    }

    /// Removes several keys, all at once; how many were there.
    ///
    /// # Errors
    /// Those of the engine; `InvalidArgument` beyond its largest batch.
    pub async fn del_many(
        &self,
        keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send,
    ) -> Result<usize> {
        let keys: Vec<_> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        run!(self, db => db.delete(&keys))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn exists(&self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        let found = run!(self, db => db.exist(&[key.as_ref()], false))?;
        Ok(found > 0)
    }

    /// The type of a key's value; `None` without the key.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn key_type(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<Type>> {
        let info = run!(self, db => db.key_info(key.as_ref()))?;
        Ok(info.and_then(|info| info.kind))
    }

    /// Makes a key expire after `ttl`; whether it is there.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// use ferrokit::Ttl;
    /// use std::time::Duration;
    ///
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.set("session", "ada").await?;
    /// assert_eq!(kv.ttl("session").await?, Ttl::Forever);
    /// assert!(kv.expire("session", Duration::from_secs(60)).await?);
    /// assert!(matches!(kv.ttl("session").await?, Ttl::Left(left) if left.as_secs() >= 59));
    /// assert!(kv.persist("session").await?);
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn expire(&self, key: impl AsRef<[u8]> + Send, ttl: Duration) -> Result<bool> {
        let at = after(self.now(), ttl);
        self.expire_at(key, at).await
    }

    /// Makes a key expire at a time, or removes it if that has passed; whether it was there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn expire_at(&self, key: impl AsRef<[u8]> + Send, at: UnixMillis) -> Result<bool> {
        run!(self, db => db.expire(key.as_ref(), at, ExpireConditions::default()))
    }

    /// How long a key lives.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn ttl(&self, key: impl AsRef<[u8]> + Send) -> Result<Ttl> {
        run!(self, db => operations::ttl(&mut db, key.as_ref()))
    }

    /// Makes a key stay; whether it was to expire.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn persist(&self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        run!(self, db => db.persist(key.as_ref()))
    }

    /// Gives a key another name, in the place of whatever bore that; its expiry goes with it.
    ///
    /// # Errors
    /// `NoSuchKey`; those of the engine.
    pub async fn rename(
        &self,
        from: impl AsRef<[u8]> + Send,
        to: impl AsRef<[u8]> + Send,
    ) -> Result<()> {
        run!(self, db => db.rename(from.as_ref(), to.as_ref(), false)).map(|_| ())
    }

    /// Gives a key a name that nothing bears; whether it did.
    ///
    /// # Errors
    /// `NoSuchKey`; those of the engine.
    pub async fn rename_nx(
        &self,
        from: impl AsRef<[u8]> + Send,
        to: impl AsRef<[u8]> + Send,
    ) -> Result<bool> {
        run!(self, db => db.rename(from.as_ref(), to.as_ref(), true))
    }

    /// Copies a key with its expiry, unless the source is absent or the destination is there;
    /// whether it did.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn copy(
        &self,
        from: impl AsRef<[u8]> + Send,
        to: impl AsRef<[u8]> + Send,
    ) -> Result<bool> {
        run!(self, db => db.copy(from.as_ref(), (self.keyspace, to.as_ref()), false))
    }

    /// Copies a key with its expiry, over whatever is at the destination; whether the source is
    /// there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn copy_over(
        &self,
        from: impl AsRef<[u8]> + Send,
        to: impl AsRef<[u8]> + Send,
    ) -> Result<bool> {
        run!(self, db => db.copy(from.as_ref(), (self.keyspace, to.as_ref()), true))
    }

    /// Moves a key to another database, unless one of that name is there; whether it did.
    ///
    /// # Errors
    /// `NoSuchDatabase`; those of the engine.
    pub async fn move_to(&self, key: impl AsRef<[u8]> + Send, database: u32) -> Result<bool> {
        let keyspace = self.db(database)?.keyspace;
        if keyspace == self.keyspace {
            return Ok(false);
        }
        run!(self, db => db.move_to(key.as_ref(), keyspace))
    }
}
