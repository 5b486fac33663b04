//! [`TableIter`]: versions of a table within a range, in either direction.

use std::sync::Arc;

use ferrokit_engine::Direction;

use super::block::{Block, BlockCursor};
use super::format::BlockHandle;
use super::table::Table;
use crate::encoding::Malformed;
use crate::key::StoredRange;
use crate::read::{BlockSource, Fault};
use std::ops::Bound;

/// Walks index and data blocks in step. It must be started with [`start`](Self::start).
pub(crate) struct TableIter {
    table: Arc<Table>,
    direction: Direction,
    range: StoredRange,
    top: BlockCursor,
    /// The index partition, where the index has two levels.
    partition: Option<BlockCursor>,
    data: Option<BlockCursor>,
}

/// Where a version is looked for: the first at or behind this one.
#[derive(Clone)]
struct Target {
    key: Vec<u8>,
    sequence: u64,
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, range: StoredRange, direction: Direction) -> Self {
        let top = BlockCursor::new(Arc::clone(&table.index));
        Self { table, direction, range, top, partition: None, data: None }
    }

    /// Moves to the first version of the range in the direction.
    pub(crate) fn start(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        match self.direction {
            Direction::Forward => match self.start_target() {
                Some(target) => self.seek(&target, blocks),
                None => self.seek_first(blocks),
            },
            Direction::Backward => match self.end_target() {
                // The last version before the target lies one step back from it.
                Some(target) => {
                    self.seek(&target, blocks)?;
                    if self.is_valid() { self.prev(blocks) } else { self.seek_last(blocks) }
                }
                None => self.seek_last(blocks),
            },
        }?;
        self.stop_outside();
        Ok(())
    }

    /// For the range of one key: moves to its newest version up to `sequence`.
    pub(crate) fn start_at(
        &mut self,
        sequence: u64,
        blocks: &mut impl BlockSource,
    ) -> Result<(), Fault> {
        if let Bound::Included(key) = &self.range.start {
            let target = Target { key: key.to_vec(), sequence };
            self.seek(&target, blocks)?;
        }
        self.stop_outside();
        Ok(())
    }

    /// Moves on in the direction.
    pub(crate) fn advance(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        match self.direction {
            Direction::Forward => self.next(blocks),
            Direction::Backward => self.prev(blocks),
        }?;
        self.stop_outside();
        Ok(())
    }

    /// The record it stands on; `None` at the end.
    pub(crate) fn record(&self) -> Option<&BlockCursor> {
        self.data.as_ref().filter(|data| data.is_valid())
    }

    fn is_valid(&self) -> bool {
        self.record().is_some()
    }

    fn start_target(&self) -> Option<Target> {
        match &self.range.start {
            Bound::Included(key) => Some(Target { key: key.to_vec(), sequence: u64::MAX }),
            // Behind the oldest version the key can have: sequences begin at 1.
            Bound::Excluded(key) => Some(Target { key: key.to_vec(), sequence: 0 }),
            Bound::Unbounded => None,
        }
    }

    fn end_target(&self) -> Option<Target> {
        match &self.range.end {
            Bound::Included(key) => Some(Target { key: key.to_vec(), sequence: 0 }),
            Bound::Excluded(key) => Some(Target { key: key.to_vec(), sequence: u64::MAX }),
            Bound::Unbounded => None,
        }
    }

    fn stop_outside(&mut self) {
        let outside = self
            .record()
            .is_some_and(|at| self.range.is_before(at.key()) || self.range.is_after(at.key()));
        if outside {
            self.data = None;
        }
    }

    fn bad(&self, malformed: Malformed) -> Fault {
        Fault::Failed(self.table.malformed(0, malformed))
    }

    fn seek(&mut self, target: &Target, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.data = None;
        self.partition = None;
        seek_in(&mut self.top, target).map_err(|m| self.bad(m))?;
        if !self.top.is_valid() {
            return Ok(());
        }
        if self.table.two_level_index {
            let mut partition = self.child(&self.top, blocks)?;
            seek_in(&mut partition, target).map_err(|m| self.bad(m))?;
            self.partition = Some(partition);
        }
        let Some(mut data) = self.open_data(blocks)? else { return Ok(()) };
        seek_in(&mut data, target).map_err(|m| self.bad(m))?;
        self.data = Some(data);
        Ok(())
    }

    fn seek_first(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.top.first().map_err(|m| self.bad(m))?;
        self.enter(Direction::Forward, blocks)
    }

    fn seek_last(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.top.last().map_err(|m| self.bad(m))?;
        self.enter(Direction::Backward, blocks)
    }

    /// Stands on the first (last) record below the current top index record.
    fn enter(&mut self, direction: Direction, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.data = None;
        self.partition = None;
        if !self.top.is_valid() {
            return Ok(());
        }
        if self.table.two_level_index {
            let mut partition = self.child(&self.top, blocks)?;
            at_edge(&mut partition, direction).map_err(|m| self.bad(m))?;
            self.partition = Some(partition);
        }
        self.enter_data(direction, blocks)
    }

    fn enter_data(
        &mut self,
        direction: Direction,
        blocks: &mut impl BlockSource,
    ) -> Result<(), Fault> {
        let Some(mut data) = self.open_data(blocks)? else { return Ok(()) };
        at_edge(&mut data, direction).map_err(|m| self.bad(m))?;
        self.data = Some(data);
        Ok(())
    }

    fn open_data(&self, blocks: &mut impl BlockSource) -> Result<Option<BlockCursor>, Fault> {
        let leaf = self.partition.as_ref().unwrap_or(&self.top);
        if leaf.is_valid() { self.child(leaf, blocks).map(Some) } else { Ok(None) }
    }

    /// The block an index record points at.
    fn child(
        &self,
        index: &BlockCursor,
        blocks: &mut impl BlockSource,
    ) -> Result<BlockCursor, Fault> {
        let handle = BlockHandle::from_index_value(index.value()).map_err(|m| self.bad(m))?;
        let block: Arc<Block> = blocks.block(&self.table, handle)?;
        Ok(BlockCursor::new(block))
    }

    fn next(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.step(Direction::Forward, blocks)
    }

    fn prev(&mut self, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        self.step(Direction::Backward, blocks)
    }

    fn step(&mut self, direction: Direction, blocks: &mut impl BlockSource) -> Result<(), Fault> {
        let Some(data) = &mut self.data else { return Ok(()) };
        let moved = move_in(data, direction);
        moved.map_err(|m| self.bad(m))?;
        if self.is_valid() {
            return Ok(());
        }
        // The data block is used up: the next index record, in its partition or the next one.
        if let Some(partition) = &mut self.partition {
            let moved = move_in(partition, direction);
            let valid = partition.is_valid();
            moved.map_err(|m| self.bad(m))?;
            if valid {
                return self.enter_data(direction, blocks);
            }
        }
        move_in(&mut self.top, direction).map_err(|m| self.bad(m))?;
        self.enter(direction, blocks)
    }
}

fn seek_in(cursor: &mut BlockCursor, target: &Target) -> Result<(), Malformed> {
    cursor.seek(&target.key, target.sequence)
}

fn at_edge(cursor: &mut BlockCursor, direction: Direction) -> Result<(), Malformed> {
    match direction {
        Direction::Forward => cursor.first(),
        Direction::Backward => cursor.last(),
    }
}

fn move_in(cursor: &mut BlockCursor, direction: Direction) -> Result<(), Malformed> {
    match direction {
        Direction::Forward => cursor.next(),
        Direction::Backward => cursor.prev(),
    }
}
