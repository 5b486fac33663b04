//! Counters of the engine.

use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_engine::Stats;

use crate::tree::Tree;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) slowed_writes: AtomicU64,
    pub(crate) stopped_writes: AtomicU64,
    pub(crate) expired_keys: AtomicU64,
    pub(crate) cold_reads: AtomicU64,
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The figures of the engine at this moment.
pub(crate) fn collect(tree: &Tree) -> Stats {
    const LEVEL_FILES: [&str; 7] = [
        "level0_files",
        "level1_files",
        "level2_files",
        "level3_files",
        "level4_files",
        "level5_files",
        "level6_files",
    ];
    let mut stats = Stats::new();
    let view = tree.view.load();
    let counters = &tree.counters;
    let sealed: usize = view.sealed.iter().map(|sealed| sealed.memtable.bytes()).sum();
    let pinned: usize = view.version.tables().map(|(_, table)| table.pinned_bytes()).sum();
    let tables: u64 = view.version.tables().map(|(_, table)| table.file_bytes()).sum();
    stats
        .push("data_bytes", tables + (view.active.bytes() + sealed) as u64)
        .push("memtable_bytes", view.active.bytes() as u64)
        .push("sealed_memtables", view.sealed.len() as u64)
        .push("sealed_memtable_bytes", sealed as u64)
        .push("cache_bytes", tree.cache.bytes())
        .push("cache_hits", tree.cache.hits())
        .push("cache_misses", tree.cache.misses())
        .push("table_pinned_bytes", pinned as u64)
        .push("cold_reads", counters.cold_reads.load(Ordering::Relaxed))
        .push("flushes", counters.flushes.load(Ordering::Relaxed))
        .push("flushed_bytes", counters.flushed_bytes.load(Ordering::Relaxed))
        .push("compactions", counters.compactions.load(Ordering::Relaxed))
        .push("compacted_bytes", counters.compacted_bytes.load(Ordering::Relaxed))
        .push("slowed_writes", counters.slowed_writes.load(Ordering::Relaxed))
        .push("stopped_writes", counters.stopped_writes.load(Ordering::Relaxed))
        .push("expired_keys", counters.expired_keys.load(Ordering::Relaxed))
        .push("snapshots", tree.snapshots.len() as u64);
    for (name, tables) in LEVEL_FILES.iter().zip(view.version.levels()) {
        stats.push(name, tables.len() as u64);
    }
    tree.log.stats_into(&mut stats);
    stats
}
