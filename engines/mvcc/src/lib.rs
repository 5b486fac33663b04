//! Versions, snapshots and transactions over any ferrokit engine.
//!
//! [`Mvcc`] wraps an engine, ordered or not, and is one: the newest version of a key lies at the
//! bare key, so that point reads stay one read of the inner engine; older versions lie elsewhere,
//! linked from newest to oldest, and exist only while a snapshot or transaction needs them. On top
//! of that stand consistent views ([`Snapshots`](ferrokit_engine::Snapshots)) and optimistic
//! transactions ([`Transactions`](ferrokit_engine::Transactions)), snapshot-isolated or
//! serializable; the first committer wins.
//!
//! | module | subject |
//! |---|---|
//! | `record` | the bytes: headers, keys of older versions, meta entries |
//! | `oracle` | timestamps of commits, open views, the watermark |
//! | `wait`, `stripes` | locks held across waits: the gate, the stripes of keys |
//! | `directory` | which inner keyspace holds which keyspace: clear and swap |
//! | `commit` | the write path and the removal of versions |
//! | `core` | what is shared; commits that outlive their callers |
//! | `engine`, `view`, `transaction` | the contract's traits |
//!
//! The record layout, the invariants and what survives which crash: `docs/design.md`.

#![forbid(unsafe_code)]

mod commit;
mod core;
mod directory;
mod engine;
mod garbage;
mod options;
mod oracle;
mod record;
mod stripes;
mod transaction;
mod view;
mod wait;

pub use engine::Mvcc;
pub use options::MvccOptions;
