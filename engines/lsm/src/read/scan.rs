//! [`Scan`]: what is visible of a range at a sequence and a time.

use std::ops::Bound;

use ferrokit_engine::{Direction, Entry, Sequence, UnixMillis};

use super::get::Found;
use super::merge::MergeIter;
use super::source::{BlockSource, Fault};
use crate::key::{StoredKey, StoredRange, user_key};
use crate::memtable::Kind;
use crate::version::View;

/// Expired entries a scan reports for collection, at most.
const EXPIRED_MAX: usize = 64;

/// Versions a step of a sweep looks at beyond those visited: bounds the work among tombstones.
const EXAMINED_SPARE: usize = 4096;

/// A chunk of a scan in the making. A [`Fault`] leaves it standing behind the last key decided, so
/// that it goes on from there.
pub(crate) struct Scan {
    range: StoredRange,
    direction: Direction,
    sequence: u64,
    now: UnixMillis,
    entries_left: usize,
    bytes_left: usize,
    examined_left: usize,
    pub(crate) visited: usize,
    /// The last key decided, visited or not.
    pub(crate) last: Option<StoredKey>,
    /// Expired entries met, with their sequences.
    pub(crate) expired: Vec<(StoredKey, u64)>,
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// Nothing is left of the range.
    Exhausted,
    /// A limit was reached; go on behind the last key.
    Limit,
}

/// The newest visible version of the key a backward scan is passing.
struct Candidate {
    sequence: u64,
    kind: Kind,
    expire_at: Option<UnixMillis>,
    value: Vec<u8>,
}

/// Gets stored keys.
type Visit<'a> = dyn FnMut(&[u8], Entry<'_>) + Send + 'a;

impl Scan {
    pub(crate) fn new(
        range: StoredRange,
        direction: Direction,
        sequence: u64,
        now: UnixMillis,
        entries: usize,
        bytes: usize,
    ) -> Self {
        let entries_left = entries.max(1);
        Self {
            range,
            direction,
            sequence,
            now,
            entries_left,
            bytes_left: bytes,
            examined_left: usize::MAX,
            visited: 0,
            last: None,
            expired: Vec::new(),
        }
    }

    /// Runs until the range is exhausted or a limit is reached. Visits users' keys.
    pub(crate) fn run(
        &mut self,
        view: &View,
        blocks: &mut impl BlockSource,
        visit: &mut Visit<'_>,
    ) -> Result<ScanEnd, Fault> {
        self.run_over(view, blocks, &mut |stored, entry| visit(user_key(stored), entry))
    }

