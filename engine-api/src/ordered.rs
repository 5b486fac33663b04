//! Range scans.

use std::ops::Bound;

use crate::entry::{Entry, KeyspaceId};
use crate::op::Op;
use crate::options::{CommitTicket, ReadOptions};

/// A range of keys in byte order. It is also the cursor of a chunked scan: each chunk reports the
/// range that is left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The lower end.
    pub start: Bound<Vec<u8>>,
    /// The upper end.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: Self = Self { start: Bound::Unbounded, end: Bound::Unbounded };

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bound::Included(prefix.to_vec()), end: prefix_end(prefix) }
    }

    /// The keys from `start` up to, without, `end`.
    pub fn half_open(start: &[u8], end: &[u8]) -> Self {
        Self { start: Bound::Included(start.to_vec()), end: Bound::Excluded(end.to_vec()) }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
            Bound::Unbounded => true,
        };
        let before_end = match &self.end {
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
            Bound::Unbounded => true,
        };
        after_start && before_end
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
            _ => false,
        }
    }

    /// What is left of the range once a scan in `direction` has visited `key`.
    #[must_use]
    pub fn after(&self, key: &[u8], direction: Direction) -> Self {
        match direction {
            Direction::Forward => {
                Self { start: Bound::Excluded(key.to_vec()), end: self.end.clone() }
            }
            Direction::Backward => {
                Self { start: self.start.clone(), end: Bound::Excluded(key.to_vec()) }
            }
        }
    }
}

/// The smallest key above every key that begins with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the smallest key up.
    #[default]
    Forward,
    /// From the greatest key down.
    Backward,
}

/// The size of one chunk of a scan. The entry that reaches a limit is still visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Entries in a chunk, at least 1.
    pub entries: usize,
    /// Key and value bytes in a chunk.
    pub bytes: usize,
}

impl ScanLimits {
    /// A chunk of up to `entries` entries and 1 MiB.
    pub const fn entries(entries: usize) -> Self {
        Self { entries, bytes: 1 << 20 }
    }
}

/// The report of one chunk of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// What is left to scan; `None` at the end.
    pub rest: Option<KeyRange>,
    /// How many entries were visited.
    pub visited: usize,
    /// What to wait for before showing the result.
    pub ticket: CommitTicket,
}

/// Range scans in both directions, in chunks.
pub trait Ordered: Send + Sync {
    /// Visits the entries of `range` in key order (or against it), up to `limits`. One chunk is
    /// one consistent view; for several chunks of one view, scan a snapshot.
    ///
    /// # Errors
    /// As [`KvRead::get_with`](crate::KvRead::get_with).
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(KeyRange::prefix(b"ab").end, Bound::Excluded(b"ac".to_vec()));
        assert_eq!(KeyRange::prefix(b"a\xff").end, Bound::Excluded(b"b".to_vec()));
        assert_eq!(KeyRange::prefix(b"\xff\xff").end, Bound::Unbounded);
        assert!(KeyRange::prefix(b"a\xff").contains(b"a\xff\xff\xff"));
        assert!(!KeyRange::prefix(b"a\xff").contains(b"b"));
    }

    #[test]
    fn what_is_left_excludes_the_visited_key() {
        let rest = KeyRange::ALL.after(b"m", Direction::Backward);
        assert!(rest.contains(b"l") && !rest.contains(b"m"));
        assert!(KeyRange::half_open(b"b", b"b").is_empty());
        assert!(!KeyRange::half_open(b"a", b"b").is_empty());
    }
}
