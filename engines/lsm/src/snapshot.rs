//! Snapshots: a sequence, a time and a keyspace map. The registry tells compactions what open
//! snapshots still see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ferrokit_engine::{
    Direction, Entry, Error, ErrorKind, KeyRange, KeyspaceId, KvRead, Op, Ordered, ReadOptions,
    Result, ScanLimits, Scanned, Seen, Sequence, Snapshot, Snapshots, SweepCursor, Swept,
    UnixMillis,
};

use crate::engine::LsmEngine;
use crate::keyspaces::KeyspaceMap;
use crate::reads::{self, At};
use crate::tree::Tree;

/// Open snapshots, at most.
const SNAPSHOTS_MAX: usize = 1 << 16;

/// What a snapshot sees.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotPoint {
    pub(crate) sequence: u64,
    pub(crate) opened_at: UnixMillis,
    pub(crate) keyspaces: Arc<KeyspaceMap>,
}

#[derive(Debug, Default)]
struct Registry {
    next_id: u64,
    points: BTreeMap<u64, SnapshotPoint>,
}

/// The open snapshots.
#[derive(Debug, Default)]
pub(crate) struct SnapshotRegistry {
    registry: Mutex<Registry>,
}

impl SnapshotRegistry {
    fn add(&self, point: SnapshotPoint) -> Result<u64> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry.points.len() >= SNAPSHOTS_MAX {
            return Err(Error::new(
                ErrorKind::Busy,
                "lsm.snapshot",
                format!("{SNAPSHOTS_MAX} snapshots are open"),
            ));
        }
        let id = registry.next_id;
        registry.next_id += 1;
        registry.points.insert(id, point);
        Ok(id)
    }

    fn remove(&self, id: u64) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).points.remove(&id);
    }

    /// What all open snapshots see.
    pub(crate) fn all(&self) -> Vec<SnapshotPoint> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.points.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).points.len()
    }
}

impl Snapshots for LsmEngine {
    fn snapshot(&self) -> Op<'_, Arc<dyn Snapshot>> {
        let snapshot = match LsmSnapshot::open(self.tree()) {
            Ok(snapshot) => snapshot,
            Err(error) => return Op::err(error),
        };
        let tree = self.tree();
        let ticket = tree.gate.ticket_all().join(snapshot.point.keyspaces.ticket);
        reads::when_committed(tree, ticket, Arc::new(snapshot) as Arc<dyn Snapshot>)
    }
}

struct LsmSnapshot {
    tree: Arc<Tree>,
    id: u64,
    point: SnapshotPoint,
}

impl LsmSnapshot {
    fn open(tree: &Arc<Tree>) -> Result<Self> {
        tree.check_open("lsm.snapshot")?;
        // Under the write lock: no write, clear or swap falls between sequence and map.
        let writer = tree.lock_writer();
        let point = SnapshotPoint {
            sequence: writer.last_sequence,
            opened_at: tree.clock.now(),
            keyspaces: Arc::clone(&tree.view.load().keyspaces),
        };
        let id = tree.snapshots.add(point.clone())?;
        Ok(Self { tree: Arc::clone(tree), id, point })
    }

    fn at(&self) -> At<'_> {
        At::Snapshot(&self.point)
    }
}

impl Drop for LsmSnapshot {
    fn drop(&mut self) {
        self.tree.snapshots.remove(self.id);
    }
}

impl Snapshot for LsmSnapshot {
    fn sequence(&self) -> Option<Sequence> {
        Some(Sequence(self.point.sequence))
    }

    fn opened_at(&self) -> UnixMillis {
        self.point.opened_at
    }
}

impl KvRead for LsmSnapshot {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        reads::get(&self.tree, self.at(), keyspace, key, options, visit)
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        reads::get_many(&self.tree, self.at(), keyspace, keys, options, visit)
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        reads::sweep(&self.tree, self.at(), keyspace, cursor, budget, options, visit)
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl Ordered for LsmSnapshot {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        reads::scan(&self.tree, self.at(), keyspace, range, direction, limits, options, visit)
    }
}
