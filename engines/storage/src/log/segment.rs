//! [`Segment`]: one file of the log, and [`Segments`], all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::format::SEGMENT_HEADER_BYTES;
use crate::fs::File;

/// A segment file. It ends where its successor starts.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) epoch: u32,
    /// The file's length.
    pub(super) file_bytes: u64,
    pub(super) file: Arc<dyn File>,
}

impl Segment {
    /// Where in the file a position lies; the position is at or after the start.
    pub(super) fn offset_of(&self, position: u64) -> u64 {
        SEGMENT_HEADER_BYTES as u64 + (position - self.start)
    }

    /// The first position that the file has no bytes for.
    pub(super) fn capacity_end(&self) -> u64 {
        self.start + self.file_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64)
    }
}

/// A preallocated file that is to become a segment.
#[derive(Clone)]
pub(super) struct Spare {
    pub(super) path: String,
    pub(super) file: Arc<dyn File>,
    pub(super) file_bytes: u64,
}

/// The segments of the log, its spare files, and who holds back trimming.
pub(super) struct Segments {
    /// Oldest first; never empty. The last is being written.
    pub(super) list: VecDeque<Segment>,
    pub(super) spares: Vec<Spare>,
    /// Oldest first: no longer of the log, their files still to be given up.
    pub(super) trimmed: VecDeque<Segment>,
    /// Positions that readers still need.
    pub(super) holds: BTreeMap<u64, u64>,
    pub(super) next_hold: u64,
}

impl Segments {
    pub(super) fn first(&self) -> u64 {
        self.list.front().map_or(0, |segment| segment.start)
    }

    /// The segment that a position lies in, and the position where it ends if that is fixed.
    pub(super) fn find(&self, position: u64) -> Option<(Segment, Option<u64>)> {
        let after = self.list.partition_point(|segment| segment.start <= position);
        let segment = self.list.get(after.checked_sub(1)?)?.clone();
        Some((segment, self.list.get(after).map(|next| next.start)))
    }

    /// How many of the oldest segments lie wholly before a position and every hold.
    pub(super) fn trimmable(&self, before: u64) -> usize {
        let before = self.holds.values().fold(before, |least, held| least.min(*held));
        let starts = self.list.iter().skip(1).map(|next| next.start);
        starts.take_while(|next_start| *next_start <= before).count()
    }
}
