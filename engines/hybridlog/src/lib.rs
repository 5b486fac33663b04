//! A FASTER-style engine (Chandramouli et al., "FASTER: A Concurrent Key-Value Store with In-Place
//! Updates", SIGMOD 2018) in memory: a latch-free hash index over a record log.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | [`HybridLogConfig`]: sizes, and how a URL names them |
//! | [`engine`] | [`HybridLogEngine`]: the contract |
//! | `store` | the operations |
//! | `index` | cache-line buckets, two-phase insert, growth, batch latches |
//! | `log` | pages, allocation, records with latch and version |
//! | `epoch` | epoch protection with trigger actions |
//! | `keyspaces` | which records a keyspace shows |
//! | `address`, `interrupt`, `primitive`, `raw` | addresses; why an attempt stops; atomics; raw memory |
//!
//! What it promises: every operation is ready at once; writes are at most
//! [`Durability::Memory`](ferrokit_engine::Durability::Memory); memory stays within the configured
//! budget, and a write that would exceed it is refused with `OutOfSpace`. Layouts, protocols and
//! the argument for their memory order are in `docs/design.md`.
//!
//! `unsafe` is confined to `raw` and `epoch::protected`.

#![deny(unsafe_code)]

mod address;
pub mod config;
mod disk;
pub mod engine;
mod epoch;
mod index;
mod interrupt;
mod journal;
mod keyspaces;
mod log;
mod primitive;
mod raw;
mod store;

pub use config::HybridLogConfig;
pub use engine::HybridLogEngine;

#[cfg(test)]
#[cfg(loom)]
mod models;
