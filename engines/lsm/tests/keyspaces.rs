//! Clearing a keyspace and what a crash makes of it.

use ferrokit_engine::{Durability, KeyspaceId, KvEngine, KvEngineExt, WriteOptions};
use ferrokit_lsm::{LsmConfig, LsmEngine};
use ferrokit_storage::sim::{CrashMode, SimMachine};

const KS: KeyspaceId = KeyspaceId(3);
const OTHER: KeyspaceId = KeyspaceId(4);
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn config() -> LsmConfig {
    LsmConfig {
        memtable_bytes: 8192,
        level0_compact_files: 2,
        level_base_bytes: 4096,
        file_bytes: 4096,
        ..LsmConfig::new("data")
    }
}

/// Compactions must not drop what a clear emptied before the clear itself is durable.
#[test]
fn a_clear_that_a_crash_undoes_has_dropped_nothing() {
    let machine = SimMachine::new(7);
    let host = machine.host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    // Nothing is waited for, so that no job runs before the clear: the flushes of the entries and
    // their compactions come behind it.
    for n in 0..100u32 {
        let put = engine.put(KS, &n.to_be_bytes(), &[7; 100], None, &SYNCED.applied()).wait();
        put.unwrap();
    }
    engine.clear_keyspace(KS, &MEMORY).wait().unwrap();
    host.settle();
    let crashed = machine.crash(CrashMode::DropUnsynced);
    let host = crashed.host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    let present = (0..100u32)
        .filter(|n| host.wait(engine.get(KS, &n.to_be_bytes())).unwrap().is_some())
        .count();
    assert!(present == 100 || present == 0, "{present} of 100: half a clear");
    assert_eq!(present, 100, "the clear was never written, so it must be undone");
}

/// What a durable clear emptied takes no space for ever.
#[test]
fn a_cleared_keyspace_gives_its_space_back() {
    let machine = SimMachine::new(8);
    let host = machine.host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    for n in 0..500u32 {
        host.wait(engine.put(KS, &n.to_be_bytes(), &[n as u8; 200], None, &MEMORY)).unwrap();
    }
    host.settle();
    host.wait(engine.clear_keyspace(KS, &SYNCED)).unwrap();
    for round in 0..10u32 {
        for n in 0..100u32 {
            host.wait(engine.put(OTHER, &n.to_be_bytes(), &round.to_le_bytes(), None, &MEMORY))
                .unwrap();
        }
    }
    host.settle();
    let stats = engine.stats();
    let files: u64 = (0..7).map(|n| stats.get(&format!("level{n}_files")).unwrap()).sum();
    assert!(files <= 8, "{files} tables hold 100 small entries");
    host.wait(engine.close()).unwrap();
}
