//! Point lookups.

use ferrokit_engine::UnixMillis;

use super::source::{BlockSource, Fault};
use crate::key::{StoredKey, StoredRange};
use crate::memtable::{Kind, Memtable};
use crate::sst::filter::filter_hash;
use crate::sst::iter::TableIter;
use crate::version::{Version, View};
use ferrokit_engine::Direction;
use std::ops::Bound;
use std::sync::Arc;

/// A version that was found, lent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) expire_at: Option<UnixMillis>,
    pub(crate) value: &'a [u8],
}

/// The newest version of `key` up to `sequence`, whatever it says. `visit` runs at most once, and
/// not before every block it takes was at hand.
pub(crate) fn get<R>(
    view: &View,
    key: &StoredKey,
    sequence: u64,
    blocks: &mut impl BlockSource,
    visit: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>, Fault> {
    for memtable in view.memtables() {
        if let Some(entry) = memtable.get(key, sequence) {
            return Ok(Some(visit(found_in_memtable(&entry))));
        }
    }
    get_from_tables(&view.version, key, sequence, blocks, visit)
}

/// The newest version of `key` in a memtable of `view`.
pub(crate) fn get_from_memtables<R>(
    memtables: impl Iterator<Item = Arc<Memtable>>,
    key: &StoredKey,
    sequence: u64,
    visit: impl FnOnce(Found<'_>) -> R,
) -> Option<R> {
    for memtable in memtables {
        if let Some(entry) = memtable.get(key, sequence) {
            return Some(visit(found_in_memtable(&entry)));
        }
    }
    None
}

fn found_in_memtable<'a>(entry: &'a crate::memtable::MemEntry<'_>) -> Found<'a> {
    let value = entry.value();
    Found {
        sequence: entry.key().sequence,
        kind: value.kind,
        expire_at: value.expire_at,
        value: &value.value,
    }
}

/// As [`get`], of the tables alone.
pub(crate) fn get_from_tables<R>(
    version: &Version,
    key: &StoredKey,
    sequence: u64,
    blocks: &mut impl BlockSource,
    visit: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>, Fault> {
    let hash = filter_hash(key);
    // Newer tables come first: level 0 from the newest on, then level by level.
    for table in version.tables_with(key) {
        if !table.may_contain(hash) {
            continue;
        }
        let range =
            StoredRange { start: Bound::Included(key.clone()), end: Bound::Included(key.clone()) };
        let mut iter = TableIter::new(Arc::clone(table), range, Direction::Forward);
        iter.start_at(sequence, blocks)?;
        if let Some(record) = iter.record() {
            return Ok(Some(visit(Found {
                sequence: record.sequence(),
                kind: record.kind(),
                expire_at: record.expire_at(),
                value: record.value(),
            })));
        }
    }
    Ok(None)
}
