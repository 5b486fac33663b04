//! [`CrashMode`]: what of a disk a crash leaves.

use std::collections::BTreeSet;

use super::disk::{DataOp, Disk, Inode};
use super::namespace::NameOp;
use super::rng::Rng;

/// A sector: what a device writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What a crash leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashMode {
    /// The machine loses power; nothing unsynced survives.
    DropUnsynced,
    /// The machine loses power just after everything reached the device. (What a failed sync
    /// dropped is lost all the same.)
    KeepAll,
    /// The machine loses power: any subset of the unsynced writes survives, torn at sector
    /// boundaries, and either a prefix (as a journal gives) or any subset of the unsynced
    /// directory operations, each whole.
    Random(u64),
    /// Only the process dies: everything written is still there, synced or not.
    ProcessKill,
}

impl Disk {
    /// The disk of the machine that boots after a crash.
    pub(super) fn image(&self, mode: CrashMode, rng: Rng) -> Disk {
        let mut image = Disk::new(rng, self.capacity_bytes);
        image.next_inode = self.next_inode;
        image.next_moment = self.next_moment;
        image.written = self.written.clone();
        image.synced = self.synced.clone();
        if mode == CrashMode::ProcessKill {
            image.unsynced = self.unsynced.clone();
            image.inodes = self.inodes.clone();
            image.inodes.values_mut().for_each(|inode| inode.handles = 0);
            image.collect_inodes();
            return image;
        }
        let mut choices = Choices::new(mode);
        for op in choices.names(&self.unsynced) {
            image.synced.apply(op);
        }
        image.written = image.synced.clone();
        let named: BTreeSet<_> = image.written.inodes().collect();
        for (id, inode) in &self.inodes {
            // Files without a name draw too, so that a choice does not depend on another.
            let bytes = choices.bytes(inode);
            if named.contains(id) {
                let survived = Inode { written: bytes.clone(), synced: bytes, ..Inode::default() };
                image.inodes.insert(*id, survived);
            }
        }
        image
    }
}

struct Choices {
    rng: Rng,
    keep_per_million: u32,
}

impl Choices {
    fn new(mode: CrashMode) -> Self {
        let (seed, keep) = match mode {
            CrashMode::DropUnsynced => (0, Some(0)),
            CrashMode::KeepAll | CrashMode::ProcessKill => (0, Some(1_000_000)),
            CrashMode::Random(seed) => (seed, None),
        };
        let mut rng = Rng::new(seed);
        // Even odds alone would hardly ever keep, or lose, a long run of sectors.
        let odds = [20_000, 200_000, 500_000, 800_000, 980_000];
        let drawn = odds[rng.below(odds.len() as u64) as usize];
        Self { rng, keep_per_million: keep.unwrap_or(drawn) }
    }

    fn keeps(&mut self) -> bool {
        self.rng.chance(self.keep_per_million)
    }

    fn names<'a>(&mut self, unsynced: &'a [NameOp]) -> Vec<&'a NameOp> {
        if self.keep_per_million >= 1_000_000 {
            return unsynced.iter().collect();
        }
        if self.keep_per_million > 0 && self.rng.chance(500_000) {
            let kept = self.rng.below(unsynced.len() as u64 + 1) as usize;
            return unsynced.iter().take(kept).collect();
        }
        unsynced.iter().filter(|_| self.keeps()).collect()
    }

    fn bytes(&mut self, inode: &Inode) -> super::sparse::SparseBytes {
        let mut bytes = inode.synced.clone();
        for (_, op) in &inode.unsynced {
            match op {
                DataOp::Write { offset, data } => {
                    let mut at = 0;
                    while at < data.len() {
                        let position = offset + at as u64;
                        let to_boundary = (SECTOR_BYTES - position % SECTOR_BYTES) as usize;
                        let end = data.len().min(at + to_boundary);
                        if self.keeps() {
                            bytes.write(position, &data[at..end]);
                        }
                        at = end;
                    }
                    // The new length can reach the device before the bytes do.
                    if self.keeps() {
                        bytes.extend(offset + data.len() as u64);
                    }
                }
                op => {
                    if self.keeps() {
                        op.apply(&mut bytes);
                    }
                }
            }
        }
        bytes
    }
}
