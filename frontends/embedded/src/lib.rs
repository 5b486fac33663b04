//! An embedded key-value store with Redis semantics, over any ferrokit engine.
//!
//! ```
//! # ferrokit::block_on(async {
//! use std::time::Duration;
//!
//! let kv = ferrokit::open("memory:").await?; // or "lsm:./data", "hybridlog:?memory=1GiB", ...
//! kv.set("greeting", "hello").await?; // durable when it completes
//! kv.set_ex("session:7", "ada", Duration::from_secs(1800)).await?;
//! assert_eq!(kv.incr("visits").await?, 1);
//!
//! let mut sessions = kv.scan_prefix("session:")?;
//! while let Some(entry) = sessions.next().await {
//!     let (key, user) = entry?;
//!     println!("{key:?} is {user:?}");
//! }
//! kv.close().await
//! # }).unwrap();
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`builder`] | [`Builder`], [`open`]: which engine, how durable, on which machine |
//! | [`handle`] | [`Ferrokit`]: the handle of a database |
//! | `strings`, `keys` | its operations on values, and on keys whatever they hold |
//! | [`scan`], [`sweep`] | [`Scan`], [`Keys`]: streams over keys, in order and in none |
//! | [`batch`], [`transaction`] | [`Batch`], [`Transaction`]: several keys, all or nothing |
//! | [`snapshot`], `backup` | [`Snapshot`]; checkpoints, and stores restored from them |
//! | [`watch`] | [`Watch`]: what becomes of a key |
//! | [`blocking`] | the same without futures |
//! | [`options`], [`error`] | what operations are told and answer; [`Error`] |
//!
//! # Any executor, or none
//! Futures here are `Send`, need no particular runtime and start no task: tokio, smol and
//! [`block_on`] run them alike. Threads are started by engines, to open one, and to wait for the
//! expiry of a key that is watched. An answer that is in memory is ready at the first poll.
//!
//! # Engines
//! An engine is named by its URL, and changing it is a change of that line. Each is behind a cargo
//! feature of its name: `lsm` and `memory` by default; `hybridlog`, `dash`, `mvcc`. What an engine
//! cannot do ([`Ferrokit::capabilities`]) is answered with an error for which
//! [`is_unsupported`](Error::is_unsupported) holds.
//!
//! Data that was written through this crate is that of a `ferrokit-server` on the same engine and
//! directory, and the other way round.

#![forbid(unsafe_code)]

mod backup;
pub mod batch;
pub mod blocking;
pub mod builder;
mod chunks;
pub mod error;
pub mod handle;
mod handoff;
mod keys;
mod operations;
pub mod options;
pub mod scan;
pub mod snapshot;
mod strings;
pub mod sweep;
pub mod transaction;
pub mod watch;

pub use batch::Batch;
pub use builder::Builder;
pub use error::{Error, ErrorKind, Result};
pub use handle::Ferrokit;
pub use options::{SetOptions, SetOutcome, Swap, Ttl, Update};
pub use scan::{IntoKeyRange, Scan};
pub use snapshot::Snapshot;
pub use sweep::Keys;
pub use transaction::Transaction;
pub use watch::Watch;

pub use bytes::Bytes;
pub use ferrokit_engine::{
    Capabilities, CheckpointInfo, Durability, Env, ErrorKind as EngineErrorKind, KeyRange,
    KeyspaceLen, KvEngine, Stats, UnixMillis, block_on,
};
pub use ferrokit_engines::{EngineInfo, engines};
pub use ferrokit_redis::Type;
pub use ferrokit_storage::{Host, IoBackend};

/// Opens a store over the engine that a URL names; see [`Builder`] for more to say.
///
/// # Errors
/// As [`Builder::open`].
pub async fn open(url: impl Into<String>) -> Result<Ferrokit> {
    Builder::new(url).open().await
}
