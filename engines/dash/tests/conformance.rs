//! The suite every engine passes, whole: what dash cannot do is the clean `Unsupported`.

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options, suite};
use ferrokit_dash::{DashConfig, DashEngine};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_storage::Host;

struct DashFactory;

impl EngineFactory for DashFactory {
    fn name(&self) -> &'static str {
        "dash"
    }

    fn open(&self, host: &Host, _directory: &str, options: &Options) -> Result<Arc<dyn KvEngine>> {
        let config = if options.is_tiny() {
            DashConfig { capacity_bytes: 64 << 20 }
        } else {
            DashConfig::default()
        };
        Ok(DashEngine::open(host, config)?)
    }

    fn durable(&self) -> bool {
        false
    }
}

suite!(dash, DashFactory);
suite!(dash_threads, DashFactory, on: Threads);
