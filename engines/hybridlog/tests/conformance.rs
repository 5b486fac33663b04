//! The suite every engine passes, in the groups this one has.

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options, suite};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::Host;

struct HybridLogFactory;

impl EngineFactory for HybridLogFactory {
    fn name(&self) -> &'static str {
        "hybridlog"
    }

    fn open(&self, host: &Host, _directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        let config = if options.is_tiny() {
            // The smallest pages, an index of one bucket at first.
            HybridLogConfig {
                memory_bytes: 16 << 20,
                page_bytes: 4 << 10,
                index_bytes: 64,
                garbage_percent: 10,
                ..HybridLogConfig::default()
            }
        } else {
            HybridLogConfig::default()
        };
        Ok(HybridLogEngine::open(host, config)?)
    }

    fn durable(&self) -> bool {
        false
    }
}

suite!(hybridlog, HybridLogFactory, groups: [point, batch, update, sweep, keyspace, scan, ttl]);
suite!(
    hybridlog_threads,
    HybridLogFactory,
    on: Threads,
    groups: [point, batch, update, sweep, keyspace, scan, ttl]
);

/// With a directory: durable, and larger than memory.
struct OnDisk;

impl EngineFactory for OnDisk {
    fn name(&self) -> &'static str {
        "hybridlog_disk"
    }

    fn open(&self, host: &Host, directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        // The size of a page is that of the data.
        let mut config = HybridLogConfig {
            directory: directory.to_owned(),
            memory_bytes: 16 << 20,
            page_bytes: 32 << 10,
            index_bytes: 4 << 10,
            log_segment_bytes: 64 << 10,
            ..HybridLogConfig::default()
        };
        if options.is_tiny() {
            config.memory_bytes = 16 * config.page_bytes;
            config.index_bytes = 64;
            config.garbage_percent = 20;
            config.checkpoint_bytes = 64 << 10;
        }
        Ok(HybridLogEngine::open(host, config)?)
    }

    fn durable(&self) -> bool {
        true
    }
}

const TINY_PAGE: u64 = 4 << 10;

/// So small that every boundary of the log is crossed all the time.
fn tiny(directory: &str) -> HybridLogConfig {
    HybridLogConfig {
        directory: directory.to_owned(),
        memory_bytes: 96 * TINY_PAGE,
        page_bytes: TINY_PAGE,
        index_bytes: 64,
        garbage_percent: 20,
        segment_bytes: 4 * TINY_PAGE,
        checkpoint_bytes: 16 << 10,
        log_segment_bytes: 16 << 10,
        keyspaces: 16,
        mapped_bytes: 0,
        ..HybridLogConfig::default()
    }
}

/// Tiny, with files alone.
struct TinyOnDisk;

impl EngineFactory for TinyOnDisk {
    fn name(&self) -> &'static str {
        "hybridlog_tiny"
    }

    fn open(&self, host: &Host, directory: &str, _options: &Options) -> Result<Arc<dyn KvEngine>> {
        Ok(HybridLogEngine::open(host, tiny(directory))?)
    }

    fn durable(&self) -> bool {
        true
    }
}

/// Tiny, with every tier: segments move to the object tier all the time.
struct TinyTiers;

impl EngineFactory for TinyTiers {
    fn name(&self) -> &'static str {
        "hybridlog_tiers"
    }

    fn open(&self, host: &Host, directory: &str, _options: &Options) -> Result<Arc<dyn KvEngine>> {
        let config = HybridLogConfig {
            segment_bytes: 2 * TINY_PAGE,
            mapped_bytes: 4 * TINY_PAGE,
            object: format!("{directory}/objects"),
            disk_bytes: 4 * TINY_PAGE,
            ..tiny(directory)
        };
        Ok(HybridLogEngine::open(host, config)?)
    }

    fn durable(&self) -> bool {
        true
    }
}

suite!(hybridlog_disk, OnDisk);
suite!(hybridlog_tiny, TinyOnDisk);
suite!(hybridlog_tiers, TinyTiers);
suite!(hybridlog_disk_on_threads, OnDisk, on: Threads);
suite!(hybridlog_tiny_on_threads, TinyOnDisk, on: Threads);
suite!(hybridlog_tiers_on_threads, TinyTiers, on: Threads);
