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

/// What happens, key after key, while a checkpoint is taken.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Added,
    Deleted,
    PutAgain,
    MetExpired,
}

#[test]
fn entries_are_counted_once_whatever_happens_during_a_checkpoint() {
    const KEYS: u64 = 400;
    let config = HybridLogConfig {
        memory_bytes: 4 << 20,
        page_bytes: 16 << 10,
        checkpoint_bytes: 16 << 10,
        index_bytes: 1 << 20,
        ..config()
    };
    let options = OS.reporting_existed();
    let all = [Meanwhile::Added, Meanwhile::Deleted, Meanwhile::PutAgain, Meanwhile::MetExpired];
    for (meanwhile, pace) in all.into_iter().flat_map(|it| (1..30).map(move |pace| (it, pace))) {
        let machine = SimMachine::new(pace);
        let host = machine.host();
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        let soon = Some(host.env.clock.now().plus(1000));
        let put = |n: u64, expire_at| {
            host.wait(engine.put(KS, &n.to_be_bytes(), b"value", expire_at, &options)).unwrap();
        };
        let delete = |n: u64| {
            host.wait(engine.delete(KS, &n.to_be_bytes(), &options)).unwrap();
        };
        let expires = matches!(meanwhile, Meanwhile::MetExpired);
        if !matches!(meanwhile, Meanwhile::Added) {
            (0..KEYS).for_each(|n| put(n, soon.filter(|_| expires)));
        }
        if matches!(meanwhile, Meanwhile::PutAgain) {
            (0..KEYS).for_each(delete);
        }
        machine.clock().advance(std::time::Duration::from_secs(2));
        let taken = || engine.stats().get("checkpoints").unwrap();
        let (before, mut n) = (taken(), 0_u64);
        while taken() == before && n < KEYS {
            match meanwhile {
                Meanwhile::Added | Meanwhile::PutAgain => put(n, None),
                Meanwhile::Deleted => delete(n),
                Meanwhile::MetExpired => assert_eq!(get(&machine, &engine, &n.to_be_bytes()), None),
            }
            n += 1;
            if n.is_multiple_of(pace) {
                host.background.step();
            }
        }
        drop(engine);
        let machine = machine.crash(CrashMode::ProcessKill);
        let host = machine.host();
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        let live = match meanwhile {
            Meanwhile::Added | Meanwhile::PutAgain => n,
            Meanwhile::Deleted => KEYS - n,
            Meanwhile::MetExpired => {
                // Those that are counted still are so until they are written.
                for n in 0..KEYS {
                    let key = n.to_be_bytes();
                    assert_eq!(get(&machine, &engine, &key), None);
                    host.wait(engine.put(KS, &key, b"v", None, &options)).unwrap();
                    host.wait(engine.delete(KS, &key, &options)).unwrap();
                }
                0
            }
        };
        let counted = host.wait(engine.keyspace_len(KS)).unwrap().entries;
        assert_eq!(counted, live, "{meanwhile:?}, pace {pace}");
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

#[test]
fn what_an_opening_found_is_found_again_after_a_power_cut() {
    const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
    let mut differed = 0;
    for cut in 0.. {
        let machine = SimMachine::new(cut);
        let host = machine.host();
        let engine = HybridLogEngine::open(&host, config()).unwrap();
        host.wait(engine.put(KS, b"k", b"old", None, &SYNCED)).unwrap();
        host.wait(engine.put(KS, b"k", b"new", None, &MEMORY)).unwrap();
        machine.crash_at(machine.io_count() + cut);
        // It takes a checkpoint, which has the new one, too.
        let is_closed = host.wait(engine.close()).is_ok();
        drop(engine);
        let machine = machine.crash(CrashMode::ProcessKill);
        let engine = HybridLogEngine::open(&machine.host(), config()).unwrap();
        let found = get(&machine, &engine, b"k");
        differed += u32::from(found.as_deref() == Some(b"new"));
        drop(engine);
        let machine = machine.crash(CrashMode::DropUnsynced);
        let engine = HybridLogEngine::open(&machine.host(), config()).unwrap();
        assert_eq!(get(&machine, &engine, b"k"), found, "the process ended at I/O {cut}");
        if is_closed {
            break;
        }
    }
    assert!(differed > 1, "the checkpoint was there before the closing ended");
}
