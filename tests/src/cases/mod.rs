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
        Contents, KS, World, expect_error, key, read_many, scan_all, sweep_all, try_read_entry,
        value,
    };
}

pub mod batch;
pub mod keyspace;
pub mod point;
pub mod scan;
pub mod sweep;
pub mod ttl;
pub mod update;
