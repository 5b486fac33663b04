//! Keys as the tree stores them.
//!
//! A *stored key* is the physical keyspace (4 bytes, big-endian, so that keyspaces lie apart)
//! followed by the user's key. A *version* of a stored key is numbered by its sequence; versions
//! sort by stored key upward, then by sequence downward, so that a search meets the newest first.

use std::cmp::Ordering;
use std::ops::Bound;

use ferrokit_engine::KeyRange;
use smallvec::SmallVec;

/// Where a keyspace's entries really lie. Emptying a keyspace gives it a fresh one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PhysicalKeyspace(pub(crate) u32);

/// Bytes of a stored key before the user's key.
pub(crate) const KEYSPACE_BYTES: usize = 4;

/// A stored key; short ones live on the stack.
pub(crate) type StoredKey = SmallVec<[u8; 64]>;

/// The stored key of `key` in `keyspace`.
pub(crate) fn stored_key(keyspace: PhysicalKeyspace, key: &[u8]) -> StoredKey {
    let mut stored = StoredKey::with_capacity(KEYSPACE_BYTES + key.len());
    stored.extend_from_slice(&keyspace.0.to_be_bytes());
    stored.extend_from_slice(key);
    stored
}

/// The keyspace and the user's key in a stored key.
pub(crate) fn split_stored_key(stored: &[u8]) -> Option<(PhysicalKeyspace, &[u8])> {
    let (keyspace, key) = stored.split_first_chunk::<KEYSPACE_BYTES>()?;
    Some((PhysicalKeyspace(u32::from_be_bytes(*keyspace)), key))
}

/// The user's key in a stored key.
pub(crate) fn user_key(stored: &[u8]) -> &[u8] {
    stored.get(KEYSPACE_BYTES..).unwrap_or_default()
}

/// The order of versions.
#[inline]
pub(crate) fn compare_versions(a: (&[u8], u64), b: (&[u8], u64)) -> Ordering {
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

/// A range of stored keys.
#[derive(Debug, Clone)]
pub(crate) struct StoredRange {
    pub(crate) start: Bound<StoredKey>,
    pub(crate) end: Bound<StoredKey>,
}

impl StoredRange {
    /// The stored keys of the user keys of `range` in `keyspace`.
    pub(crate) fn new(keyspace: PhysicalKeyspace, range: &KeyRange) -> Self {
        let start = match &range.start {
            Bound::Included(key) => Bound::Included(stored_key(keyspace, key)),
            Bound::Excluded(key) => Bound::Excluded(stored_key(keyspace, key)),
            Bound::Unbounded => Bound::Included(stored_key(keyspace, &[])),
        };
        let end = match &range.end {
            Bound::Included(key) => Bound::Included(stored_key(keyspace, key)),
            Bound::Excluded(key) => Bound::Excluded(stored_key(keyspace, key)),
            Bound::Unbounded => match keyspace.0.checked_add(1) {
                Some(next) => Bound::Excluded(stored_key(PhysicalKeyspace(next), &[])),
                None => Bound::Unbounded,
            },
        };
        Self { start, end }
    }

    /// Every stored key.
    pub(crate) fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Whether `key` lies before the range.
    pub(crate) fn is_before(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => key < start.as_slice(),
            Bound::Excluded(start) => key <= start.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// Whether `key` lies after the range.
    pub(crate) fn is_after(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key > end.as_slice(),
            Bound::Excluded(end) => key >= end.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// Whether keys from `smallest` to `largest` can lie in the range.
    pub(crate) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        !self.is_before(largest) && !self.is_after(smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_sorts_first_and_keys_sort_as_bytes() {
        assert_eq!(compare_versions((b"a", 9), (b"a", 3)), Ordering::Less);
        assert_eq!(compare_versions((b"a", 3), (b"a\0", 9)), Ordering::Less);
        assert_eq!(compare_versions((b"b", 1), (b"a", 1)), Ordering::Greater);
    }

    #[test]
    fn a_range_stays_in_its_keyspace() {
        let range = StoredRange::new(PhysicalKeyspace(7), &KeyRange::ALL);
        assert!(range.is_before(&stored_key(PhysicalKeyspace(6), b"\xff")));
        assert!(!range.is_before(&stored_key(PhysicalKeyspace(7), b"")));
        assert!(!range.is_after(&stored_key(PhysicalKeyspace(7), b"\xff\xff")));
        assert!(range.is_after(&stored_key(PhysicalKeyspace(8), b"")));
    }
}
