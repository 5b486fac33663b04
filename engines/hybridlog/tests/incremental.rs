//! Checkpoints that write no index: what an opening makes of an older one and the pages since.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrokit_engine::{Checkpoint, KeyspaceId, KvEngine, SweepCursor, WriteBatch, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::{CrashMode, SimMachine};
use ferrokit_storage::{Fs, Host};
use support::{KS, MEMORY, OS, PAGE, config, stat};

/// Checkpoints only when they are asked for, and an index that is much of what there is.
fn quiet() -> HybridLogConfig {
    HybridLogConfig { checkpoint_bytes: 1 << 30, index_bytes: 64 << 10, ..config() }
}

fn open(host: &Host, config: &HybridLogConfig) -> Arc<HybridLogEngine> {
    HybridLogEngine::open(host, config.clone()).unwrap()
}

/// Takes a checkpoint of the engine itself; the backup it is taken for is removed.
fn checkpoint(machine: &SimMachine, engine: &HybridLogEngine) {
    // After a crash the ones that were removed may be there again.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let aside = format!("aside-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    machine.host().wait(engine.checkpoint(&aside)).unwrap();
    machine.fs().remove_dir_all(&aside).unwrap();
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:06}").into_bytes()
}

fn contents(
    host: &Host,
    engine: &HybridLogEngine,
    keyspace: KeyspaceId,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut found, mut cursor) = (BTreeMap::new(), SweepCursor::start());
    loop {
        let mut visit = |key: &[u8], entry: ferrokit_engine::Entry<'_>| {
            found.insert(key.to_vec(), entry.value.to_vec());
        };
        let options = ferrokit_engine::ReadOptions::default();
        let sweep =
            ferrokit_engine::KvRead::sweep(engine, keyspace, &cursor, 500, &options, &mut visit);
        match host.wait(sweep).unwrap().next {
            Some(next) => cursor = next,
            None => return found,
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A model that every write goes to as well.
#[derive(Default, Clone)]
struct Model([BTreeMap<Vec<u8>, Vec<u8>>; 2]);

fn write_some(
    host: &Host,
    engine: &HybridLogEngine,
    model: &mut Model,
    random: &mut Random,
    options: &WriteOptions,
) {
    let space = random.below(2) as usize;
    let keyspace = KeyspaceId(space as u32);
    let name = key(random.below(400));
    match random.below(40) {
        0..=20 => {
            let value = vec![random.below(256) as u8; random.below(200) as usize];
            host.wait(engine.put(keyspace, &name, &value, None, options)).unwrap();
            model.0[space].insert(name, value);
        }
        21..=33 => {
            host.wait(engine.delete(keyspace, &name, options)).unwrap();
            model.0[space].remove(&name);
        }
        34..=37 => {
            let mut batch = WriteBatch::new();
            for _ in 0..5 {
                let name = key(random.below(400));
                if random.below(2) == 0 {
                    batch.delete(keyspace, &name);
                    model.0[space].remove(&name);
                } else {
                    batch.put(keyspace, &name, b"batch", None);
                    model.0[space].insert(name, b"batch".to_vec());
                }
            }
            host.wait(engine.write(&batch, options)).unwrap();
        }
        38 => {
            host.wait(engine.swap_keyspaces(KS, KeyspaceId(1), options)).unwrap();
            model.0.swap(0, 1);
        }
        _ if random.below(10) == 0 => {
            host.wait(engine.clear_keyspace(keyspace, options)).unwrap();
            model.0[space].clear();
        }
        _ => {}
    }
}

/// Any writes at any level, checkpoints now and then, crashes: nothing else than the pages has what
/// was written at Memory before the last checkpoint, and the log nothing older than it.
#[test]
fn random_writes_survive_by_pages_alone() {
    for seed in 0..60 {
        let mut machine = SimMachine::new(seed);
        let config = quiet();
        let (mut random, mut model) = (Random(seed), Model::default());
        let mut incremental = 0;
        for _ in 0..4 {
            let host = machine.host();
            let engine = open(&host, &config);
            for (space, expected) in model.0.iter().enumerate() {
                let found = contents(&host, &engine, KeyspaceId(space as u32));
                assert_eq!(&found, expected, "seed {seed}, keyspace {space}");
            }
            for _ in 0..3 {
                for _ in 0..random.below(400) {
                    write_some(&host, &engine, &mut model, &mut random, &MEMORY);
                }
                host.settle();
                checkpoint(&machine, &engine);
            }
            incremental += stat(&engine, "checkpoints_incremental");
            // After the checkpoint only what is logged counts.
            for _ in 0..random.below(100) {
                write_some(&host, &engine, &mut model, &mut random, &OS);
            }
            host.wait(engine.sync(ferrokit_engine::Durability::Synced)).unwrap();
            drop(engine);
            machine = machine.crash(CrashMode::DropUnsynced);
        }
        assert!(incremental >= 8, "seed {seed}: {incremental} of 12 were incremental");
    }
}

/// A key that is deleted where nothing older is left of it: not even the older record that its last
/// one took the place of comes back.
#[test]
fn a_deleted_key_stays_deleted() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = open(&host, &quiet());
    host.wait(engine.put(KS, b"first", b"v", None, &MEMORY)).unwrap();
    checkpoint(&machine, &engine);
    host.wait(engine.put(KS, b"k", b"short", None, &MEMORY)).unwrap();
    // Longer: in another record.
    host.wait(engine.put(KS, b"k", &[1; 300], None, &MEMORY)).unwrap();
    host.wait(engine.delete(KS, b"k", &MEMORY)).unwrap();
    // And one that the older index leads to.
    host.wait(engine.delete(KS, b"first", &MEMORY)).unwrap();
    checkpoint(&machine, &engine);
    assert_eq!(stat(&engine, "checkpoints_incremental"), 1);
    drop(engine);
    let after = machine.crash(CrashMode::DropUnsynced);
    let engine = open(&after.host(), &quiet());
    assert!(contents(&after.host(), &engine, KS).is_empty());
}

