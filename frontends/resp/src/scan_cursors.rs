//! [`ScanCursors`]: SCAN's integers for the engine's opaque cursors.
//!
//! Redis' cursors are integers; an engine's are bytes of any length. The table keeps the bytes
//! under a number. It is bounded, in entries and in bytes; the least recently used entry goes
//! first. A number stays valid when it is used, so that a client may repeat a step. A number that
//! is not in the table, or belongs to another database, is refused: starting over in silence could
//! go on forever.
//!
//! Thread-safety: one mutex, held for a few map operations; only SCAN takes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrokit_engine::{KeyspaceId, SweepCursor};

/// Cursors kept.
const ENTRIES_MAX: usize = 16 << 10;
/// Bytes of cursors kept.
const BYTES_MAX: usize = 64 << 20;

/// The cursors of the sweeps under way.
pub(crate) struct ScanCursors {
    table: Mutex<Table>,
    entries_max: usize,
    bytes_max: usize,
}

struct Table {
    entries: HashMap<u64, Stored>,
    /// Numbers by the time of their last use.
    by_use: BTreeMap<u64, u64>,
    bytes: usize,
    last_number: u64,
    last_use: u64,
}

struct Stored {
    keyspace: KeyspaceId,
    cursor: SweepCursor,
    used: u64,
}

impl ScanCursors {
    /// An empty table whose numbers begin after `first_number`, so that those of an earlier run are
    /// unlikely to mean anything.
    pub(crate) fn new(first_number: u32) -> Self {
        Self::with_limits(first_number, ENTRIES_MAX, BYTES_MAX)
    }

    fn with_limits(first_number: u32, entries_max: usize, bytes_max: usize) -> Self {
        let table = Table {
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            bytes: 0,
            last_number: u64::from(first_number),
            last_use: 0,
        };
        Self { table: Mutex::new(table), entries_max, bytes_max }
    }

    /// The cursor with that number in that keyspace.
    pub(crate) fn get(&self, number: u64, keyspace: KeyspaceId) -> Option<SweepCursor> {
        let mut guard = self.lock();
        let table = &mut *guard;
        let stored = table.entries.get_mut(&number).filter(|it| it.keyspace == keyspace)?;
        table.by_use.remove(&stored.used);
        table.last_use += 1;
        stored.used = table.last_use;
        table.by_use.insert(stored.used, number);
        Some(stored.cursor.clone())
    }

    /// Keeps a cursor; its number.
    pub(crate) fn insert(&self, keyspace: KeyspaceId, cursor: SweepCursor) -> u64 {
        let mut table = self.lock();
        table.last_number += 1;
        table.last_use += 1;
        let (number, used) = (table.last_number, table.last_use);
        table.bytes += cursor.as_bytes().len();
        table.entries.insert(number, Stored { keyspace, cursor, used });
        table.by_use.insert(used, number);
        while table.entries.len() > self.entries_max || table.bytes > self.bytes_max {
            let Some((_, oldest)) = table.by_use.pop_first() else { break };
            if let Some(stored) = table.entries.remove(&oldest) {
                table.bytes -= stored.cursor.as_bytes().len();
            }
        }
        number
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(text: &str) -> SweepCursor {
        SweepCursor::from_bytes(text.as_bytes())
    }

    #[test]
    fn a_number_means_its_cursor_in_its_keyspace_and_may_be_used_again() {
        let cursors = ScanCursors::new(7);
        let number = cursors.insert(KeyspaceId(1), cursor("a"));
        assert_eq!(cursors.get(number, KeyspaceId(1)), Some(cursor("a")));
        assert_eq!(cursors.get(number, KeyspaceId(1)), Some(cursor("a")));
        assert_eq!(cursors.get(number, KeyspaceId(2)), None);
        assert_eq!(cursors.get(number + 1, KeyspaceId(1)), None);
    }

    #[test]
    fn the_least_recently_used_goes_first_at_either_bound() {
        let keyspace = KeyspaceId(0);
        for (entries_max, bytes_max) in [(2, 1000), (1000, 6)] {
            let cursors = ScanCursors::with_limits(0, entries_max, bytes_max);
            let first = cursors.insert(keyspace, cursor("aaa"));
            let second = cursors.insert(keyspace, cursor("bbb"));
            assert!(cursors.get(first, keyspace).is_some());
            let third = cursors.insert(keyspace, cursor("ccc"));
            assert!(cursors.get(second, keyspace).is_none());
            assert!(cursors.get(first, keyspace).is_some());
            assert!(cursors.get(third, keyspace).is_some());
            let table = cursors.lock();
            assert_eq!((table.entries.len(), table.by_use.len(), table.bytes), (2, 2, 6));
        }
    }
}
