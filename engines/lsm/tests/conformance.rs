//! The conformance suite on simulated and on real files, with large parts and with tiny ones.

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_lsm::{LsmConfig, LsmEngine};
use ferrokit_storage::{Compression, Host};

/// Opens the tree with parts as in operation, unless a case asks for tiny ones.
struct Lsm;

/// Opens the tree with parts so small that every case flushes and compacts.
struct TinyLsm;

/// As [`TinyLsm`], counting its entries.
struct CountingLsm;

fn tiny(directory: &str) -> LsmConfig {
    LsmConfig {
        memtable_bytes: 4096,
        cache_bytes: 8192,
        block_bytes: 256,
        restart_interval: 3,
        index_split_bytes: 256,
        level0_compact_files: 2,
        level0_slow_files: 6,
        level0_stop_files: 8,
        level_base_bytes: 8192,
        level_multiplier: 2,
        file_bytes: 4096,
        log_segment_bytes: 8192,
        log_buffer_bytes: 4096,
        value_bytes_max: 1 << 20,
        ..LsmConfig::new(directory)
    }
}

fn config(directory: &str, options: &Options) -> LsmConfig {
    let mut config = if options.is_tiny() { tiny(directory) } else { LsmConfig::new(directory) };
    config.value_bytes_max = 1 << 20;
    config.cache_bytes = config.cache_bytes.min(8 << 20);
    if let Some(text) = options.get("compression") {
        config.compression = match text {
            "zstd" => Compression::Zstd(1),
            _ => Compression::None,
        };
    }
    if options.get("filter") == Some("none") {
        config.filter_bits_per_key = 0;
    }
    config
}

impl EngineFactory for Lsm {
    fn name(&self) -> &'static str {
        "lsm"
    }

    fn open(&self, host: &Host, directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        Ok(LsmEngine::open(host, config(directory, options))?)
    }

    fn durable(&self) -> bool {
        true
    }

    fn option_sets(&self) -> Vec<Options> {
        vec![
            Options::default(),
            Options::tiny(),
            Options::tiny().with("compression", "zstd"),
            Options::tiny().with("compression", "none").with("filter", "none"),
        ]
    }
}

impl EngineFactory for TinyLsm {
    fn name(&self) -> &'static str {
        "lsm, tiny"
    }

    fn open(&self, host: &Host, directory: &str, _options: &Options) -> Result<Arc<dyn KvEngine>> {
        Ok(LsmEngine::open(host, tiny(directory))?)
    }

    fn durable(&self) -> bool {
        true
    }
}

impl EngineFactory for CountingLsm {
    fn name(&self) -> &'static str {
        "lsm, counting"
    }

    fn open(&self, host: &Host, directory: &str, _options: &Options) -> Result<Arc<dyn KvEngine>> {
        Ok(LsmEngine::open(host, LsmConfig { exact_len: true, ..tiny(directory) })?)
    }

    fn durable(&self) -> bool {
        true
    }
}

ferrokit_conformance::suite!(lsm, Lsm);
ferrokit_conformance::suite!(lsm_tiny, TinyLsm);
ferrokit_conformance::suite!(lsm_counting, CountingLsm, groups: [
    point, batch, update, keyspace, ttl, durability, changes, concurrency, lifecycle,
]);
ferrokit_conformance::suite!(lsm_on_threads, Lsm, on: Threads);
ferrokit_conformance::suite!(lsm_on_uring, Lsm, on: Uring);
ferrokit_conformance::suite!(lsm_tiny_on_threads, TinyLsm, on: Threads);
