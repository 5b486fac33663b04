//! The contract of ferrokit: what a storage engine is, whatever its data structure.
//!
//! An engine implements [`KvEngine`] (and through it [`KvRead`]); a frontend holds an
//! `Arc<dyn KvEngine>` and never learns which engine it talks to. What an engine can do beyond
//! the common ground is reached through the `as_*` methods ([`Ordered`], [`Snapshots`],
//! [`Checkpoint`], [`Changes`], [`Transactions`]) and stated as data in [`Capabilities`].
//!
//! | module | subject |
//! |---|---|
//! | [`engine`] | the traits [`KvRead`] and [`KvEngine`] |
//! | [`op`] | [`Op`], an answer that is ready or pending |
//! | [`options`] | durability, completion, read and write options, [`CommitTicket`] |
//! | [`batch`] | [`WriteBatch`] |
//! | [`ordered`], [`snapshot`], [`checkpoint`], [`changes`], [`transaction`] | the extension traits |
//! | [`capabilities`], [`stats`] | facts about an engine |
//! | [`env`](mod@env) | clock, timer, randomness and threads, injected |
//! | [`error`] | the one error type |
//! | [`ext`] | [`KvEngineExt`], sugar over the traits |
//! | [`url`] | [`EngineUrl`], how an engine is named in one line |
//!
//! The crate depends on no engine, no frontend, no file system and no async runtime.

#![forbid(unsafe_code)]

pub mod batch;
pub mod capabilities;
pub mod changes;
pub mod checkpoint;
pub mod engine;
pub mod entry;
pub mod env;
pub mod error;
pub mod ext;
mod forward;
pub mod op;
pub mod options;
pub mod ordered;
pub mod snapshot;
pub mod stats;
pub mod transaction;
pub mod url;

pub use batch::{BatchOp, WriteBatch};
pub use capabilities::{Capabilities, Tier};
pub use changes::{Change, ChangeBatch, ChangeFeed, ChangePosition, Changes};
pub use checkpoint::{Checkpoint, CheckpointInfo};
pub use engine::{KvEngine, KvRead, SweepCursor, Swept};
pub use entry::{Entry, KeyspaceId, Sequence, UnixMillis, Update};
pub use env::{Clock, Env, ExpiryClock, Random, Spawner, Timer};
pub use error::{Advice, Error, ErrorKind, Result};
pub use ext::KvEngineExt;
pub use op::{Op, WaitsAlone, block_on, may_block};
pub use options::{
    CommitTicket, Completion, Durability, KeyspaceLen, ReadOptions, Seen, WriteOptions, Written,
};
pub use ordered::{Direction, KeyRange, Ordered, ScanLimits, Scanned};
pub use snapshot::{Snapshot, Snapshots};
pub use stats::{Stat, Stats};
pub use transaction::{Isolation, Savepoint, Transaction, TransactionOptions, Transactions};
pub use url::EngineUrl;
