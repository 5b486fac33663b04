//! Leveled compaction: level 0 and levels that outgrew their size are merged into the next.
//!
//! | file | subject |
//! |---|---|
//! | `picker` | what to compact next |
//! | `gc` | which versions may be dropped |
//!
//! Crash safety: outputs are synced and named before one edit puts them in the inputs' place; the
//! inputs' files go when the last reader is done with them.

pub(crate) mod gc;
mod picker;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrokit_engine::{Direction, Result};
use ferrokit_storage::Progress as JobProgress;

use crate::key::StoredRange;
use crate::read::LoadedBlocks;
use crate::read::merge::MergeIter;
use crate::sst::{Table, TableBuilder};
use crate::stats::count;
use crate::tables::{self, Unfinished, unfault};
use crate::tree::Tree;
use crate::version::{Edit, TableRecord, Version, View};
use gc::{Keep, VersionGc};
use picker::{Compaction, pick};

/// One step of the compaction job: one compaction.
pub(crate) fn run(tree: &Arc<Tree>) -> JobProgress {
    tables::remove_garbage(tree);
    if tree.poison().is_some() {
        tree.progress.notify();
        return JobProgress::Idle;
    }
    if let Err(error) = drop_dead_tables(tree) {
        tree.set_background_error(Some(error));
        return JobProgress::Idle;
    }
    let version = Arc::clone(&tree.view.load().version);
    let Some(compaction) = pick(&version, &tree.config) else { return JobProgress::Idle };
    match compact(tree, &version, &compaction) {
        Ok(()) => {
            tree.set_background_error(None);
            JobProgress::More
        }
        Err(error) => {
            tracing::warn!(%error, "a compaction failed; it is tried again after the next flush");
            tree.set_background_error(Some(error));
            JobProgress::Idle
        }
    }
}

fn compact(tree: &Tree, version: &Version, compaction: &Compaction) -> Result<()> {
    let outputs = merge(tree, version, compaction)?;
    let removed: Vec<u64> = compaction.inputs().map(|table| table.id()).collect();
    install(tree, compaction.output_level, removed, outputs)?;
    for table in compaction.inputs() {
        table.make_obsolete();
    }
    count(&tree.counters.compactions);
    tree.progress.notify();
    Ok(())
}

/// Takes out the tables that hold nothing but cleared keyspaces.
fn drop_dead_tables(tree: &Tree) -> Result<()> {
    let version = Arc::clone(&tree.view.load().version);
    let liveness = gc::liveness(tree);
    let dead: Vec<Arc<Table>> = version
        .tables()
        .map(|(_, table)| table)
        .filter(|table| {
            table.properties().keyspaces.keys().all(|keyspace| !liveness.is_live(*keyspace))
        })
        .cloned()
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    install(tree, 0, dead.iter().map(|table| table.id()).collect(), Vec::new())?;
    for table in &dead {
        table.make_obsolete();
    }
    Ok(())
}

/// Puts tables in the place of others, durably.
fn install(
    tree: &Tree,
    level: usize,
    removed: Vec<u64>,
    outputs: Vec<(Arc<Table>, u64)>,
) -> Result<()> {
    let records = outputs
        .iter()
        .map(|(table, bytes)| TableRecord { level, id: table.id(), bytes: *bytes })
        .collect();
    let edit = Edit { added: records, removed: removed.clone(), progress: None, log_absent: false };
    let mut manifest = tree.lock_manifest();
    manifest.append(&edit).map_err(|error| tree.set_poison(error))?;
    let _writer = tree.lock_writer();
    let view = tree.view.load_full();
    let added = outputs.into_iter().map(|(table, _)| (level, table)).collect();
    tree.view.store(Arc::new(View {
        active: Arc::clone(&view.active),
        sealed: view.sealed.clone(),
        version: Arc::new(view.version.with(&removed, added)),
        keyspaces: Arc::clone(&view.keyspaces),
        flushes: view.flushes,
    }));
    Ok(())
}

/// Writes the versions of the inputs that anyone can still see.
fn merge(
    tree: &Tree,
    version: &Version,
    compaction: &Compaction,
) -> Result<Vec<(Arc<Table>, u64)>> {
    let inputs = compaction.as_version();
    let all = StoredRange::all();
    let mut merge = MergeIter::new(std::iter::empty(), &inputs, &all, Direction::Forward);
    let mut blocks = LoadedBlocks;
    let mut gc = VersionGc::new(tree);
    let mut outputs = Vec::new();
    let mut open: Option<(Unfinished<'_>, TableBuilder<'_>)> = None;
    let mut last_key: Vec<u8> = Vec::new();
    unfault(merge.start(&mut blocks))?;
    while let Some((key, found)) = merge.current() {
        let lies_below = |key: &[u8]| version.may_lie_below(compaction.output_level, key);
        if let Keep::Yes { kind, expire_at, value } = gc.decide(key, &found, lies_below) {
            // All versions of a key stay in one table, so that a level never holds a key twice.
            let is_full = open.as_ref().is_some_and(|(_, builder)| {
                builder.bytes() >= tree.config.file_bytes && last_key != key
            });
            if is_full && let Some(full) = open.take() {
                outputs.push(finish(tree, full)?);
            }
            if open.is_none() {
                let id = tables::next_id(tree);
                let unfinished = Unfinished::new(tree, id)?;
                let builder = TableBuilder::new(&tree.config, unfinished.file(), id)?;
                open = Some((unfinished, builder));
            }
            if let Some((_, builder)) = &mut open {
                builder.add(key, found.sequence, kind, expire_at, value)?;
            }
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        unfault(merge.advance(&mut blocks))?;
        if tree.is_closed.load(Ordering::Acquire) {
            tree.check_open("lsm.compact")?;
        }
    }
    if let Some(rest) = open.take() {
        outputs.push(finish(tree, rest)?);
    }
    gc.report_expired(tree);
    Ok(outputs)
}

fn finish(
    tree: &Tree,
    (unfinished, builder): (Unfinished<'_>, TableBuilder<'_>),
) -> Result<(Arc<Table>, u64)> {
    let built = builder.finish()?;
    tree.counters.compacted_bytes.fetch_add(built.bytes, Ordering::Relaxed);
    let table = unfinished.publish(&built)?;
    Ok((table, built.bytes))
}
