//! [`Disk`]: what a simulated machine stores, written and synced apart.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use ferrokit_engine::{Error, Result};

use super::faults::{FaultKind, FaultPlan, OpKind};
use super::namespace::{InodeId, NameOp, Namespace};
use super::rng::Rng;
use super::sparse::SparseBytes;

/// A change of a file that is not synced yet.
#[derive(Debug, Clone)]
pub(super) enum DataOp {
    Write { offset: u64, data: Arc<[u8]> },
    SetLen(u64),
    Allocate { offset: u64, len: u64 },
    Punch { offset: u64, len: u64 },
}

impl DataOp {
    pub(super) fn apply(&self, bytes: &mut SparseBytes) {
        match self {
            Self::Write { offset, data } => bytes.write(*offset, data),
            Self::SetLen(len) => bytes.set_len(*len),
            Self::Allocate { offset, len } => bytes.allocate(*offset, *len),
            Self::Punch { offset, len } => bytes.punch(*offset, *len),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) written: SparseBytes,
    pub(super) synced: SparseBytes,
    /// What leads from `synced` to `written`, with the moment of each.
    pub(super) unsynced: Vec<(Moment, DataOp)>,
    pub(super) handles: usize,
}

/// Orders writes and the beginnings of syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

/// What the start of an operation found.
pub(super) struct Started {
    pub(super) fault: Option<FaultKind>,
    pub(super) moment: Moment,
    /// Whether a slow operation dropped midway still happens.
    pub(super) happens_if_dropped: bool,
}

pub(super) struct Disk {
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    pub(super) written: Namespace,
    pub(super) synced: Namespace,
    /// What leads from `synced` to `written`.
    pub(super) unsynced: Vec<NameOp>,
    pub(super) locked_dirs: BTreeSet<String>,
    pub(super) capacity_bytes: u64,
    pub(super) faults: FaultPlan,
    pub(super) rng: Rng,
    pub(super) next_inode: u64,
    pub(super) next_moment: u64,
    pub(super) io_count: u64,
    pub(super) read_count: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) is_frozen: bool,
}

impl Disk {
    pub(super) fn new(rng: Rng, capacity_bytes: u64) -> Self {
        Self {
            inodes: BTreeMap::new(),
            written: Namespace::default(),
            synced: Namespace::default(),
            unsynced: Vec::new(),
            locked_dirs: BTreeSet::new(),
            capacity_bytes,
            faults: FaultPlan::new(),
            rng,
            next_inode: 0,
            next_moment: 0,
            io_count: 0,
            read_count: 0,
            crash_at: None,
            is_frozen: false,
        }
    }

    pub(super) fn check_alive(&self, operation: &'static str, path: &str) -> Result<()> {
        if self.is_frozen {
            let source = io::Error::other("the simulated machine has crashed");
            return Err(Error::io(operation, source).with_file(path));
        }
        Ok(())
    }

    /// Numbers an operation and asks the fault plan. Faults that are plain errors come back as
    /// such; the others are the caller's to act out.
    pub(super) fn start(&mut self, kind: OpKind, path: &str) -> Result<Started> {
        let operation = kind.name();
        self.check_alive(operation, path)?;
        let counter = if kind.is_read() { &mut self.read_count } else { &mut self.io_count };
        if !kind.is_read() && self.crash_at.is_some_and(|cut| *counter >= cut) {
            self.is_frozen = true;
        }
        self.check_alive(operation, path)?;
        let counter = if kind.is_read() { &mut self.read_count } else { &mut self.io_count };
        let number = *counter;
        *counter += 1;
        let moment = Moment(self.next_moment);
        self.next_moment += 1;
        let fault = self.faults.take(kind, path, number, &mut self.rng);
        let happens_if_dropped = self.rng.chance(500_000);
        match fault {
            Some(FaultKind::Error) => Err(failed(operation, path)),
            Some(FaultKind::NoSpace) => Err(no_space(operation, path)),
            Some(FaultKind::ShortWrite { .. }) if kind != OpKind::Write => {
                Err(failed(operation, path))
            }
            Some(FaultKind::FlipBit { .. }) if !matches!(kind, OpKind::Read | OpKind::Map) => {
                Err(failed(operation, path))
            }
            Some(FaultKind::SyncLosesWrites) if kind != OpKind::Sync => {
                Err(failed(operation, path))
            }
            fault => Ok(Started { fault, moment, happens_if_dropped }),
        }
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        // Inodes with handles or names are never collected; both lead here.
        self.inodes.get(&id).expect("an inode in use")
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an inode in use")
    }

