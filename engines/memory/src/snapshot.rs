//! [`MemorySnapshot`].

use std::sync::Arc;

use ferrokit_engine::{
    CommitTicket, Direction, Entry, KeyRange, KeyspaceId, KvRead, Op, Ordered, ReadOptions, Result,
    ScanLimits, Scanned, Seen, Sequence, Snapshot, SweepCursor, Swept, UnixMillis,
};

use crate::read::{live, live_range, scan_chunk, sweep_chunk, sweep_range};
use crate::state::{CAPABILITIES, View, ViewGuard};
use crate::table::Records;

/// A view of the tables at one moment. Reads take no lock.
pub(crate) struct MemorySnapshot {
    guard: ViewGuard,
    view: View,
}

impl MemorySnapshot {
    pub(crate) fn new(guard: ViewGuard, view: View) -> Self {
        Self { guard, view }
    }

    fn records(
        &self,
        operation: &'static str,
        keyspace: KeyspaceId,
    ) -> Result<Option<&Arc<Records>>> {
        CAPABILITIES.check_key(operation, keyspace, &[])?;
        self.guard.shared.check_open(operation)?;
        Ok(self.view.keyspaces.get(&keyspace))
    }

    fn read_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut (dyn FnMut(usize, Entry<'_>) + Send + '_),
    ) -> Result<Seen> {
        for key in keys {
            CAPABILITIES.check_key("snapshot.get", keyspace, key)?;
        }
        let records = self.records("snapshot.get", keyspace)?;
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            let record = records.and_then(|records| live(records, key, self.view.opened_at));
            if let Some(record) = record {
                found += 1;
                visit(index, record.entry());
            }
        }
        Ok(Seen { found, ticket: CommitTicket::NONE })
    }
}

impl KvRead for MemorySnapshot {
    fn get_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        key: &'a [u8],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        let mut visit_many = |_: usize, entry: Entry<'_>| visit(entry);
        self.read_many(keyspace, &[key], &mut visit_many).into()
    }

    fn get_many_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        keys: &'a [&'a [u8]],
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(usize, Entry<'_>) + Send + 'a),
    ) -> Op<'a, Seen> {
        self.read_many(keyspace, keys, visit).into()
    }

    fn sweep<'a>(
        &'a self,
        keyspace: KeyspaceId,
        cursor: &'a SweepCursor,
        budget: usize,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Swept> {
        let mut step = || {
            let records = self.records("snapshot.sweep", keyspace)?;
            let greatest = || Some(records?.last_key_value()?.0.to_vec());
            let range = sweep_range(cursor, greatest)?;
            let (Some(records), Some(range)) = (records, range) else {
                return Ok(Swept::default());
            };
            let entries = live_range(records, &range, self.view.opened_at);
            Ok(sweep_chunk(entries, &range, budget, visit))
        };
        step().into()
    }

    fn as_ordered(&self) -> Option<&dyn Ordered> {
        Some(self)
    }
}

impl Ordered for MemorySnapshot {
    fn scan_with<'a>(
        &'a self,
        keyspace: KeyspaceId,
        range: &'a KeyRange,
        direction: Direction,
        limits: ScanLimits,
        _options: &ReadOptions,
        visit: &'a mut (dyn FnMut(&[u8], Entry<'_>) + Send + 'a),
    ) -> Op<'a, Scanned> {
        let mut scan = || {
            let records = self.records("snapshot.scan", keyspace)?;
            let entries = records
                .into_iter()
                .flat_map(|records| live_range(records, range, self.view.opened_at));
            Ok(match direction {
                Direction::Forward => scan_chunk(entries, range, direction, limits, visit),
                Direction::Backward => scan_chunk(entries.rev(), range, direction, limits, visit),
            })
        };
        scan().into()
    }
}

impl Snapshot for MemorySnapshot {
    fn sequence(&self) -> Option<Sequence> {
        Some(self.view.sequence)
    }

    fn opened_at(&self) -> UnixMillis {
        self.view.opened_at
    }
}
