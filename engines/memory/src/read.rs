//! Reads over an ordered run of entries: what the engine, a snapshot and a transaction share.

use std::ops::Bound;

use ferrokit_engine::{
    CommitTicket, Direction, Entry, Error, KeyRange, Result, ScanLimits, Scanned, SweepCursor,
    Swept, UnixMillis,
};

use crate::table::{Record, Records};

/// The record of `key`, unless it has expired at `now`.
pub(crate) fn live<'r>(records: &'r Records, key: &[u8], now: UnixMillis) -> Option<&'r Record> {
    records.get(key).filter(|record| !record.is_expired_at(now))
}

/// The entries of `range` that are present at `now`, in key order.
pub(crate) fn live_range<'r>(
    records: &'r Records,
    range: &KeyRange,
    now: UnixMillis,
) -> impl DoubleEndedIterator<Item = (&'r [u8], Entry<'r>)> + use<'r> {
    records
        .range::<[u8], _>(bounds(range))
        .filter(move |(_, record)| !record.is_expired_at(now))
        .map(|(key, record)| (&**key, record.entry()))
}

/// The bounds of a range in the form that `BTreeMap::range` takes. An empty range becomes one that
/// the map accepts (it panics on a start above the end).
pub(crate) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    if range.is_empty() {
        return (Bound::Unbounded, Bound::Excluded(&[]));
    }
    (range.start.as_ref().map(Vec::as_slice), range.end.as_ref().map(Vec::as_slice))
}

/// Visits one chunk of `entries`, which are the entries of `range` in `direction`.
pub(crate) fn scan_chunk<'r>(
    entries: impl Iterator<Item = (&'r [u8], Entry<'r>)>,
    range: &KeyRange,
    direction: Direction,
    limits: ScanLimits,
    visit: &mut (dyn FnMut(&[u8], Entry<'_>) + Send + '_),
) -> Scanned {
    let mut entries = entries.peekable();
    let mut scanned = Scanned { rest: None, visited: 0, ticket: CommitTicket::NONE };
    let mut bytes = 0usize;
    while let Some((key, entry)) = entries.next() {
        visit(key, entry);
        scanned.visited += 1;
        bytes = bytes.saturating_add(key.len() + entry.value.len());
        if scanned.visited >= limits.entries || bytes >= limits.bytes {
            scanned.rest = entries.peek().is_some().then(|| range.after(key, direction));
            break;
        }
    }
    scanned
}

/// Where a sweep stands: after `last`, on the way to `end`, the greatest key at its beginning.
/// Keys above that one are new and need no visit: so a sweep ends while keys are being appended.
struct SweepPosition {
    last: Option<Vec<u8>>,
    end: Vec<u8>,
}

/// The first byte of a cursor.
const CURSOR_VERSION: u8 = 1;

impl SweepPosition {
    /// `version(1) | length of end(4, little-endian) | end | last`.
    fn encode(&self) -> SweepCursor {
        let mut bytes = vec![CURSOR_VERSION];
        let end_bytes = u32::try_from(self.end.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&end_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.end);
        bytes.extend_from_slice(self.last.as_deref().unwrap_or_default());
        SweepCursor::from_bytes(&bytes)
    }

    fn decode(cursor: &SweepCursor) -> Option<Self> {
        let rest = cursor.as_bytes().strip_prefix(&[CURSOR_VERSION])?;
        let (end_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (end, last) = rest.split_at_checked(u32::from_le_bytes(*end_bytes) as usize)?;
        (last <= end).then(|| Self { last: Some(last.to_vec()), end: end.to_vec() })
    }
}

/// The range that a sweep still has to visit; `None` if there is nothing.
///
/// # Errors
/// `InvalidArgument` for a cursor of another making.
pub(crate) fn sweep_range(
    cursor: &SweepCursor,
    greatest_key: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<Option<KeyRange>> {
    let position = if cursor.is_start() {
        match greatest_key() {
            None => return Ok(None),
            Some(end) => SweepPosition { last: None, end },
        }
    } else {
        SweepPosition::decode(cursor)
            .ok_or_else(|| Error::invalid("sweep", "the cursor is not one of this engine"))?
    };
    let start = position.last.map_or(Bound::Unbounded, Bound::Excluded);
    Ok(Some(KeyRange { start, end: Bound::Included(position.end) }))
}

/// Visits one step of a sweep over `entries`, which are those of `range` in key order.
pub(crate) fn sweep_chunk<'r>(
    entries: impl Iterator<Item = (&'r [u8], Entry<'r>)>,
    range: &KeyRange,
    budget: usize,
    visit: &mut (dyn FnMut(&[u8], Entry<'_>) + Send + '_),
) -> Swept {
    let limits = ScanLimits { entries: budget.max(1), bytes: usize::MAX };
    let scanned = scan_chunk(entries, range, Direction::Forward, limits, visit);
    let next = match scanned.rest {
        Some(KeyRange { start: Bound::Excluded(last), end: Bound::Included(end) }) => {
            Some(SweepPosition { last: Some(last), end }.encode())
        }
        _ => None,
    };
    Swept { next, visited: scanned.visited, ticket: CommitTicket::NONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_cursor_is_refused() {
        let position = SweepPosition { last: Some(b"b".to_vec()), end: b"d".to_vec() };
        let range = sweep_range(&position.encode(), || None).unwrap().unwrap();
        assert_eq!(range.start, Bound::Excluded(b"b".to_vec()));
        assert_eq!(range.end, Bound::Included(b"d".to_vec()));
        for bytes in
            [&b"x"[..], b"\x01", b"\x01\xff\xff\xff\xff", b"\x01\x01\0\0\0az", b"\x02\0\0\0\0"]
        {
            assert!(sweep_range(&SweepCursor::from_bytes(bytes), || None).is_err(), "{bytes:?}");
        }
    }
}
