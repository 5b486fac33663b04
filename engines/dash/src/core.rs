//! [`Core`]: table, keyspaces and clock together: what the engine and its purger share.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::Guard;
use ferrokit_engine::{
    BatchOp, Capabilities, Entry, Error, ErrorKind, ExpiryClock, KeyspaceId, Result, UnixMillis,
    WriteBatch,
};

use crate::hash::KeyHash;
use crate::keyspaces::{Inside, Keyspaces, SpaceWord};
use crate::purger::PurgeQueue;
use crate::record::{Probe, RecordHeader, RecordView};
use crate::table::batch::BatchWrite;
use crate::table::modify::{Action, Change, may_fit_in_place};
use crate::table::segment::Identity;
use crate::table::{Found, Liveness, Table};

/// Group reads validate this often before they latch.
const GROUP_ATTEMPTS: usize = 4;
/// Keys whose cache misses overlap.
const PREFETCH_GROUP: usize = 16;

/// The engine without its face.
pub(crate) struct Core {
    pub(crate) table: Table,
    pub(crate) keyspaces: Keyspaces,
    pub(crate) clock: ExpiryClock,
    pub(crate) queue: PurgeQueue,
    pub(crate) capabilities: Capabilities,
    pub(crate) closed: AtomicBool,
}

impl Core {
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the engine was closed"));
        }
        Ok(())
    }

    fn probe<'k>(&self, space: SpaceWord, key: &'k [u8]) -> Probe<'k> {
        Probe { hash: self.table.hash(space, key), space, key }
    }

    /// The record of a key if it is alive. Finding an expired one schedules its removal.
    fn alive<'v, 'g>(&self, view: &'v RecordView<'g>) -> Option<&'v RecordView<'g>> {
        let expires = view.header.expire_at.is_some();
        if expires && Entry::is_expired_at(view.header.expire_at, self.clock.now()) {
            self.queue.hint(view.header.hash);
            return None;
        }
        Some(view)
    }

    /// Reads one key; answers whether it was there.
    pub(crate) fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> bool {
        let pinned = crossbeam_epoch::pin();
        loop {
            let (sequence, space) = self.keyspaces.read_begin(keyspace);
            let found = self.table.read(&self.probe(space, key), &pinned);
            if !self.keyspaces.validate(sequence) {
                continue;
            }
            let Some(view) = found.view.as_ref().and_then(|view| self.alive(view)) else {
                return false;
            };
            visit(view.entry());
            return true;
        }
    }

    /// Reads several keys; answers how many were there. All are read before the first is visited,
    /// and were current together, so that no batch is seen half.
    pub(crate) fn get_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Entry<'_>),
    ) -> usize {
        let pinned = crossbeam_epoch::pin();
        let mut found = Vec::with_capacity(keys.len());
        for attempt in 0.. {
            let (sequence, space) = self.keyspaces.read_begin(keyspace);
            let probes: Vec<_> = keys.iter().map(|key| self.probe(space, key)).collect();
            if attempt < GROUP_ATTEMPTS {
                self.read_group(&probes, &pinned, &mut found);
            } else {
                self.table.read_latched(&probes, &pinned, &mut found);
            }
            let is_current = attempt >= GROUP_ATTEMPTS || found.iter().all(Found::is_current);
            if is_current && self.keyspaces.validate(sequence) {
                break;
            }
        }
        let mut visited = 0;
        for (index, found) in found.iter().enumerate() {
            if let Some(view) = found.view.as_ref().and_then(|view| self.alive(view)) {
                visit(index, view.entry());
                visited += 1;
            }
        }
        visited
    }

    /// Reads keys in groups whose misses overlap: all buckets are asked for, then all records.
    fn read_group<'g>(
        &'g self,
        probes: &[Probe<'_>],
        pinned: &'g Guard,
        found: &mut Vec<Found<'g>>,
    ) {
        found.clear();
        for group in probes.chunks(PREFETCH_GROUP) {
            for probe in group {
                self.table.prefetch_bucket(probe.hash, pinned);
            }
            for probe in group {
                self.table.prefetch_record(probe.hash, pinned);
            }
            found.extend(group.iter().map(|probe| self.table.read(probe, pinned)));
        }
    }

    /// Visits the live entries of one home bucket of the segment that holds `hash`; answers how
    /// many, and which segment it was.
    pub(crate) fn sweep_home(
        &self,
        keyspace: KeyspaceId,
        hash: KeyHash,
        home: usize,
        visit: &mut dyn FnMut(&[u8], Entry<'_>),
    ) -> (usize, Identity) {
        let pinned = crossbeam_epoch::pin();
        let mut views = Vec::new();
        let (space, identity) = loop {
            let (sequence, space) = self.keyspaces.read_begin(keyspace);
            let identity = self.table.read_home(hash, home, &pinned, &mut views);
            if self.keyspaces.validate(sequence) {
                break (space, identity);
            }
        };
        let mut visited = 0;
        for view in views.iter().filter(|view| view.header.space == space) {
            if self.alive(view).is_some() {
                visit(view.key(), view.entry());
                visited += 1;
            }
        }
        (visited, identity)
    }

    /// Applies a change to one key.
    pub(crate) fn change(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        known: Option<(&[u8], Option<UnixMillis>)>,
        change: &mut dyn Change,
    ) -> Result<()> {
        self.with_space_made(|inside, pinned| {
            let probe = self.probe(inside.space(keyspace), key);
            let prepared = match known {
                Some((value, expire_at)) if !may_fit_in_place(value) => {
                    Some(self.table.prepare(&probe, value, expire_at)?)
                }
                _ => None,
            };
            let liveness = self.liveness(inside);
            let entries = self.table.modify(&probe, prepared, change, &liveness, pinned)?;
            inside.count(probe.space, entries);
            Ok(())
        })
    }

    /// Applies a batch.
    pub(crate) fn write(&self, batch: &WriteBatch) -> Result<()> {
        self.with_space_made(|inside, pinned| {
            let writes = self.prepare_batch(batch, inside)?;
            let spaces: Vec<_> = writes.iter().map(|write| write.probe.space).collect();
            let entries = self.table.apply_batch(writes, &self.liveness(inside), pinned)?;
            for (space, entries) in spaces.into_iter().zip(entries) {
                inside.count(space, entries);
            }
            Ok(())
        })
    }

    /// The writes of a batch with their records; of several to one key the last.
    fn prepare_batch<'b>(
        &'b self,
        batch: &'b WriteBatch,
        inside: &Inside<'_>,
    ) -> Result<Vec<BatchWrite<'b, 'b>>> {
        let now = self.clock.now();
        let mut ops: Vec<_> = batch
            .iter()
            .enumerate()
            .map(|(index, op)| (self.probe(inside.space(op.keyspace()), op.key()), index, op))
            .collect();
        ops.sort_by(|(a, i, _), (b, j, _)| {
            (a.hash, a.space.0, a.key, j).cmp(&(b.hash, b.space.0, b.key, i))
        });
        ops.dedup_by(|(a, ..), (b, ..)| a.space == b.space && a.key == b.key);
        ops.into_iter()
            .map(|(probe, _, op)| {
                let record = match op {
                    BatchOp::Put { value, expire_at, .. }
                        if !Entry::is_expired_at(expire_at, now) =>
                    {
                        Some(self.table.prepare(&probe, value, expire_at)?)
                    }
                    _ => None,
                };
                Ok(BatchWrite { probe, record })
            })
            .collect()
    }

    /// Runs a write; where there is no space, collects the dead and runs it once more.
    fn with_space_made(
        &self,
        mut write: impl FnMut(&Inside<'_>, &Guard) -> Result<()>,
    ) -> Result<()> {
        let first = write(&self.keyspaces.enter(), &crossbeam_epoch::pin());
        match first {
            Err(error) if error.kind() == ErrorKind::OutOfSpace => {
                let before = self.table.retired();
                match self.purge_all()? {
                    0 => self.table.settle(0, false),
                    _ => self.table.settle(before, true),
                }
                write(&self.keyspaces.enter(), &crossbeam_epoch::pin())
            }
            result => result,
        }
    }

    /// Drops all dead records there are; answers how many.
    fn purge_all(&self) -> Result<usize> {
        let (mut next, mut dropped) = (Some(KeyHash(0)), 0);
        while let Some(hash) = next {
            let (count, after) = self.purge_segment(hash)?;
            dropped += count;
            next = after;
        }
        Ok(dropped)
    }

    /// Drops the dead of one segment.
    pub(crate) fn purge_segment(&self, hash: KeyHash) -> Result<(usize, Option<KeyHash>)> {
        let inside = self.keyspaces.enter();
        self.table.purge_segment(hash, &self.liveness(&inside), &crossbeam_epoch::pin())
    }

    /// Drops the dead of one home bucket.
    pub(crate) fn purge_home(&self, hash: KeyHash) -> Result<usize> {
        let inside = self.keyspaces.enter();
        self.table.purge_home(hash, &self.liveness(&inside), &crossbeam_epoch::pin())
    }

    fn liveness<'a>(&self, inside: &'a Inside<'a>) -> RecordLiveness<'a> {
        RecordLiveness { inside, now: self.clock.now() }
    }
}

/// What is dead at one moment, judged from inside the gate.
struct RecordLiveness<'a> {
    inside: &'a Inside<'a>,
    now: UnixMillis,
}

impl Liveness for RecordLiveness<'_> {
    fn is_dead(&self, header: &RecordHeader) -> bool {
        Entry::is_expired_at(header.expire_at, self.now) || self.inside.is_stale(header.space)
    }

    fn dropped(&self, header: &RecordHeader) {
        // A cleared keyspace has counted its entries off already.
        if !self.inside.is_stale(header.space) {
            self.inside.count(header.space, -1);
        }
    }
}

/// A put or delete, decided beforehand.
pub(crate) struct Assign<'a> {
    pub(crate) action: Action,
    pub(crate) value: &'a [u8],
    pub(crate) now: UnixMillis,
    /// Whether the key was present.
    pub(crate) existed: bool,
}

impl Change for Assign<'_> {
    fn decide(&mut self, current: Option<&RecordView<'_>>) -> Action {
        self.existed =
            current.is_some_and(|view| !Entry::is_expired_at(view.header.expire_at, self.now));
        self.action
    }

    fn value(&self) -> &[u8] {
        self.value
    }
}
