//! [`Transaction`]: several keys, read and changed together.

use std::time::Duration;

use bytes::Bytes;
use ferrokit_redis::keys::ExpireConditions;
use ferrokit_redis::{ClientId, Db, KeySet, Tally};

use crate::error::{Error, ErrorKind, Result};
use crate::handle::Ferrokit;
use crate::operations;
use crate::options::{SetOptions, SetOutcome, Ttl, Update, after};

/// Several keys, locked: nobody else writes them until it commits or is dropped. It sees its own
/// writes; others see all of them at once, or none.
///
/// Other writers of these keys wait meanwhile, and of a few more, whose locks are the same: a
/// transaction is kept short. **While a task holds one, it writes through it alone**, and past it
/// reads at most single keys: anything else (a write of any key, a second transaction, `mget`,
/// `watch`) might wait for the task itself.
#[must_use = "dropped without a commit, it changes nothing"]
pub struct Transaction<'a> {
    kv: &'a Ferrokit,
    inner: ferrokit_redis::Transaction<'a>,
    /// Sorted.
    keys: Vec<Bytes>,
}

/// Runs one operation on a key inside a transaction.
macro_rules! inside {
    ($transaction:expr, $key:expr, |$db:ident, $name:ident| $operation:expr) => {{
        let transaction: &mut Transaction<'_> = $transaction;
        let $name: &[u8] = $key.as_ref();
        transaction.check($name)?;
        let mut tally = Tally::default();
        let outcome = {
            let mut $db: Db<'_> =
                transaction.kv.view(&mut tally).inside(transaction.inner.overlay());
            $operation.await
        };
        transaction.kv.settle(tally, outcome).await
    }};
}

impl Ferrokit {
    /// Begins a transaction over these keys, once those who write them have finished.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.mset([("alice", "100"), ("bob", "0")]).await?;
    ///
    /// let mut transfer = kv.transaction(["alice", "bob"]).await;
    /// if transfer.incr_by("alice", -30).await? >= 0 {
    ///     transfer.incr_by("bob", 30).await?;
    ///     transfer.commit().await?;
    /// } // else it is dropped, and changes nothing
    ///
    /// assert_eq!(kv.get("bob").await?.as_deref(), Some(&b"30"[..]));
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    pub async fn transaction(
        &self,
        keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send,
    ) -> Transaction<'_> {
        let mut keys: Vec<Bytes> =
            keys.into_iter().map(|key| Bytes::copy_from_slice(key.as_ref())).collect();
        keys.sort_unstable();
        keys.dedup();
        let locked = KeySet::of(keys.iter().map(|key| (self.keyspace, &key[..])));
        let begun = ferrokit_redis::Transaction::begin(&self.shared.store, locked).await;
        Transaction { kv: self, inner: begun.with_durability(self.durability()), keys }
    }
}

impl Transaction<'_> {
    fn check(&self, key: &[u8]) -> Result<()> {
        if self.keys.binary_search_by(|known| known[..].cmp(key)).is_ok() {
            return Ok(());
        }
        let message = format!("the transaction was not begun with \"{}\"", key.escape_ascii());
        Err(Error::new(ErrorKind::NotInTransaction, message))
    }

    /// Makes its writes visible, all at once; completes when they are durable.
    ///
    /// # Errors
    /// `InvalidArgument`, beyond the engine's largest batch, and `Unsupported`: nothing happened.
    /// After other errors of the engine all of it did, or nothing.
    pub async fn commit(self) -> Result<()> {
        let mut tally = Tally::default();
        let outcome = self.inner.commit(ClientId::default(), &mut tally).await;
        self.kv.settle(tally, outcome).await
    }

    /// Gives it up: nothing is changed, as by dropping it.
    pub fn rollback(self) {}

    /// See [`Ferrokit::get`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn get(&mut self, key: impl AsRef<[u8]> + Send) -> Result<Option<Bytes>> {
        inside!(self, key, |db, key| operations::get(&mut db, key))
    }

    /// See [`Ferrokit::set`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn set(
        &mut self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
    ) -> Result<()> {
        inside!(self, key, |db, key| db.set(key, value.as_ref(), None))
    }

    /// See [`Ferrokit::set_ex`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn set_ex(
        &mut self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
        ttl: Duration,
    ) -> Result<()> {
        let at = after(self.kv.now(), ttl);
        inside!(self, key, |db, key| db.set(key, value.as_ref(), Some(at)))
    }

    /// See [`Ferrokit::set_with`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn set_with(
        &mut self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        inside!(self, key, |db, key| operations::set_with(&mut db, key, value.as_ref(), options))
    }

    /// See [`Ferrokit::del`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn del(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        inside!(self, key, |db, key| db.delete(&[key])).map(|deleted| deleted > 0)
    }

    /// See [`Ferrokit::exists`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn exists(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        inside!(self, key, |db, key| db.exist(&[key], false)).map(|found| found > 0)
    }

    /// See [`Ferrokit::incr_by`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn incr_by(&mut self, key: impl AsRef<[u8]> + Send, delta: i64) -> Result<i64> {
        inside!(self, key, |db, key| db.incr_by(key, delta))
    }

    /// See [`Ferrokit::append`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn append(
        &mut self,
        key: impl AsRef<[u8]> + Send,
        suffix: impl AsRef<[u8]> + Send,
    ) -> Result<usize> {
        inside!(self, key, |db, key| db.append(key, suffix.as_ref()))
    }

    /// See [`Ferrokit::update`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn update(
        &mut self,
        key: impl AsRef<[u8]> + Send,
        change: impl FnMut(Option<&[u8]>) -> Update + Send,
    ) -> Result<Option<Bytes>> {
        inside!(self, key, |db, key| operations::update(&mut db, key, change))
    }

    /// See [`Ferrokit::expire`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn expire(&mut self, key: impl AsRef<[u8]> + Send, ttl: Duration) -> Result<bool> {
        let at = after(self.kv.now(), ttl);
        inside!(self, key, |db, key| db.expire(key, at, ExpireConditions::default()))
    }

    /// See [`Ferrokit::ttl`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn ttl(&mut self, key: impl AsRef<[u8]> + Send) -> Result<Ttl> {
        inside!(self, key, |db, key| operations::ttl(&mut db, key))
    }

    /// See [`Ferrokit::persist`].
    ///
    /// # Errors
    /// `NotInTransaction`; as there.
    pub async fn persist(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool> {
        inside!(self, key, |db, key| db.persist(key))
    }
}
