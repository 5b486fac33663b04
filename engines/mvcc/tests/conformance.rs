//! The suite on the wrapper, over an ordered and an unordered engine.

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options, suite};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_mvcc::{Mvcc, MvccOptions};
use ferrokit_storage::Host;

fn wrap(host: &Host, inner: Arc<dyn KvEngine>, options: &Options) -> Result<Arc<dyn KvEngine>> {
    let mut wrapping = MvccOptions { clock: Arc::clone(&host.env.clock), ..MvccOptions::default() };
    if options.is_tiny() {
        // Different keys meet on a stripe.
        wrapping.stripes = 3;
    }
    Ok(Mvcc::new(inner, wrapping)?)
}

struct OverMemory;

impl EngineFactory for OverMemory {
    fn name(&self) -> &'static str {
        "mvcc_over_memory"
    }

    fn open(&self, host: &Host, _directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        wrap(host, MemoryEngine::open(host, MemoryConfig::default())?, options)
    }

    fn durable(&self) -> bool {
        false
    }
}

struct OverHybridLog;

impl EngineFactory for OverHybridLog {
    fn name(&self) -> &'static str {
        "mvcc_over_hybridlog"
    }

    fn open(&self, host: &Host, _directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        let mut config = HybridLogConfig { keyspaces: 16, ..HybridLogConfig::default() };
        if options.is_tiny() {
            config.memory_bytes = 8 << 20;
            config.page_bytes = 32 << 10;
            config.index_bytes = 64;
            config.index_bytes_max = 1 << 20;
        }
        wrap(host, HybridLogEngine::open(host, config)?, options)
    }

    fn durable(&self) -> bool {
        false
    }
}

suite!(mvcc_over_memory, OverMemory);
suite!(mvcc_over_hybridlog, OverHybridLog);
