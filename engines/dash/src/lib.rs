//! Dash extendible hashing on persistent memory.
//!
//! A hash table laid out for memory that is byte-addressable and durable (Lu et al., "Dash:
//! Scalable Hashing on Persistent Memory", VLDB 2020): readers lock nothing, a lookup touches a
//! bucket's fingerprint line, a slot and the record, and a write is published by one 8-byte store.
//!
//! | module | subject |
//! |---|---|
//! | `config` | [`DashConfig`] |
//! | `engine` | [`DashEngine`]: the contract, over the core |
//! | `core` | table, keyspaces and clock together |
//! | `table` | directory, segments, buckets, locks, splits, recovery |
//! | `alloc` | space in the region |
//! | `record`, `hash`, `keyspaces` | what a record is, where it goes, to whom it belongs |
//! | `purger` | the job that collects the dead |
//!
//! `docs/design.md` describes the layout byte by byte, and what survives which crash.

#![deny(unsafe_code)]

mod alloc;
mod config;
mod core;
mod engine;
mod hash;
mod keyspaces;
mod purger;
#[expect(unsafe_code, reason = "lends record bytes in place")]
mod raw;
mod record;
#[expect(unsafe_code, reason = "vector instructions")]
mod simd;
mod table;

pub use config::DashConfig;
pub use engine::DashEngine;
