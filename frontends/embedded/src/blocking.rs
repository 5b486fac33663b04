//! The same API without futures: each call waits on its thread. Not for the threads of an executor.
//!
//! ```
//! let kv = ferrokit::blocking::open("memory:")?;
//! kv.set("greeting", "hello")?;
//! for entry in kv.scan(..)? {
//!     let (key, value) = entry?;
//!     println!("{key:?} {value:?}");
//! }
//! kv.close()?;
//! # Ok::<(), ferrokit::Error>(())
//! ```

use std::time::Duration;

use bytes::Bytes;
use ferrokit_engine::{CheckpointInfo, Durability, KeyspaceLen, UnixMillis, block_on};
use ferrokit_redis::Type;

use crate::error::Result;
use crate::options::{SetOptions, SetOutcome, Swap, Ttl, Update};
use crate::{Batch, Builder, IntoKeyRange};

/// Opens a store over the engine that a URL names; see [`open`](crate::open()).
///
/// # Errors
/// As there.
pub fn open(url: impl Into<String>) -> Result<Ferrokit> {
    Ok(Ferrokit(Builder::new(url).open_blocking()?))
}

/// A handle of one database of a store: [`Ferrokit`](crate::Ferrokit), blocking.
#[derive(Debug, Clone)]
pub struct Ferrokit(crate::Ferrokit);

impl From<crate::Ferrokit> for Ferrokit {
    fn from(kv: crate::Ferrokit) -> Self {
        Self(kv)
    }
}

/// Methods that wait for those of the same name.
macro_rules! blocking {
    ($inner:ty: $(
        $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;
    )*) => {
        $(
            #[doc = concat!("See [`", stringify!($inner), "::", stringify!($name), "`](", stringify!($inner), "::", stringify!($name), ").")]
            ///
            /// # Errors
            /// As there.
            pub fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                block_on(self.0.$name($($argument),*))
            }
        )*
    };
}

impl Ferrokit {
    /// The handle with futures.
    pub fn as_async(&self) -> &crate::Ferrokit {
        &self.0
    }

    /// A handle of database `number`; see [`db`](crate::Ferrokit::db).
    ///
    /// # Errors
    /// As there.
    pub fn db(&self, number: u32) -> Result<Self> {
        Ok(Self(self.0.db(number)?))
    }

    /// A handle whose writes are durable at `level`; see
    /// [`with_durability`](crate::Ferrokit::with_durability).
    ///
    /// # Errors
    /// As there.
    pub fn with_durability(&self, level: Durability) -> Result<Self> {
        Ok(Self(self.0.with_durability(level)?))
    }

    blocking! { crate::Ferrokit:
        get(key: impl AsRef<[u8]> + Send) -> Option<Bytes>;
        set(key: impl AsRef<[u8]> + Send, value: impl AsRef<[u8]> + Send) -> ();
        set_ex(key: impl AsRef<[u8]> + Send, value: impl AsRef<[u8]> + Send, ttl: Duration) -> ();
        set_with(
            key: impl AsRef<[u8]> + Send,
            value: impl AsRef<[u8]> + Send,
            options: SetOptions
        ) -> SetOutcome;
        get_del(key: impl AsRef<[u8]> + Send) -> Option<Bytes>;
        mget(keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send) -> Vec<Option<Bytes>>;
        mset(
            pairs: impl IntoIterator<Item = (impl AsRef<[u8]> + Send, impl AsRef<[u8]> + Send)> + Send
        ) -> ();
        mset_nx(
            pairs: impl IntoIterator<Item = (impl AsRef<[u8]> + Send, impl AsRef<[u8]> + Send)> + Send
        ) -> bool;
        incr(key: impl AsRef<[u8]> + Send) -> i64;
        decr(key: impl AsRef<[u8]> + Send) -> i64;
        incr_by(key: impl AsRef<[u8]> + Send, delta: i64) -> i64;
        incr_by_float(key: impl AsRef<[u8]> + Send, delta: f64) -> f64;
        append(key: impl AsRef<[u8]> + Send, suffix: impl AsRef<[u8]> + Send) -> usize;
        strlen(key: impl AsRef<[u8]> + Send) -> usize;
        get_range(key: impl AsRef<[u8]> + Send, start: i64, end: i64) -> Bytes;
        set_range(
            key: impl AsRef<[u8]> + Send,
            offset: usize,
            bytes: impl AsRef<[u8]> + Send
        ) -> usize;
        compare_and_swap(
            key: impl AsRef<[u8]> + Send,
            expected: Option<&[u8]>,
            new: Option<&[u8]>
        ) -> Swap;
        update(
            key: impl AsRef<[u8]> + Send,
            change: impl FnMut(Option<&[u8]>) -> Update + Send
        ) -> Option<Bytes>;
        del(key: impl AsRef<[u8]> + Send) -> bool;
        del_many(keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send) -> usize;
        exists(key: impl AsRef<[u8]> + Send) -> bool;
        key_type(key: impl AsRef<[u8]> + Send) -> Option<Type>;
        expire(key: impl AsRef<[u8]> + Send, ttl: Duration) -> bool;
        expire_at(key: impl AsRef<[u8]> + Send, at: UnixMillis) -> bool;
        ttl(key: impl AsRef<[u8]> + Send) -> Ttl;
        persist(key: impl AsRef<[u8]> + Send) -> bool;
        rename(from: impl AsRef<[u8]> + Send, to: impl AsRef<[u8]> + Send) -> ();
        rename_nx(from: impl AsRef<[u8]> + Send, to: impl AsRef<[u8]> + Send) -> bool;
        copy(from: impl AsRef<[u8]> + Send, to: impl AsRef<[u8]> + Send) -> bool;
        copy_over(from: impl AsRef<[u8]> + Send, to: impl AsRef<[u8]> + Send) -> bool;
        move_to(key: impl AsRef<[u8]> + Send, database: u32) -> bool;
        write(batch: &Batch) -> ();
        dbsize() -> KeyspaceLen;
        flush() -> ();
        collect_expired(entries: usize) -> ();
        flush_all() -> ();
        swap_databases(a: u32, b: u32) -> ();
        checkpoint(directory: impl AsRef<str> + Send) -> CheckpointInfo;
        sync(level: Durability) -> ();
        close() -> ();
    }

