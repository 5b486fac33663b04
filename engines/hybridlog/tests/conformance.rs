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
