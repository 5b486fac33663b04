//! A small engine with a directory, for tests of what crosses the bounds of its memory.

use ferrokit_engine::{Durability, KeyspaceId, KvEngine, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};

pub(crate) const KS: KeyspaceId = KeyspaceId::DEFAULT;
pub(crate) const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
pub(crate) const OS: WriteOptions = WriteOptions::with_durability(Durability::Os);
pub(crate) const PAGE: u64 = 4 << 10;

/// 128 KiB of memory.
pub(crate) fn config() -> HybridLogConfig {
    HybridLogConfig {
        directory: "data".to_owned(),
        memory_bytes: 32 * PAGE,
        page_bytes: PAGE,
        index_bytes: 1 << 10,
        segment_bytes: 8 * PAGE,
        checkpoint_bytes: 64 << 10,
        log_segment_bytes: 64 << 10,
        garbage_percent: 30,
        keyspaces: 4,
        mapped_bytes: 0,
        ..HybridLogConfig::default()
    }
}

pub(crate) fn stat(engine: &HybridLogEngine, name: &str) -> u64 {
    engine.stats().get(name).unwrap_or_else(|| panic!("no {name}"))
}
