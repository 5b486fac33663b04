//! What is there after a crash, and what opening refuses.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use ferrokit_engine::{
    Durability, KeyspaceId, KvEngine, KvEngineExt, UnixMillis, Update, WriteBatch, WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::{CrashMode, SimMachine};

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const OS: WriteOptions = WriteOptions::with_durability(Durability::Os);
const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn config() -> HybridLogConfig {
    HybridLogConfig {
        directory: "data".to_owned(),
        memory_bytes: 64 << 12,
        page_bytes: 4 << 10,
        index_bytes: 1 << 10,
        segment_bytes: 16 << 10,
        checkpoint_bytes: 64 << 10,
        keyspaces: 4,
        ..HybridLogConfig::default()
    }
}

fn get(machine: &SimMachine, engine: &Arc<HybridLogEngine>, key: &[u8]) -> Option<Vec<u8>> {
    machine.host().wait(engine.get(KS, key)).unwrap()
}

#[test]
fn keys_that_came_during_a_checkpoint_are_counted_once_after_a_crash() {
    let config = HybridLogConfig { checkpoint_bytes: 16 << 10, index_bytes: 4 << 20, ..config() };
    let options = OS.reporting_existed();
    for pace in 1..20 {
        let machine = SimMachine::new(pace);
        let host = machine.host();
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        let mut keys = 0_u64;
        while engine.stats().get("checkpoints") == Some(0) {
            host.wait(engine.put(KS, &keys.to_be_bytes(), b"v", None, &options)).unwrap();
            keys += 1;
            if keys.is_multiple_of(pace) {
                host.background.step();
            }
        }
        drop(engine);
        let machine = machine.crash(CrashMode::ProcessKill);
        let host = machine.host();
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        assert_eq!(host.wait(engine.keyspace_len(KS)).unwrap().entries, keys, "pace {pace}");
    }
}

#[test]
fn what_was_synced_is_there_after_a_power_cut() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(KS, b"a", b"one", None);
    host.wait(engine.write(&batch, &OS)).unwrap();
    let mut change = |_: Option<ferrokit_engine::Entry<'_>>, out: &mut Vec<u8>| {
        out.extend_from_slice(b"two");
        Update::Put { expire_at: Some(UnixMillis(u64::MAX)) }
    };
    host.wait(engine.update(KS, b"b", &SYNCED, &mut change)).unwrap();
    drop(engine);
    let after = machine.crash(CrashMode::DropUnsynced);
    let engine = HybridLogEngine::open(&after.host(), config()).unwrap();
    assert_eq!(get(&after, &engine, b"a").as_deref(), Some(&b"one"[..]));
    assert_eq!(get(&after, &engine, b"b").as_deref(), Some(&b"two"[..]));
}
