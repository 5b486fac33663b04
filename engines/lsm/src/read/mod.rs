//! Reading: sources of blocks, point lookups, merged scans.
//!
//! All of it is synchronous over blocks at hand. A block that is not at hand is a
//! [`Fault::Missing`]: the caller fetches it without blocking anyone and runs the lookup again
//! from its start (a scan: from where it stood), with the fetched block held until the operation
//! ends. So the code that walks the tree is written once, and no pointer into it crosses an await.

pub(crate) mod get;
pub(crate) mod merge;
pub(crate) mod scan;
pub(crate) mod source;

pub(crate) use get::{Found, get, get_from_tables};
pub(crate) use source::{BlockSource, CachedBlocks, Fault, LoadedBlocks, Missing};
