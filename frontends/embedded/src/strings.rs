//! Strings: get, set, counters, parts of values.

use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::handle::{Ferrokit, run};
use crate::operations;
use crate::options::{SetOptions, SetOutcome, Swap, Update, after};

impl Ferrokit {
    /// The value of a key.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.set("greeting", "hello").await?;
    /// assert_eq!(kv.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
    /// assert_eq!(kv.get("farewell").await?, None);
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn get(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<Bytes>> {
        run!(self, db => operations::get(&mut db, key.as_ref()))
    }

    /// Gives a key a value, whatever it held; it does not expire.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
    ) -> Result<()> {
        run!(self, db => db.set(key.as_ref(), value.as_ref(), None))
    }

    /// Gives a key a value that expires after `ttl`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn set_ex(
        &self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
        ttl: Duration,
    ) -> Result<()> {
        let at = after(self.now(), ttl);
        run!(self, db => db.set(key.as_ref(), value.as_ref(), Some(at)))
    }

    /// Gives a key a value as the options say; see [`SetOptions`].
    ///
    /// # Errors
    /// `WrongType` if the value before is asked for and is no string; those of the engine.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        run!(self, db => operations::set_with(&mut db, key.as_ref(), value.as_ref(), options))
    }

    /// The value of a key, which is removed.
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn get_del(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<Bytes>> {
        run!(self, db => operations::get_del(&mut db, key.as_ref()))
    }

    /// The values of several keys as they were at one moment; `None` for those that are absent or
    /// hold no string.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn mget(
        &self,
        keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<_> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        run!(self, db => operations::mget(&mut db, &keys))
    }

    /// Gives several keys their values, all at once.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.mset([("a", "1"), ("b", "2")]).await?;
    /// let values = kv.mget(["b", "c"]).await?;
    /// assert_eq!(values, [Some("2".into()), None]);
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the engine; `InvalidArgument` beyond its largest batch.
    pub async fn mset<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)> + Send,
    ) -> Result<()> {
        self.set_many(pairs.into_iter().collect(), false).await.map(|_| ())
    }

    /// Gives several keys their values if none of them is there, all at once; whether it did.
    ///
    /// # Errors
    /// As [`mset`](Self::mset).
    pub async fn mset_nx<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)> + Send,
    ) -> Result<bool> {
        self.set_many(pairs.into_iter().collect(), true).await
    }

    async fn set_many<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
        &self,
        pairs: Vec<(K, V)>,
        only_if_absent: bool,
    ) -> Result<bool> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
        run!(self, db => db.set_many(&pairs, only_if_absent))
    }

    /// Adds one to a counter, which begins at 0; the sum.
    ///
    /// # Errors
    /// As [`incr_by`](Self::incr_by).
    pub async fn incr(&self, key: impl AsRef<[u8]> + Send) -> Result<i64> {
        self.incr_by(key, 1).await
    }

    /// Takes one from a counter; the difference.
    ///
    /// # Errors
    /// As [`incr_by`](Self::incr_by).
    pub async fn decr(&self, key: impl AsRef<[u8]> + Send) -> Result<i64> {
        self.incr_by(key, -1).await
    }

    /// Adds to a counter; the sum. A counter is a string of decimal digits.
    ///
    /// # Errors
    /// `WrongType`, `NotAnInteger`, `Overflow`: it is left as it was; those of the engine.
    pub async fn incr_by(&self, key: impl AsRef<[u8]> + Send, delta: i64) -> Result<i64> {
        run!(self, db => db.incr_by(key.as_ref(), delta))
    }

    /// Adds to a decimal number; the sum. What is stored is exact where it has up to 17 decimals:
    /// 0.1 and 0.2 make 0.3.
    ///
    /// # Errors
    /// `WrongType`, `NotAFloat`, `NotFinite`: it is left as it was; those of the engine.
    pub async fn incr_by_float(&self, key: impl AsRef<[u8]> + Send, delta: f64) -> Result<f64> {
        run!(self, db => operations::incr_by_float(&mut db, key.as_ref(), delta))
    }

    /// Appends to a string, which begins empty; its new length.
    ///
    /// # Errors
    /// `WrongType`, `TooLong`; those of the engine.
    pub async fn append(
        &self,
        key: impl AsRef<[u8]> + Send,
        suffix: impl AsRef<[u8]> + Send,
    ) -> Result<usize> {
        run!(self, db => db.append(key.as_ref(), suffix.as_ref()))
    }

    /// The length of a string; 0 without the key.
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn strlen(&self, key: impl AsRef<[u8]> + Send) -> Result<usize> {
        run!(self, db => db.strlen(key.as_ref()))
    }

    /// The bytes of a string from `start` to `end`, both included; negative ones count from its
    /// end. Empty without the key.
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]> + Send,
        start: i64,
        end: i64,
    ) -> Result<Bytes> {
        run!(self, db => operations::get_range(&mut db, key.as_ref(), start, end))
    }

    /// Overwrites the bytes of a string from `offset` on, with zeros before them where it is
    /// shorter; its new length. Without bytes to write nothing is changed.
    ///
    /// # Errors
    /// `WrongType`, `TooLong`; those of the engine.
    pub async fn set_range(
        &self,
        key: impl AsRef<[u8]> + Send,
        offset: usize,
        bytes: impl AsRef<[u8]> + Send,
    ) -> Result<usize> {
        run!(self, db => db.set_range(key.as_ref(), offset, bytes.as_ref()))
    }

    /// Gives a key the value `new` if its value is `expected`, in one atomic step; `None` stands
    /// for no key at all. The expiry stays.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// use ferrokit::Swap;
    ///
    /// let kv = ferrokit::open("memory:").await?;
    /// assert!(kv.compare_and_swap("leader", None, Some(b"a")).await?.is_done());
    /// let lost = kv.compare_and_swap("leader", None, Some(b"b")).await?;
    /// assert_eq!(lost, Swap::Found(Some("a".into())));
    /// assert!(kv.compare_and_swap("leader", Some(b"a"), None).await?.is_done());
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]> + Send,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        run!(self, db => operations::compare_and_swap(&mut db, key.as_ref(), expected, new))
    }

    /// Changes a value by a function of the present one, in one atomic step; the value after it.
    /// The function may run more than once, must depend on nothing else, and must not use the
    /// store.
    ///
    /// ```
    /// # ferrokit::block_on(async {
    /// use ferrokit::Update;
    ///
    /// let kv = ferrokit::open("memory:").await?;
    /// kv.set("name", "ada").await?;
    /// let name = kv
    ///     .update("name", |name| match name {
    ///         Some(name) => Update::set(name.to_ascii_uppercase()),
    ///         None => Update::Keep,
    ///     })
    ///     .await?;
    /// assert_eq!(name.as_deref(), Some(&b"ADA"[..]));
    /// # kv.close().await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `WrongType`; those of the engine.
    pub async fn update(
        &self,
        key: impl AsRef<[u8]> + Send,
        change: impl FnMut(Option<&[u8]>) -> Update + Send,
    ) -> Result<Option<Bytes>> {
        run!(self, db => operations::update(&mut db, key.as_ref(), change))
    }
}
