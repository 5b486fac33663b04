//! The memtable: the newest versions, in a lock-free skip list.
//!
//! Writers are serialized by the engine's write lock; readers take no lock. A version is never
//! changed once inserted. A reader sees the versions up to a published sequence, so that the
//! versions of a batch still being inserted stay unseen.

use std::borrow::Borrow;
use std::cmp::Ordering as Compare;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::{Entry as MapEntry, Range};
use ferrokit_engine::UnixMillis;

use crate::key::{PhysicalKeyspace, StoredRange, compare_versions, split_stored_key};

/// What a version says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Delete,
}

/// Bytes a skip list node costs beyond key and value: the two boxes, sequence, expiry, tower.
const NODE_OVERHEAD_BYTES: usize = 112;

#[derive(Debug)]
pub(crate) struct VersionKey {
    pub(crate) key: Box<[u8]>,
    pub(crate) sequence: u64,
}

#[derive(Debug)]
pub(crate) struct VersionValue {
    pub(crate) kind: Kind,
    pub(crate) expire_at: Option<UnixMillis>,
    pub(crate) value: Box<[u8]>,
}

/// Lets the map be searched by a borrowed key without allocating an owned one.
trait VersionParts {
    fn parts(&self) -> (&[u8], u64);
}

impl VersionParts for VersionKey {
    fn parts(&self) -> (&[u8], u64) {
        (&self.key, self.sequence)
    }
}

struct Probe<'a>(&'a [u8], u64);

impl VersionParts for Probe<'_> {
    fn parts(&self) -> (&[u8], u64) {
        (self.0, self.1)
    }
}

impl<'a> Borrow<dyn VersionParts + 'a> for VersionKey {
    fn borrow(&self) -> &(dyn VersionParts + 'a) {
        self
    }
}

impl PartialEq for dyn VersionParts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}
impl Eq for dyn VersionParts + '_ {}
impl PartialOrd for dyn VersionParts + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Compare> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn VersionParts + '_ {
    fn cmp(&self, other: &Self) -> Compare {
        compare_versions(self.parts(), other.parts())
    }
}
impl PartialEq for VersionKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}
impl Eq for VersionKey {}
impl PartialOrd for VersionKey {
    fn partial_cmp(&self, other: &Self) -> Option<Compare> {
        Some(self.cmp(other))
    }
}
impl Ord for VersionKey {
    fn cmp(&self, other: &Self) -> Compare {
        compare_versions(self.parts(), other.parts())
    }
}

/// A lent version of a memtable.
pub(crate) type MemEntry<'a> = MapEntry<'a, VersionKey, VersionValue>;

#[derive(Debug)]
pub(crate) struct Memtable {
    versions: SkipMap<VersionKey, VersionValue>,
    bytes: AtomicUsize,
    /// Puts less deletes by keyspace. Written under the engine's write lock, rarely read.
    balances: Mutex<HashMap<PhysicalKeyspace, i64>>,
}

impl Memtable {
    pub(crate) fn new() -> Self {
        Self { versions: SkipMap::new(), bytes: AtomicUsize::new(0), balances: Mutex::default() }
    }

    /// Adds a version. Sequences grow, so that no version is added twice.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        sequence: u64,
        kind: Kind,
        expire_at: Option<UnixMillis>,
        value: &[u8],
    ) {
        if let Some((keyspace, _)) = split_stored_key(key) {
            let mut balances = self.balances.lock().unwrap_or_else(PoisonError::into_inner);
            *balances.entry(keyspace).or_default() += if kind == Kind::Put { 1 } else { -1 };
        }
        self.bytes.fetch_add(key.len() + value.len() + NODE_OVERHEAD_BYTES, Ordering::Relaxed);
        self.versions.insert(
            VersionKey { key: key.into(), sequence },
            VersionValue { kind, expire_at, value: value.into() },
        );
    }

    /// The newest version of `key` up to `sequence`.
    pub(crate) fn get(&self, key: &[u8], sequence: u64) -> Option<MemEntry<'_>> {
        let probe: &dyn VersionParts = &Probe(key, sequence);
        self.versions.lower_bound(Bound::Included(probe)).filter(|entry| *entry.key().key == *key)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// Puts less deletes of a keyspace: what it adds to an estimate of the keyspace's size.
    pub(crate) fn estimated_entries(&self, keyspace: PhysicalKeyspace) -> i64 {
        let balances = self.balances.lock().unwrap_or_else(PoisonError::into_inner);
        balances.get(&keyspace).copied().unwrap_or(0)
    }

    /// Versions of `range`, in either direction.
    pub(crate) fn iter(&self, range: &StoredRange) -> MemIter<'_> {
        // The newest version of a key sorts first: to take a key in, begin at its newest possible
        // version; to leave it out, behind its oldest.
        let start = match &range.start {
            Bound::Included(key) => Bound::Included(owned_probe(key, u64::MAX)),
            Bound::Excluded(key) => Bound::Excluded(owned_probe(key, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let end = match &range.end {
            Bound::Included(key) => Bound::Included(owned_probe(key, 0)),
            Bound::Excluded(key) => Bound::Excluded(owned_probe(key, u64::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        };
        MemIter { range: self.versions.range((start, end)) }
    }
}

fn owned_probe(key: &[u8], sequence: u64) -> VersionKey {
    VersionKey { key: key.into(), sequence }
}

type VersionBounds = (Bound<VersionKey>, Bound<VersionKey>);

pub(crate) struct MemIter<'a> {
    range: Range<'a, VersionKey, VersionBounds, VersionKey, VersionValue>,
}

impl<'a> MemIter<'a> {
    pub(crate) fn next(&mut self) -> Option<MemEntry<'a>> {
        self.range.next()
    }

    pub(crate) fn next_back(&mut self) -> Option<MemEntry<'a>> {
        self.range.next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_sees_the_newest_version_up_to_its_sequence() {
        let table = Memtable::new();
        table.insert(b"k", 3, Kind::Put, None, b"old");
        table.insert(b"k", 7, Kind::Delete, None, b"");
        table.insert(b"k\0", 5, Kind::Put, None, b"other");
        let value =
            |sequence| table.get(b"k", sequence).map(|e| (e.value().kind, e.key().sequence));
        assert_eq!(value(2), None);
        assert_eq!(value(6), Some((Kind::Put, 3)));
        assert_eq!(value(7), Some((Kind::Delete, 7)));
        assert!(table.get(b"j", 9).is_none());
    }
}
