//! The cases, one module per group.

/// What every case module uses.
mod prelude {
    pub(crate) use std::collections::{BTreeMap, BTreeSet};
    pub(crate) use std::ops::Bound;

    pub(crate) use ferrokit_engine::{
        CommitTicket, Direction, Entry, ErrorKind, KeyRange, KeyspaceId, KvEngineExt, ReadOptions,
        ScanLimits, SweepCursor, UnixMillis, Update, WriteBatch,
    };

    pub(crate) use crate::case::group;
    pub(crate) use crate::lab::Lab;
    pub(crate) use crate::world::{
        Contents, KS, World, expect_error, key, poll_once, read_entry, read_many, scan_all,
        sweep_all, try_read_entry, value,
    };
}

pub mod batch;
pub mod cancellation;
pub mod changes;
pub mod checkpoint;
pub mod concurrency;
pub mod durability;
pub mod errors;
pub mod keyspace;
pub mod lifecycle;
pub mod limits;
pub mod point;
pub mod scan;
pub mod snapshot;
pub mod sweep;
pub mod transactions;
pub mod ttl;
pub mod update;
