//! Foreign engines behind ferrokit's contract, to compare with.
//!
//! | URL | engine | options |
//! |---|---|---|
//! | `rocksdb:` | RocksDB | `compression` = `lz4` (the default) or `none` |
//! | `fjall:` | fjall | `compression` = `lz4` (the default) or `none` |
//! | `surrealkv:` | SurrealKV | `compression` = `snappy` (the default) or `none` |
//! | `slatedb:` | SlateDB on files | `compression` = `lz4` (the default) or `none` |
//! | `redb:` | redb, a copy-on-write B-tree | none |
//! | `lmdb:` | LMDB, a memory-mapped copy-on-write B-tree | `map` = the largest size of the file |
//! | `sled:` | sled 0.34 | none |
//! | `dashmap:` | DashMap, a hash map in memory, locked in shards | none |
//! | `papaya:` | papaya, a lock-free hash map in memory | none |
//! | `scc:` | scc's `HashMap`, a hash map in memory, locked by bucket | none |
//! | `skiplist:` | crossbeam's `SkipMap`, an ordered map in memory | none |
//!
//! An adapter does what its engine's documentation advises for the memory it may use and two
//! cores, and nothing on top: no copy and no lock that the engine does not ask for. The header of
//! each module says what the durabilities mean for its engine; `Subject::settings` repeats it in
//! every report, with the engine's version.
//!
//! `unsafe` is confined to `raw`.

use std::ops::Bound;
use std::sync::Arc;

use ferrokit_bench::peer::{Peer, PeerEngine};
use ferrokit_bench::subject::{Adapter, Subject};
use ferrokit_engine::{Error, ErrorKind, KeyRange, Result};
use tokio::runtime::{Builder, Runtime};

mod dashmap;
mod fjall;
mod lmdb;
mod papaya;
mod raw;
mod redb;
mod rocksdb;
mod scc;
mod skiplist;
mod slatedb;
mod sled;
mod surrealkv;

/// Every adapter.
pub const PEERS: &[Adapter] = &[
    rocksdb::ADAPTER,
    fjall::ADAPTER,
    surrealkv::ADAPTER,
    slatedb::ADAPTER,
    redb::ADAPTER,
    lmdb::ADAPTER,
    sled::ADAPTER,
    dashmap::ADAPTER,
    papaya::ADAPTER,
    scc::ADAPTER,
    skiplist::ADAPTER,
];

/// The versions of the engines, by crate.
pub const VERSIONS: &[(&str, &str)] = &[
    ("rocksdb", rocksdb::VERSION),
    ("fjall", fjall::VERSION),
    ("surrealkv", surrealkv::VERSION),
    ("slatedb", slatedb::VERSION),
    ("redb", redb::VERSION),
    ("heed", lmdb::VERSION),
    ("sled", sled::VERSION),
    ("dashmap", dashmap::VERSION),
    ("papaya", papaya::VERSION),
    ("scc", scc::VERSION),
    ("crossbeam-skiplist", skiplist::VERSION),
];

/// What an adapter without time to live and keyspaces leaves out.
const SKIPS: &str = "expiry, keyspaces";
/// The same for an engine that takes no empty key.
const SKIPS_EMPTY_KEYS: &str = "expiry, keyspaces, the empty key (the engine has none)";
/// The same for a map in memory.
const SKIPS_OF_MAPS: &str = "expiry, keyspaces, batches (the map has none)";

const LONGEST_KEY_BYTES: usize = 64 << 10;
const LONGEST_VALUE_BYTES: usize = 64 << 20;

fn subject(peer: impl Peer, settings: String) -> Subject {
    let updates_are_atomic = peer.facts().updates_are_atomic;
    Subject { engine: Arc::new(PeerEngine::new(peer)), settings, updates_are_atomic }
}

/// The failure of a foreign engine.
#[cold]
fn failed(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Io, operation, "the engine failed").with_source(source)
}

/// Refuses the empty key, for engines that have none.
fn refuse_empty(operation: &'static str, key: &[u8]) -> Result<()> {
    match key {
        [] => Err(Error::invalid(operation, "the engine takes no empty key")),
        _ => Ok(()),
    }
}

/// A tokio runtime for an engine that is asynchronous.
fn runtime(threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| failed("runtime", error))
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of a range, borrowed.
fn bounds(range: &KeyRange) -> Bounds<'_> {
    fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
        bound.as_ref().map(Vec::as_slice)
    }
    (borrowed(&range.start), borrowed(&range.end))
}

/// The bounds of a range for an engine without empty keys, which may refuse them in bounds too;
/// `None` if no other key lies within.
fn bounds_without_empty(range: &KeyRange) -> Option<Bounds<'_>> {
    match bounds(range) {
        (_, Bound::Included([]) | Bound::Excluded([])) => None,
        (Bound::Included([]) | Bound::Excluded([]), end) => Some((Bound::Unbounded, end)),
        bounds => Some(bounds),
    }
}

/// The first key and the key after the last one, for engines with half-open ranges.
fn half_open(range: &KeyRange) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    fn after(key: &[u8]) -> Vec<u8> {
        [key, &[0]].concat()
    }
    let start = match &range.start {
        Bound::Included(key) => Some(key.clone()),
        Bound::Excluded(key) => Some(after(key)),
        Bound::Unbounded => None,
    };
    let end = match &range.end {
        Bound::Included(key) => Some(after(key)),
        Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_told_are_those_built() {
        let lock = include_str!("../Cargo.lock");
        for (name, version) in VERSIONS {
            let package = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&package), "{name} {version} is not in Cargo.lock");
        }
    }

    #[test]
    fn names_are_unique_and_descriptions_tell() {
        for (index, adapter) in PEERS.iter().enumerate() {
            assert!(PEERS[..index].iter().all(|other| other.name != adapter.name));
            assert!(!adapter.description.is_empty() && !adapter.skips.is_empty());
        }
    }

    #[test]
    fn ranges_without_the_empty_key_have_no_empty_bound() {
        let range = |start, end| KeyRange { start, end };
        let empty = || Bound::Included(Vec::new());
        assert_eq!(bounds_without_empty(&range(Bound::Unbounded, empty())), None);
        for start in [empty(), Bound::Excluded(Vec::new()), Bound::Unbounded] {
            assert_eq!(
                bounds_without_empty(&range(start, Bound::Excluded(b"b".to_vec()))),
                Some((Bound::Unbounded, Bound::Excluded(&b"b"[..])))
            );
        }
    }

    #[test]
    fn half_open_ranges_hold_the_same_keys() {
        let range =
            KeyRange { start: Bound::Excluded(b"a".to_vec()), end: Bound::Included(b"c".to_vec()) };
        assert_eq!(half_open(&range), (Some(b"a\0".to_vec()), Some(b"c\0".to_vec())));
        assert_eq!(half_open(&KeyRange::ALL), (None, None));
    }
}
