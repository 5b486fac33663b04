//! The engine under threads: what readers may see while others write, split, clear and swap.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_dash::{DashConfig, DashEngine};
use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvEngineExt, KvRead, ReadOptions, SweepCursor,
    WriteBatch, WriteOptions, block_on,
};
use ferrokit_storage::sim::SimMachine;

const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

fn open(capacity_bytes: u64) -> Arc<DashEngine> {
    DashEngine::open(&SimMachine::new(1).host(), DashConfig { capacity_bytes }).unwrap()
}

fn put(engine: &DashEngine, keyspace: KeyspaceId, key: &[u8], value: &[u8]) {
    engine.put(keyspace, key, value, None, &MEMORY).wait().unwrap();
}

fn get(engine: &DashEngine, keyspace: KeyspaceId, key: &[u8]) -> Option<Vec<u8>> {
    block_on(engine.get(keyspace, key)).unwrap()
}

fn sweep(engine: &DashEngine, mut between: impl FnMut(usize)) -> HashSet<Vec<u8>> {
    let (mut keys, mut cursor, mut steps) = (HashSet::new(), SweepCursor::start(), 0);
    loop {
        let mut visit = |key: &[u8], _: Entry<'_>| {
            keys.insert(key.to_vec());
        };
        let options = ReadOptions::default();
        let swept = engine.sweep(KEYSPACE, &cursor, 10, &options, &mut visit).wait().unwrap();
        match swept.next {
            Some(next) => cursor = next,
            None => return keys,
        }
        between(steps);
        steps += 1;
        assert!(steps < 100_000, "the sweep does not end");
    }
}

#[test]
fn values_are_never_torn_while_segments_split() {
    let engine = open(256 << 20);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u8)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    for round in 0..30_000_u32 {
                        let fill = vec![round as u8; 1 + round as usize * 7 % 90];
                        put(engine, KEYSPACE, &[b'h', round as u8 % 16], &fill);
                        put(
                            engine,
                            KEYSPACE,
                            &[&[writer][..], &round.to_le_bytes()].concat(),
                            &fill,
                        );
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for hot in 0..16 {
                    let value = get(&engine, KEYSPACE, &[b'h', hot]).unwrap_or_default();
                    assert!(value.iter().all(|byte| *byte == value[0]), "torn: {value:?}");
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 60_016);
    for round in 0..30_000_u32 {
        for writer in 0..2 {
            assert!(
                get(&engine, KEYSPACE, &[&[writer][..], &round.to_le_bytes()].concat()).is_some()
            );
        }
    }
}

#[test]
fn increments_are_not_lost() {
    let engine = open(64 << 20);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..5_000 {
                    let key = [b'c', round as u8 % 3];
                    block_on(engine.incr(KEYSPACE, &key, 1, &MEMORY)).unwrap();
                }
            });
        }
    });
    let sum: i64 = (0..3)
        .map(|counter| get(&engine, KEYSPACE, &[b'c', counter]).unwrap())
        .map(|text| String::from_utf8(text).unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(sum, 20_000);
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    let engine = open(256 << 20);
    let keys: Vec<Vec<u8>> = (0..8_u8).map(|key| vec![b'k', key]).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..10_000_u64 {
                let mut batch = WriteBatch::new();
                for key in &keys {
                    batch.put(KEYSPACE, key, &round.to_le_bytes(), None);
                }
                // Others beside them, so that the batches split segments.
                batch.put(KEYSPACE, &round.to_le_bytes(), b"filler of some length", None);
                engine.write(&batch, &MEMORY).wait().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let number = |value: Option<Vec<u8>>| {
            value.map_or(-1, |value| i64::from_le_bytes(value.try_into().unwrap()))
        };
        let mut newest = -1;
        while !done.load(Ordering::Relaxed) {
            let many = block_on(engine.get_many(KEYSPACE, &slices)).unwrap();
            let many: Vec<i64> = many.into_iter().map(number).collect();
            assert!(many.iter().all(|round| *round == many[0]), "half a batch: {many:?}");
            for key in &keys {
                let round = number(get(&engine, KEYSPACE, key));
                assert!(round >= newest, "{round} after {newest}");
                newest = round;
            }
        }
    });
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 10_008);
}

#[test]
fn a_sweep_sees_what_is_there_throughout_though_segments_split() {
    let engine = open(256 << 20);
    let stable: HashSet<Vec<u8>> =
        (0..2_000_u32).map(|key| [b"s", &key.to_le_bytes()[..]].concat()).collect();
    for key in &stable {
        put(&engine, KEYSPACE, key, b"value");
    }
    let before = engine.stats().get("segments").unwrap();
    let seen = sweep(&engine, |step| {
        for key in 0..50 {
            put(&engine, KEYSPACE, &[step as u32, key].map(u32::to_le_bytes).concat(), b"noise");
        }
    });
    assert!(engine.stats().get("segments").unwrap() > 4 * before, "too few splits");
    assert!(stable.is_subset(&seen), "{} missed", stable.difference(&seen).count());
}

#[test]
fn a_swap_never_mixes_two_keyspaces() {
    let engine = open(64 << 20);
    let (a, b) = (KeyspaceId(1), KeyspaceId(2));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                engine.swap_keyspaces(a, b, &MEMORY).wait().unwrap();
                std::thread::yield_now();
            }
        });
        for round in 0..10_000_u32 {
            let value = round.to_le_bytes();
            let mut batch = WriteBatch::new();
            batch.put(a, b"key", &value, None).put(b, b"key", &value, None);
            engine.write(&batch, &MEMORY).wait().unwrap();
            // Swaps exchange equal values; were both writes to land in one space, the other
            // would be left behind.
            for keyspace in [a, b, a, b] {
                assert_eq!(get(&engine, keyspace, b"key").as_deref(), Some(&value[..]));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
