//! Flush: the oldest sealed memtable becomes a level 0 table.
//!
//! Crash safety: the table and its name are synced before the manifest names it; only the edit
//! moves the position from which the log is replayed. What the memtable held is then in the table
//! whether or not its part of the log is durable already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Direction, Result};
use ferrokit_storage::Progress as JobProgress;

use crate::compaction::gc::{Keep, VersionGc};
use crate::key::StoredRange;
use crate::read::LoadedBlocks;
use crate::read::merge::MergeIter;
use crate::sst::{Table, TableBuilder};
use crate::stats::count;
use crate::tables;
use crate::tree::Tree;
use crate::version::{Edit, Progress, SealedMemtable, TableRecord, Version, View};

/// One step of the flush job.
pub(crate) fn run(tree: &Arc<Tree>) -> JobProgress {
    let Some(sealed) = tree.view.load().sealed.last().cloned() else { return JobProgress::Idle };
    if tree.poison().is_some() {
        // Whoever went to sleep before the log failed is to see it.
        tree.progress.notify();
        return JobProgress::Idle;
    }
    match flush(tree, &sealed) {
        Ok(()) => {
            tree.set_background_error(None);
            tree.jobs.wake_compact();
            JobProgress::More
        }
        Err(error) => {
            tracing::warn!(%error, "a flush failed; writers stop when no memtable is left");
            tree.set_background_error(Some(error));
            JobProgress::Idle
        }
    }
}

fn flush(tree: &Tree, sealed: &SealedMemtable) -> Result<()> {
    let table = build(tree, sealed)?;
    let mut edit = Edit::default();
    if let Some((table, bytes)) = &table {
        edit.added.push(TableRecord { level: 0, id: table.id(), bytes: *bytes });
        tree.counters.flushed_bytes.fetch_add(*bytes, Ordering::Relaxed);
    }
    edit.progress = Some(Progress {
        log: sealed.log_end,
        last_sequence: sealed.last_sequence,
        next_table_id: tree.next_table_id.load(Ordering::Acquire),
        time: sealed.time,
        keyspaces: Arc::clone(&sealed.keyspaces),
    });
    {
        let mut manifest = tree.lock_manifest();
        manifest.append(&edit).map_err(|error| tree.set_poison(error))?;
        let _writer = tree.lock_writer();
        let view = tree.view.load_full();
        let mut queue = view.sealed.clone();
        queue.pop();
        let added = table.map(|(table, _)| (0, table)).into_iter().collect();
        tree.view.store(Arc::new(View {
            active: Arc::clone(&view.active),
            sealed: queue,
            version: Arc::new(view.version.with(&[], added)),
            keyspaces: Arc::clone(&view.keyspaces),
            flushes: view.flushes + 1,
        }));
    }
    count(&tree.counters.flushes);
    tree.progress.notify();
    if let Err(error) = tree.log.trim(sealed.log_end) {
        // The flush stands; the next one trims again.
        tracing::warn!(%error, "the log was not trimmed");
    }
    Ok(())
}

/// Writes the memtable's versions that anyone can still see.
fn build(tree: &Tree, sealed: &SealedMemtable) -> Result<Option<(Arc<Table>, u64)>> {
    if sealed.memtable.is_empty() {
        return Ok(None);
    }
    let id = tables::next_id(tree);
    let unfinished = tables::Unfinished::new(tree, id)?;
    let mut builder = TableBuilder::new(&tree.config, unfinished.file(), id)?;
    // Tombstones stay: what they cover lies below.
    let mut gc = VersionGc::new(tree);
    let all = StoredRange::all();
    let mut merge = MergeIter::new(
        std::iter::once(&sealed.memtable),
        &Version::empty(),
        &all,
        Direction::Forward,
    );
    let mut blocks = LoadedBlocks;
    let mut versions = 0;
    tables::unfault(merge.start(&mut blocks))?;
    while let Some((key, found)) = merge.current() {
        if let Keep::Yes { kind, expire_at, value } = gc.decide(key, &found, |_| true) {
            builder.add(key, found.sequence, kind, expire_at, value)?;
            versions += 1;
        }
        tables::unfault(merge.advance(&mut blocks))?;
    }
    gc.report_expired(tree);
    if versions == 0 {
        return Ok(None);
    }
    let built = builder.finish()?;
    let table = unfinished.publish(&built)?;
    Ok(Some((table, built.bytes)))
}
