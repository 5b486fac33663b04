//! A log-structured merge-tree (O'Neil et al., 1996) behind ferrokit's contract.
//!
//! A write enters the log and the memtable; full memtables are flushed to level 0 and compacted
//! down the levels. Every version carries a sequence number; snapshots are sequence numbers.
//! `docs/design.md` describes every byte on disk and what survives which crash.
//!
//! | where | what |
//! |---|---|
//! | [`config`] | [`LsmConfig`], the options |
//! | `engine` | [`LsmEngine`], the contract |
//! | `tree` | the shared state, and how a write takes effect |
//! | `writes`, `reads` | the operations |
//! | `memtable`, `sst/` | where versions are kept |
//! | `read/` | lookups and merged scans |
//! | `version/` | which tables make up the tree; the manifest |
//! | `flush`, `compaction/`, `expiry`, `checkpoint` | maintenance |
//! | `wal` | the records in the log |
//! | `recovery` | opening |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod cache;
mod changes;
mod checkpoint;
mod compaction;
pub mod config;
mod encoding;
mod engine;
mod expiry;
mod flush;
pub mod fuzzing;
mod jobs;
mod key;
mod keyspace_len;
mod keyspaces;
mod memtable;
mod read;
mod reads;
mod recovery;
mod snapshot;
mod sst;
mod stats;
mod tables;
mod tree;
mod version;
mod wal;
mod writes;

pub use config::LsmConfig;
pub use engine::LsmEngine;