/// Keys that come and go leave no garbage that nobody collects.
#[test]
fn keys_that_come_and_go_take_no_room_for_good() {
    let machine = SimMachine::new(2);
    let host = machine.host();
    let engine = open(&host, &config());
    for n in 0..60_000 {
        host.wait(engine.put(KS, &key(n), &[1; 60], None, &OS)).unwrap();
        host.wait(engine.delete(KS, &key(n), &OS)).unwrap();
        if n % 100 == 0 {
            host.settle();
        }
    }
    host.settle();
    let used = stat(&engine, "disk_bytes");
    assert!(used < 4 * config().memory_bytes, "{used} bytes on disk for nothing");
    assert!(stat(&engine, "index_bytes") < 256 << 10, "{}", stat(&engine, "index_bytes"));
}

/// An index that has grown is written anew, and so is one that the pages since have left behind.
#[test]
fn a_new_index_is_written_when_the_old_one_does_no_longer() {
    let machine = SimMachine::new(3);
    let host = machine.host();
    let small = HybridLogConfig { index_bytes: 64, ..quiet() };
    let engine = open(&host, &small);
    host.wait(engine.put(KS, b"k", b"v", None, &MEMORY)).unwrap();
    checkpoint(&machine, &engine);
    for n in 0..300 {
        host.wait(engine.put(KS, &key(n), b"v", None, &MEMORY)).unwrap();
    }
    assert!(stat(&engine, "index_buckets") > 1, "it has not grown");
    checkpoint(&machine, &engine);
    assert_eq!(stat(&engine, "checkpoints_incremental"), 0, "one index of another size");
    checkpoint(&machine, &engine);
    assert_eq!(stat(&engine, "checkpoints_incremental"), 1);
    let index = |host: &Host| {
        let names = host.fs.list("data").unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.starts_with("index-")).collect::<Vec<_>>()
    };
    let before = index(&host);
    assert_eq!(before.len(), 1);
    // Half the memory, and more than the index four times.
    for n in 0..small.memory_bytes / PAGE * 40 {
        host.wait(engine.put(KS, &key(n % 200), &[7; 100], None, &MEMORY)).unwrap();
        if n % 100 == 0 {
            host.settle();
        }
    }
    for n in 0..2000 {
        host.wait(engine.put(KS, &key(n % 200), &[8; 300], None, &MEMORY)).unwrap();
    }
    checkpoint(&machine, &engine);
    assert_ne!(index(&host), before, "an opening would read all that was written since");
    assert_eq!(index(&host).len(), 1, "of two only one is needed");
}
