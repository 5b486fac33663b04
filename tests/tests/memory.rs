//! The suite on the memory engine, on every machine.

use std::sync::Arc;

use ferrokit_conformance::{EngineFactory, Options, suite};
use ferrokit_engine::{KvEngine, Result};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_storage::Host;

struct MemoryFactory;

impl EngineFactory for MemoryFactory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, host: &Host, _directory: &str, _: &Options) -> Result<Arc<dyn KvEngine>> {
        Ok(MemoryEngine::open(host, MemoryConfig::default())?)
    }

    fn durable(&self) -> bool {
        false
    }

    fn restore(&self, host: &Host, directory: &str, _: &Options) -> Result<Arc<dyn KvEngine>> {
        let checkpoint = Some(directory.to_owned());
        Ok(MemoryEngine::open(host, MemoryConfig { checkpoint, ..MemoryConfig::default() })?)
    }
}

suite!(memory, MemoryFactory);
suite!(memory_threads, MemoryFactory, on: Threads);
suite!(memory_uring, MemoryFactory, on: Uring);
