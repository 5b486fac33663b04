//! What the tests share: tiny engines on a simulated machine.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::sync::Arc;

use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvRead, ReadOptions, SweepCursor, WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::SimMachine;

pub(crate) const KS: KeyspaceId = KeyspaceId::DEFAULT;
pub(crate) const WRITE: WriteOptions = WriteOptions::with_durability(Durability::Memory);

/// Pages of 4 KiB, an index of one bucket: every mechanism is met within a few hundred keys.
pub(crate) fn tiny(pages: u64) -> HybridLogConfig {
    HybridLogConfig {
        memory_bytes: pages * 4096,
        page_bytes: 4096,
        index_bytes: 64,
        index_bytes_max: 1 << 20,
        keyspaces: 4,
        ..HybridLogConfig::default()
    }
}

/// An engine on a simulated machine, whose jobs run only when they are stepped.
pub(crate) fn open(config: HybridLogConfig) -> (SimMachine, Arc<HybridLogEngine>) {
    let machine = SimMachine::new(7);
    let engine = HybridLogEngine::open(&machine.host(), config).unwrap();
    (machine, engine)
}

pub(crate) fn put(engine: &HybridLogEngine, key: &[u8], value: &[u8]) {
    engine.put(KS, key, value, None, &WRITE).wait().unwrap();
}

pub(crate) fn get(engine: &HybridLogEngine, keyspace: KeyspaceId, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = None;
    let mut visit = |entry: Entry<'_>| value = Some(entry.value.to_vec());
    engine.get_with(keyspace, key, &ReadOptions::default(), &mut visit).wait().unwrap();
    value
}

pub(crate) fn get_many(engine: &HybridLogEngine, keys: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let mut values = vec![None; keys.len()];
    let mut visit = |index: usize, entry: Entry<'_>| {
        assert!(values[index].replace(entry.value.to_vec()).is_none(), "a key is visited once");
    };
    engine.get_many_with(KS, keys, &ReadOptions::default(), &mut visit).wait().unwrap();
    values
}

pub(crate) fn stat(engine: &HybridLogEngine, name: &str) -> u64 {
    engine.stats().get(name).unwrap()
}

/// All entries of a keyspace.
pub(crate) fn sweep(
    engine: &HybridLogEngine,
    keyspace: KeyspaceId,
    budget: usize,
) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut entries = HashMap::new();
    let mut cursor = SweepCursor::start();
    loop {
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            entries.insert(key.to_vec(), entry.value.to_vec());
        };
        let options = ReadOptions::default();
        let swept = engine.sweep(keyspace, &cursor, budget, &options, &mut visit).wait().unwrap();
        match swept.next {
            Some(next) => cursor = next,
            None => return entries,
        }
    }
}