    pub(super) fn create_inode(&mut self) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(id, Inode::default());
        id
    }

    /// Bytes of the files that have a name or an open handle.
    pub(super) fn used_bytes(&self) -> u64 {
        let named: BTreeSet<InodeId> = self.written.inodes().collect();
        self.inodes
            .iter()
            .filter(|(id, inode)| inode.handles > 0 || named.contains(id))
            .map(|(_, inode)| inode.written.stored_bytes())
            .sum()
    }

    /// Does a change of a file's bytes.
    pub(super) fn change(
        &mut self,
        kind: OpKind,
        path: &str,
        id: InodeId,
        moment: Moment,
        op: DataOp,
    ) -> Result<()> {
        let (offset, len) = match &op {
            DataOp::Write { offset, data } => (*offset, data.len() as u64),
            DataOp::Allocate { offset, len } => (*offset, *len),
            DataOp::SetLen(_) | DataOp::Punch { .. } => (0, 0),
        };
        let more = self.inode(id).written.missing_bytes(offset, len);
        if more > 0 && self.used_bytes().saturating_add(more) > self.capacity_bytes {
            return Err(no_space(kind.name(), path));
        }
        let inode = self.inode_mut(id);
        op.apply(&mut inode.written);
        inode.unsynced.push((moment, op));
        Ok(())
    }

    /// Makes durable what was written to a file before `moment`.
    pub(super) fn sync_file(&mut self, id: InodeId, moment: Moment) {
        let inode = self.inode_mut(id);
        // Slow writes land out of order, so the list is not sorted by moment. A write that landed
        // after the sync began may be left out: nothing promises that it is in.
        let count = inode.unsynced.iter().take_while(|(at, _)| *at < moment).count();
        let count =
            if count == inode.unsynced.len() { count } else { self.sync_extent(id, moment) };
        let inode = self.inode_mut(id);
        for (_, op) in inode.unsynced.drain(..count) {
            op.apply(&mut inode.synced);
        }
    }

    /// The shortest prefix that holds every write older than `moment`.
    fn sync_extent(&self, id: InodeId, moment: Moment) -> usize {
        self.inode(id).unsynced.iter().rposition(|(at, _)| *at < moment).map_or(0, |last| last + 1)
    }

    /// Does a change of the namespace.
    pub(super) fn change_names(&mut self, op: NameOp) {
        self.written.apply(&op);
        self.unsynced.push(op);
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_names(&mut self, belongs: impl Fn(&NameOp) -> bool) {
        let synced = &mut self.synced;
        self.unsynced.retain(|op| {
            let durable = belongs(op);
            if durable {
                synced.apply(op);
            }
            !durable
        });
        self.collect_inodes();
    }

    /// Forgets files without names and handles.
    pub(super) fn collect_inodes(&mut self) {
        let mut named: BTreeSet<InodeId> = self.written.inodes().collect();
        named.extend(self.synced.inodes());
        named.extend(self.unsynced.iter().filter_map(NameOp::inode));
        self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
    }
}

pub(super) fn failed(operation: &'static str, path: &str) -> Error {
    Error::io(operation, io::Error::other("simulated EIO")).with_file(path)
}

pub(super) fn no_space(operation: &'static str, path: &str) -> Error {
    Error::io(operation, io::Error::from(io::ErrorKind::StorageFull)).with_file(path)
}

pub(super) fn not_found(operation: &'static str, path: &str) -> Error {
    Error::io(operation, io::Error::from(io::ErrorKind::NotFound)).with_file(path)
}