    /// As [`run`](Self::run), visiting stored keys.
    pub(crate) fn run_stored(
        &mut self,
        view: &View,
        blocks: &mut impl BlockSource,
        visit: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<ScanEnd, Fault> {
        self.run_over(view, blocks, &mut |stored, _| visit(stored))
    }

    /// Bounds the versions looked at, visited or not: a step may end without a visit then, but
    /// never without having passed a key.
    #[must_use]
    pub(crate) fn with_bounded_work(mut self) -> Self {
        self.examined_left = self.entries_left.saturating_mul(8).saturating_add(EXAMINED_SPARE);
        self
    }

    /// Ends the scan behind `key`.
    pub(crate) fn end_at(&mut self, key: &StoredKey) {
        self.range.end = Bound::Included(key.clone());
    }

    /// Lets the scan go on for another `entries` entries.
    pub(crate) fn renew(&mut self, entries: usize) {
        self.entries_left = entries.max(1);
    }

    fn run_over(
        &mut self,
        view: &View,
        blocks: &mut impl BlockSource,
        visit: &mut Visit<'_>,
    ) -> Result<ScanEnd, Fault> {
        let range = self.range.clone();
        let mut merge = MergeIter::new(view.memtable_refs(), &view.version, &range, self.direction);
        merge.start(blocks)?;
        match self.direction {
            Direction::Forward => self.forward(&mut merge, blocks, visit),
            Direction::Backward => self.backward(&mut merge, blocks, visit),
        }
    }

    fn forward(
        &mut self,
        merge: &mut MergeIter<'_>,
        blocks: &mut impl BlockSource,
        visit: &mut Visit<'_>,
    ) -> Result<ScanEnd, Fault> {
        while let Some((key, found)) = merge.current() {
            self.examined_left = self.examined_left.saturating_sub(1);
            let decided = self.last.as_ref().is_some_and(|last| last.as_slice() == key);
            if !decided && found.sequence <= self.sequence {
                // The newest visible version of its key: the older ones behind it are covered.
                self.decide(key, found, visit);
                if self.is_full() {
                    return Ok(ScanEnd::Limit);
                }
            } else if self.examined_left == 0 && decided {
                return Ok(ScanEnd::Limit);
            }
            merge.advance(blocks)?;
        }
        Ok(ScanEnd::Exhausted)
    }

    fn backward(
        &mut self,
        merge: &mut MergeIter<'_>,
        blocks: &mut impl BlockSource,
        visit: &mut Visit<'_>,
    ) -> Result<ScanEnd, Fault> {
        // Against the order, the versions of a key come oldest first: the last visible one before
        // the key changes is the newest.
        let mut passing: Option<(StoredKey, Option<Candidate>)> = None;
        loop {
            let current = merge.current();
            let same_key = match (&passing, &current) {
                (Some((key, _)), Some((at, _))) => key.as_slice() == *at,
                _ => false,
            };
            if !same_key && let Some((key, candidate)) = passing.take() {
                self.decide_candidate(key, candidate, visit);
                if self.is_full() {
                    return Ok(ScanEnd::Limit);
                }
            }
            let Some((key, found)) = current else { return Ok(ScanEnd::Exhausted) };
            self.examined_left = self.examined_left.saturating_sub(1);
            let (_, candidate) = passing.get_or_insert_with(|| (StoredKey::from_slice(key), None));
            if found.sequence <= self.sequence {
                *candidate = Some(Candidate {
                    sequence: found.sequence,
                    kind: found.kind,
                    expire_at: found.expire_at,
                    value: found.value.to_vec(),
                });
            }
            merge.advance(blocks)?;
        }
    }

    fn decide_candidate(
        &mut self,
        key: StoredKey,
        candidate: Option<Candidate>,
        visit: &mut Visit<'_>,
    ) {
        match candidate {
            Some(candidate) => {
                let found = Found {
                    sequence: candidate.sequence,
                    kind: candidate.kind,
                    expire_at: candidate.expire_at,
                    value: &candidate.value,
                };
                self.decide(&key, found, visit);
            }
            None => self.pass(key),
        }
    }

    /// Visits the entry unless it is a tombstone or expired, and goes behind its key.
    fn decide(&mut self, key: &[u8], found: Found<'_>, visit: &mut Visit<'_>) {
        if found.kind == Kind::Put {
            if Entry::is_expired_at(found.expire_at, self.now) {
                if self.expired.len() < EXPIRED_MAX {
                    self.expired.push((StoredKey::from_slice(key), found.sequence));
                }
            } else {
                let entry = Entry {
                    value: found.value,
                    expire_at: found.expire_at,
                    sequence: Some(Sequence(found.sequence)),
                };
                visit(key, entry);
                self.visited += 1;
                self.entries_left = self.entries_left.saturating_sub(1);
                self.bytes_left = self.bytes_left.saturating_sub(key.len() + found.value.len());
            }
        }
        self.pass(StoredKey::from_slice(key));
    }

    fn pass(&mut self, key: StoredKey) {
        match self.direction {
            Direction::Forward => self.range.start = Bound::Excluded(key.clone()),
            Direction::Backward => self.range.end = Bound::Excluded(key.clone()),
        }
        self.last = Some(key);
    }

    fn is_full(&self) -> bool {
        self.entries_left == 0 || self.bytes_left == 0 || self.examined_left == 0
    }
}
