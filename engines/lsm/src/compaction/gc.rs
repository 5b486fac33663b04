//! [`VersionGc`]: which versions a flush or compaction may drop.
//!
//! A version goes when a newer one of its key covers it for every reader: for reads of now and for
//! every open snapshot. A tombstone goes when nothing it covers can lie below and no snapshot looks
//! behind it. An expired entry is a tombstone, once no snapshot's time precedes its expiry. All
//! versions of a physical keyspace go that nothing maps to, and that no crash can bring back: the
//! manifest must say so, since the log's word on a clear may not be durable.
//!
//! What counts was collected when the job began: snapshots opened later see newer writes and a
//! later time, so that nothing dropped here is theirs.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Entry, UnixMillis};

use crate::key::{PhysicalKeyspace, StoredKey, split_stored_key};
use crate::memtable::Kind;
use crate::read::Found;
use crate::snapshot::SnapshotPoint;
use crate::tree::Tree;

/// Expired entries a job reports for collection, at most.
const EXPIRED_MAX: usize = 1024;

/// What becomes of a version.
pub(crate) enum Keep<'a> {
    /// It is written, as this.
    Yes { kind: Kind, expire_at: Option<UnixMillis>, value: &'a [u8] },
    /// It is dropped.
    No,
}

/// Which physical keyspaces may still be read, now or after a crash.
pub(super) struct Liveness {
    in_use: HashSet<PhysicalKeyspace>,
    /// Physical keyspaces from here on are younger than the manifest.
    manifest_next: u32,
}

impl Liveness {
    pub(super) fn is_live(&self, keyspace: PhysicalKeyspace) -> bool {
        keyspace.0 >= self.manifest_next || self.in_use.contains(&keyspace)
    }
}

/// What readers of this moment and open snapshots see.
struct Readers {
    snapshots: Vec<SnapshotPoint>,
    now: UnixMillis,
    liveness: Liveness,
}

impl Readers {
    fn of(tree: &Tree) -> Self {
        let durable = Arc::clone(&tree.lock_manifest().state().progress.keyspaces);
        // Under the write lock, so that no clear or snapshot falls in between.
        let _writer = tree.lock_writer();
        let snapshots = tree.snapshots.all();
        let mut in_use: HashSet<PhysicalKeyspace> = tree.view.load().keyspaces.in_use().collect();
        in_use.extend(durable.in_use());
        for snapshot in &snapshots {
            in_use.extend(snapshot.keyspaces.in_use());
        }
        let liveness = Liveness { in_use, manifest_next: durable.next };
        Self { snapshots, now: tree.clock.now(), liveness }
    }
}

/// Which physical keyspaces may still be read.
pub(super) fn liveness(tree: &Tree) -> Liveness {
    Readers::of(tree).liveness
}

pub(crate) struct VersionGc {
    /// Sequences of open snapshots, ascending.
    snapshots: Vec<u64>,
    /// Entries that expired by then are expired for every reader.
    expired_by: UnixMillis,
    liveness: Liveness,
    /// Expiries are counted or fed to someone: they are collected one by one.
    collects_expired: bool,
    expired: Vec<(StoredKey, u64)>,
    key: Vec<u8>,
    /// The sequence of the last version of `key` that was met.
    newer: Option<u64>,
}

impl VersionGc {
    pub(crate) fn new(tree: &Tree) -> Self {
        let Readers { snapshots, now, liveness } = Readers::of(tree);
        let opened = snapshots.iter().map(|snapshot| snapshot.opened_at).min();
        let expired_by = opened.map_or(now, |at| at.min(now));
        let mut sequences: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.sequence).collect();
        sequences.sort_unstable();
        Self {
            snapshots: sequences,
            expired_by,
            liveness,
            collects_expired: tree.config.exact_len || tree.feeds.load(Ordering::SeqCst) > 0,
            expired: Vec::new(),
            key: Vec::new(),
            newer: None,
        }
    }

    /// Decides about the next version; they come in order, the newest of a key first.
    /// `may_lie_below` tells whether older versions of a key may lie outside of what is merged.
    pub(crate) fn decide<'a>(
        &mut self,
        key: &[u8],
        found: &Found<'a>,
        may_lie_below: impl Fn(&[u8]) -> bool,
    ) -> Keep<'a> {
        let newer = if self.key == key { self.newer } else { None };
        if newer.is_none() {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.newer = Some(found.sequence);
        let is_in_use =
            split_stored_key(key).is_some_and(|(keyspace, _)| self.liveness.is_live(keyspace));
        if !is_in_use || newer.is_some_and(|newer| !self.is_seen(found.sequence, newer)) {
            return Keep::No;
        }
        let is_expired =
            found.kind == Kind::Put && Entry::is_expired_at(found.expire_at, self.expired_by);
        if is_expired && self.collects_expired {
            if newer.is_none() && self.expired.len() < EXPIRED_MAX {
                self.expired.push((StoredKey::from_slice(key), found.sequence));
            }
            return as_found(found);
        }
        if found.kind == Kind::Put && !is_expired {
            return as_found(found);
        }
        // A tombstone, or what is as good as one.
        let looked_behind = self.snapshots.first().is_some_and(|oldest| *oldest < found.sequence);
        if !looked_behind && !may_lie_below(key) {
            return Keep::No;
        }
        Keep::Yes { kind: Kind::Delete, expire_at: None, value: &[] }
    }

    /// Whether a snapshot sees this version rather than the next newer one.
    fn is_seen(&self, sequence: u64, newer: u64) -> bool {
        let first = self.snapshots.partition_point(|snapshot| *snapshot < sequence);
        self.snapshots.get(first).is_some_and(|snapshot| *snapshot < newer)
    }

    /// Hands the expired entries met to the collector.
    pub(crate) fn report_expired(&mut self, tree: &Tree) {
        for (key, sequence) in self.expired.drain(..) {
            tree.expiry.report(tree, key, sequence);
        }
    }
}

fn as_found<'a>(found: &Found<'a>) -> Keep<'a> {
    Keep::Yes { kind: found.kind, expire_at: found.expire_at, value: found.value }
}
