//! The ordered in-memory model engine: small, obviously right, complete. It is the oracle that the
//! conformance suite compares other engines with, and a plain engine for data that may be lost.
//!
//! | module | subject |
//! |---|---|
//! | `config` | [`MemoryConfig`], also from an engine URL |
//! | `engine` | [`MemoryEngine`]: the contract's traits and nothing else |
//! | `state` | everything behind the one lock, and the one path by which writes take effect |
//! | `table` | the records of one keyspace, ordered, with their expiries |
//! | `read` | point reads, scans and sweeps over a table, a snapshot or a transaction |
//! | `snapshot`, `transaction`, `conflicts` | views, optimistic transactions, their validation |
//! | `changes` | the change log, kept while a feed is open |
//! | `checkpoint`, `recovery`, `format` | writing and loading a checkpoint; its bytes |
//!
//! # Thread-safety
//! One mutex guards all state; visitors run under it. Snapshots share the ordered maps and copy a
//! map on the first write after a snapshot of it. Lock order: the state's lock, then nothing (a
//! transaction's read set is locked only on its own).
//!
//! # Crash-safety
//! None: the strongest durability is [`Durability::Memory`](ferrokit_engine::Durability::Memory).
//! A checkpoint is complete or refused.

#![forbid(unsafe_code)]

mod changes;
mod checkpoint;
mod config;
mod conflicts;
mod engine;
mod format;
mod read;
mod recovery;
mod snapshot;
mod state;
mod table;
mod transaction;

pub use config::MemoryConfig;
pub use engine::MemoryEngine;
