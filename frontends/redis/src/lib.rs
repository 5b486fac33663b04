//! What "Redis" means, over any ferrokit engine, written once for every frontend.
//!
//! | module | subject |
//! |---|---|
//! | [`store`] | [`Store`]: an engine with databases, locks, watches, observers |
//! | [`db`] | [`Db`]: one caller's view of one database, and what every command is made of |
//! | [`transaction`] | [`Transaction`]: several keys, all or nothing |
//! | [`watch`] | [`WatchList`]: the keys a client watches |
//! | [`events`] | [`Observer`]: who is told of what happens to keys |
//! | [`expiry`] | the cycle that finds expired keys, and tells of them |
//! | [`eviction`] | which key goes first when the data limit is reached |
//! | [`value`] | [`Value`]: how a Redis value lies in an engine |
//! | [`strings`], [`keys`], `bitmaps`, `sketches`, `payloads`, `databases` | the commands, as operations of a [`Db`] |
//! | [`rewrite`] | atomic changes of a string by a caller's own function |
//! | `stripes` | the locks of keys |
//! | [`access`] | when and how often keys were accessed |
//! | [`refusal`] | [`Refusal`]: why a command was refused |
//! | [`bits`] | strings as arrays of bits: SETBIT, BITCOUNT, BITFIELD, ... |
//! | [`dump`] | the payloads of DUMP and RESTORE |
//! | [`hyperloglog`] | PFADD, PFCOUNT, PFMERGE over strings in Redis' format |
//! | [`lcs`] | the longest common subsequence |
//! | [`decimal`], [`integer`], [`glob`] | numbers and patterns as Redis reads them |
//!
//! The crate knows no socket, no protocol and no async runtime.

#![forbid(unsafe_code)]

pub mod access;
mod bitmaps;
pub mod bits;
mod databases;
pub mod db;
pub mod decimal;
pub mod dump;
pub mod events;
pub mod eviction;
pub mod expiry;
pub mod glob;
pub mod hyperloglog;
pub mod integer;
pub mod keys;
pub mod lcs;
mod payloads;
pub mod refusal;
pub mod rewrite;
mod sketches;
pub mod store;
pub mod strings;
mod stripes;
pub mod transaction;
pub mod value;
pub mod watch;

pub use access::FrequencyOptions;
pub use db::{Db, ManyVisitor, Scope, Tally};
pub use events::{ClientId, Event, EventClass, Interest, Observer};
pub use eviction::EvictionPolicy;
pub use payloads::RestoreOptions;
pub use refusal::{Refusal, RefusalKind, Result};
pub use rewrite::Rewrite;
pub use store::Store;
pub use strings::{Condition, Expiry, SetOptions};
pub use transaction::{KeySet, Transaction, WriteStamp};
pub use value::{Type, Value};
pub use watch::WatchList;