    /// Begins a transaction; see [`transaction`](crate::Ferrokit::transaction). Its own operations
    /// are futures, to be waited for with [`block_on`].
    pub fn transaction(
        &self,
        keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send,
    ) -> crate::Transaction<'_> {
        block_on(self.0.transaction(keys))
    }

    /// The entries of a range of keys; see [`scan`](crate::Ferrokit::scan).
    ///
    /// # Errors
    /// As there.
    pub fn scan(&self, range: impl IntoKeyRange) -> Result<Iter<crate::Scan>> {
        Ok(Iter(self.0.scan(range)?))
    }

    /// The entries whose keys begin with `prefix`; see
    /// [`scan_prefix`](crate::Ferrokit::scan_prefix).
    ///
    /// # Errors
    /// As there.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Iter<crate::Scan>> {
        Ok(Iter(self.0.scan_prefix(prefix)?))
    }

    /// The keys of the database, in no order; see [`keys`](crate::Ferrokit::keys).
    pub fn keys(&self) -> Iter<crate::Keys> {
        Iter(self.0.keys())
    }

    /// The store as it is at this moment; see [`snapshot`](crate::Ferrokit::snapshot).
    ///
    /// # Errors
    /// As there.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(block_on(self.0.snapshot())?))
    }

    /// Watches a key; see [`watch`](crate::Ferrokit::watch).
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, key: impl AsRef<[u8]> + Send) -> Result<Iter<crate::Watch>> {
        Ok(Iter(block_on(self.0.watch(key))?))
    }
}

/// The store as it was at one moment: [`Snapshot`](crate::Snapshot), blocking.
#[derive(Debug, Clone)]
pub struct Snapshot(crate::Snapshot);

impl Snapshot {
    blocking! { crate::Snapshot:
        get(key: impl AsRef<[u8]> + Send) -> Option<Bytes>;
        mget(keys: impl IntoIterator<Item: AsRef<[u8]> + Send> + Send) -> Vec<Option<Bytes>>;
        exists(key: impl AsRef<[u8]> + Send) -> bool;
    }

    /// The entries of a range of keys; see [`scan`](crate::Snapshot::scan).
    ///
    /// # Errors
    /// As there.
    pub fn scan(&self, range: impl IntoKeyRange) -> Result<Iter<crate::Scan>> {
        Ok(Iter(self.0.scan(range)?))
    }
}

/// A stream of this crate, item by item.
#[derive(Debug)]
pub struct Iter<S>(S);

impl<S> Iter<S> {
    /// The same with a stream that was told more:
    /// `kv.scan(..)?.with(|scan| scan.reversed())`.
    #[must_use]
    pub fn with(self, tell: impl FnOnce(S) -> S) -> Self {
        Self(tell(self.0))
    }
}

impl<S: futures_core::Stream + Unpin> Iterator for Iter<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        block_on(std::future::poll_fn(|cx| std::pin::Pin::new(&mut self.0).poll_next(cx)))
    }
}
