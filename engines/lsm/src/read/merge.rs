//! [`MergeIter`]: the versions of several sources in one order.

use std::cmp::Ordering;
use std::sync::Arc;

use ferrokit_engine::Direction;

use super::get::Found;
use super::source::{BlockSource, Fault};
use crate::key::{StoredRange, compare_versions};
use crate::memtable::{MemEntry, MemIter, Memtable};
use crate::sst::Table;
use crate::sst::iter::TableIter;
use crate::version::Version;

/// One sorted source.
enum Source<'v> {
    Memtable {
        iter: MemIter<'v>,
        entry: Option<MemEntry<'v>>,
    },
    Table(TableIter),
    /// Tables of a level that do not overlap, the next one last.
    Level {
        rest: Vec<Arc<Table>>,
        iter: Option<TableIter>,
        range: StoredRange,
    },
}

/// Merges sources. It has few of them (memtables, level 0 tables, one per level), so that the next
/// version is found by comparing all.
pub(crate) struct MergeIter<'v> {
    sources: Vec<Source<'v>>,
    direction: Direction,
    current: Option<usize>,
}

impl<'v> MergeIter<'v> {
    /// Merges memtables and a version's tables within a range. To be [`start`](Self::start)ed.
    pub(crate) fn new(
        memtables: impl Iterator<Item = &'v Arc<Memtable>>,
        version: &Version,
        range: &StoredRange,
        direction: Direction,
    ) -> Self {
        let mut sources: Vec<Source<'v>> = memtables
            .map(|memtable| Source::Memtable { iter: memtable.iter(range), entry: None })
            .collect();
        for (level, tables) in version.levels().iter().enumerate() {
            let mut inside: Vec<Arc<Table>> = tables
                .iter()
                .filter(|table| {
                    let facts = table.properties();
                    range.overlaps(&facts.smallest, &facts.largest)
                })
                .map(Arc::clone)
                .collect();
            if level == 0 {
                sources.extend(
                    inside.into_iter().map(|table| {
                        Source::Table(TableIter::new(table, range.clone(), direction))
                    }),
                );
            } else if !inside.is_empty() {
                if direction == Direction::Forward {
                    inside.reverse();
                }
                sources.push(Source::Level { rest: inside, iter: None, range: range.clone() });
            }
        }
        Self { sources, direction, current: None }
    }

    /// Moves to the first version in the direction.
    pub(crate) fn start(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        for source in &mut self.sources {
            source.start(self.direction, blocks)?;
        }
        self.choose();
        Ok(())
    }

    /// Moves on.
    pub(crate) fn advance(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        if let Some(source) = self.current.and_then(|index| self.sources.get_mut(index)) {
            source.advance(self.direction, blocks)?;
        }
        self.choose();
        Ok(())
    }

    /// The version it stands on: its key and what it says.
    pub(crate) fn current(&self) -> Option<(&[u8], Found<'_>)> {
        self.sources.get(self.current?)?.current()
    }

    fn choose(&mut self) {
        let mut best: Option<(usize, (&[u8], u64))> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(at) = source.position() else { continue };
            let is_better = best.is_none_or(|(_, best)| {
                let order = compare_versions(at, best);
                match self.direction {
                    Direction::Forward => order == Ordering::Less,
                    Direction::Backward => order == Ordering::Greater,
                }
            });
            if is_better {
                best = Some((index, at));
            }
        }
        self.current = best.map(|(index, _)| index);
    }
}

impl Source<'_> {
    fn start(&mut self, direction: Direction, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        match self {
            Self::Memtable { iter, entry } => *entry = step(iter, direction),
            Self::Table(iter) => iter.start(blocks)?,
            Self::Level { .. } => self.enter_next_table(direction, blocks)?,
        }
        Ok(())
    }

    fn advance(
        &mut self,
        direction: Direction,
        blocks: &mut impl BlockSource,
    ) -> Result<(), Fault> {
        match self {
            Self::Memtable { iter, entry } => *entry = step(iter, direction),
            Self::Table(iter) => iter.advance(blocks)?,
            Self::Level { iter, .. } => {
                if let Some(iter) = iter {
                    iter.advance(blocks)?;
                    if iter.record().is_some() {
                        return Ok(());
                    }
                }
                self.enter_next_table(direction, blocks)?;
            }
        }
        Ok(())
    }

    fn enter_next_table(
        &mut self,
        direction: Direction,
        blocks: &mut impl BlockSource,
    ) -> Result<(), Fault> {
        if let Self::Level { rest, iter, range } = self {
            *iter = None;
            while let Some(table) = rest.pop() {
                let mut next = TableIter::new(table, range.clone(), direction);
                next.start(blocks)?;
                if next.record().is_some() {
                    *iter = Some(next);
                    break;
                }
            }
        }
        Ok(())
    }

    fn position(&self) -> Option<(&[u8], u64)> {
        self.current().map(|(key, found)| (key, found.sequence))
    }

    fn current(&self) -> Option<(&[u8], Found<'_>)> {
        let record = match self {
            Self::Memtable { entry, .. } => {
                let entry = entry.as_ref()?;
                let (at, version) = (entry.key(), entry.value());
                return Some((
                    &at.key,
                    Found {
                        sequence: at.sequence,
                        kind: version.kind,
                        expire_at: version.expire_at,
                        value: &version.value,
                    },
                ));
            }
            Self::Table(iter) => iter.record()?,
            Self::Level { iter, .. } => iter.as_ref()?.record()?,
        };
        Some((
            record.key(),
            Found {
                sequence: record.sequence(),
                kind: record.kind(),
                expire_at: record.expire_at(),
                value: record.value(),
            },
        ))
    }
}

fn step<'v>(iter: &mut MemIter<'v>, direction: Direction) -> Option<MemEntry<'v>> {
    match direction {
        Direction::Forward => iter.next(),
        Direction::Backward => iter.next_back(),
    }
}
