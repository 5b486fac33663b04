//! [`Version`]: the tables of the tree at one moment. [`View`]: all a reader needs.

use std::sync::Arc;

use ferrokit_engine::UnixMillis;
use ferrokit_storage::LogPosition;

use crate::keyspaces::KeyspaceMap;
use crate::memtable::Memtable;
use crate::sst::Table;

/// Levels of the tree.
pub(crate) const LEVELS: usize = 7;

/// The tables of the tree. Immutable: a change makes a new one.
#[derive(Clone)]
pub(crate) struct Version {
    /// Level 0 from the newest on; the others by key, without overlaps.
    levels: Vec<Vec<Arc<Table>>>,
}

impl Version {
    pub(crate) fn empty() -> Self {
        Self { levels: vec![Vec::new(); LEVELS] }
    }

    pub(crate) fn levels(&self) -> &[Vec<Arc<Table>>] {
        &self.levels
    }

    pub(crate) fn level(&self, level: usize) -> &[Arc<Table>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// This version without the tables of `removed`, and with `added` ones on their levels.
    pub(crate) fn with(&self, removed: &[u64], added: Vec<(usize, Arc<Table>)>) -> Self {
        let mut levels = self.levels.clone();
        for tables in &mut levels {
            tables.retain(|table| !removed.contains(&table.id()));
        }
        for (level, table) in added {
            if let Some(tables) = levels.get_mut(level) {
                tables.push(table);
            }
        }
        for (level, tables) in levels.iter_mut().enumerate() {
            if level == 0 {
                tables.sort_by_key(|table| std::cmp::Reverse(table.properties().sequence_max));
            } else {
                tables.sort_by(|a, b| a.properties().smallest.cmp(&b.properties().smallest));
            }
        }
        Self { levels }
    }

    /// The tables whose range holds `key`, newer data first.
    pub(crate) fn tables_with<'a>(
        &'a self,
        key: &'a [u8],
    ) -> impl Iterator<Item = &'a Arc<Table>> + 'a {
        let (level0, deeper) = self
            .levels
            .split_first()
            .map_or((&[][..], &[][..]), |(first, rest)| (first.as_slice(), rest));
        let level0 = level0.iter().filter(move |table| covers(table, key));
        let deeper = deeper.iter().filter_map(move |tables| {
            let at = tables.partition_point(|table| table.properties().largest.as_slice() < key);
            tables.get(at).filter(|table| covers(table, key))
        });
        level0.chain(deeper)
    }

    /// Tables of a level that share keys with `smallest..=largest`.
    pub(crate) fn overlapping(
        &self,
        level: usize,
        smallest: &[u8],
        largest: &[u8],
    ) -> Vec<Arc<Table>> {
        self.level(level)
            .iter()
            .filter(|table| {
                let facts = table.properties();
                facts.smallest.as_slice() <= largest && facts.largest.as_slice() >= smallest
            })
            .cloned()
            .collect()
    }

    /// Whether a level below `level` may hold `key`.
    pub(crate) fn may_lie_below(&self, level: usize, key: &[u8]) -> bool {
        self.levels.iter().skip(level + 1).any(|tables| {
            let at = tables.partition_point(|table| table.properties().largest.as_slice() < key);
            tables.get(at).is_some_and(|table| covers(table, key))
        })
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (usize, &Arc<Table>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }
}

fn covers(table: &Table, key: &[u8]) -> bool {
    let facts = table.properties();
    facts.smallest.as_slice() <= key && key <= facts.largest.as_slice()
}

/// A memtable that takes no more writes, and what held when it was sealed.
pub(crate) struct SealedMemtable {
    pub(crate) memtable: Arc<Memtable>,
    /// Everything in the log before this is in this memtable or an older one.
    pub(crate) log_end: LogPosition,
    pub(crate) last_sequence: u64,
    pub(crate) keyspaces: Arc<KeyspaceMap>,
    pub(crate) time: UnixMillis,
}

/// All a reader needs: it never changes, and a reader that took one needs no lock.
///
/// A reader takes the view first and the visible sequence then; so no version it may see was
/// dropped from the view by a compaction that knew of newer ones.
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Sealed memtables, newest first.
    pub(crate) sealed: Vec<Arc<SealedMemtable>>,
    pub(crate) version: Arc<Version>,
    pub(crate) keyspaces: Arc<KeyspaceMap>,
    /// Grows whenever a flush takes a memtable out of the view.
    pub(crate) flushes: u64,
}

impl View {
    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = Arc<Memtable>> + '_ {
        self.memtable_refs().map(Arc::clone)
    }

    /// The memtables, newest first.
    pub(crate) fn memtable_refs(&self) -> impl Iterator<Item = &Arc<Memtable>> + '_ {
        std::iter::once(&self.active).chain(self.sealed.iter().map(|sealed| &sealed.memtable))
    }
}
