//! A FASTER-style engine (Chandramouli et al., "FASTER: A Concurrent Key-Value Store with In-Place
//! Updates", SIGMOD 2018): a latch-free hash index over a record log, of which the newest part is in
//! memory and updated in place, and the rest on disk.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | [`HybridLogConfig`]: sizes, and how a URL names them |
//! | [`engine`] | [`HybridLogEngine`]: the contract |
//! | `changes` | its change feed |
//! | `store` | the operations; moving pages, checkpoints, recovery |
//! | `index` | cache-line buckets, two-phase insert, growth, batch latches |
//! | `log` | pages, allocation, regions, records with latch and version |
//! | `disk` | pages in segment files, mapped, in objects; checkpoints in theirs |
//! | `journal` | the writes in the engine's Log |
//! | `epoch` | epoch protection with trigger actions |
//! | `keyspaces` | which records a keyspace shows |
//! | `address`, `interrupt`, `primitive`, `raw` | addresses; why an attempt stops; atomics; raw memory |
//!
//! Without a directory it promises: every operation is ready at once; writes are at most
//! [`Durability::Memory`](ferrokit_engine::Durability::Memory); a write that would exceed the
//! configured memory is refused with `OutOfSpace`. With a directory: writes are as durable as is
//! asked; data beyond the configured memory go to disk, and an operation that needs them is pending.
//! Layouts, protocols and the argument for their memory order are in `docs/design.md`.
//!
//! `unsafe` is confined to `raw` and `epoch::protected`.

#![deny(unsafe_code)]

mod address;
mod changes;
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
mod read_cache;
mod store;

pub use config::HybridLogConfig;
pub use engine::HybridLogEngine;
pub use store::migrate::TierLimits;

#[cfg(test)]
#[cfg(loom)]
mod models;
