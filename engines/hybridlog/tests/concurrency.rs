//! Several threads on one engine: values whose bytes tell a torn read, batches seen half, lost
//! updates, sweeps during growth.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{KS, WRITE, get, get_many, open, put, stat, sweep, tiny};
use ferrokit_engine::{
    Entry, ErrorKind, KeyspaceId, KvEngine, KvRead, ReadOptions, Update, WriteBatch,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const THREADS: u64 = 4;

/// Runs `writers` until all are done, beside `readers` that go on until then.
fn race(writers: Vec<Box<dyn FnOnce() + Send + '_>>, readers: Vec<Box<dyn Fn() + Send + '_>>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        for reader in readers {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    reader();
                }
            });
        }
        let writers: Vec<_> = writers.into_iter().map(|writer| scope.spawn(writer)).collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        for end in ended {
            end.unwrap();
        }
    });
}

/// A value all of whose 8-byte words are one number that also gives its length.
fn uniform(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + (number % 41) as usize)
}

fn assert_uniform(value: &[u8]) {
    let number = u64::from_le_bytes(value[..8].try_into().unwrap());
    assert_eq!(value, uniform(number), "torn: words or length of different writes");
}

#[test]
fn no_read_is_torn() {
    let (_machine, engine) = open(tiny(64));
    let engine = &*engine;
    for key in 0..8_u64 {
        put(engine, &key.to_le_bytes(), &uniform(key));
    }
    let writer = |thread: u64| {
        Box::new(move || {
            let mut rng = SmallRng::seed_from_u64(thread);
            for _ in 0..30_000 {
                let key = rng.random_range(0..8_u64).to_le_bytes();
                put(engine, &key, &uniform(rng.random()));
            }
        }) as Box<dyn FnOnce() + Send>
    };
    let reader = || {
        Box::new(move || {
            let keys: Vec<_> = (0..8_u64).map(u64::to_le_bytes).collect();
            for key in &keys {
                assert_uniform(&get(engine, KS, key).unwrap());
            }
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
            for value in get_many(engine, &keys) {
                assert_uniform(&value.unwrap());
            }
            let swept = sweep(engine, KS, 3);
            assert_eq!(swept.len(), 8, "a key that is always there is swept");
            swept.values().for_each(|value| assert_uniform(value));
        }) as Box<dyn Fn() + Send>
    };
    race((0..2).map(writer).collect(), (0..2).map(|_| reader()).collect());
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, 8);
}

#[test]
fn no_update_is_lost_and_every_key_is_counted_once() {
    let (_machine, engine) = open(tiny(256));
    let engine = &*engine;
    let worker = |thread: u64| {
        Box::new(move || {
            let mut rng = SmallRng::seed_from_u64(thread);
            for _ in 0..20_000 {
                // Few keys are hot; all threads meet while the index grows.
                let key = rng.random_range(0..4_u64).max(rng.random_range(0..200));
                let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
                    let old = present.map_or(0, |entry| {
                        assert_eq!(entry.value.len() % 8, 0);
                        u64::from_le_bytes(entry.value[..8].try_into().unwrap())
                    });
                    // The length changes, so that records move.
                    out.extend((old + 1).to_le_bytes().repeat(1 + (old % 5) as usize));
                    Update::Put { expire_at: None }
                };
                engine.update(KS, &key.to_le_bytes(), &WRITE, &mut change).wait().unwrap();
            }
        }) as Box<dyn FnOnce() + Send>
    };
    race((0..THREADS).map(worker).collect(), Vec::new());
    let entries = sweep(engine, KS, 16);
    let total: u64 =
        entries.values().map(|value| u64::from_le_bytes(value[..8].try_into().unwrap())).sum();
    assert_eq!(total, THREADS * 20_000);
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, entries.len() as u64);
}

/// Batches write one number to all keys; whoever has seen a number sees none older afterwards.
fn batches_are_seen_whole(engine: &HybridLogEngine, rounds: u64, pad: usize) {
    const KEYS: u64 = 6;
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|key| format!("key {key}").into_bytes()).collect();
    let keys = &keys;
    let next = &AtomicU64::new(0);
    let order = &std::sync::Mutex::new(());
    let write = move || {
        // Numbers ascend in the order in which batches are applied.
        let _order = order.lock().unwrap();
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut batch = WriteBatch::new();
        for key in keys {
            let mut value = number.to_le_bytes().to_vec();
            value.resize(8 + (number as usize * 7) % (pad + 1), 0);
            batch.put(KS, key, &value, None);
        }
        engine.write(&batch, &WRITE).wait().unwrap();
    };
    write();
    let number_of = |value: Vec<u8>| u64::from_le_bytes(value[..8].try_into().unwrap());
    let one_by_one = move || {
        let mut newest = 0;
        for key in keys.iter().chain(keys.iter().rev()) {
            let number = number_of(get(engine, KS, key).unwrap());
            assert!(number >= newest, "saw {newest} at one key, then {number} at another");
            newest = number;
        }
    };
    let together = move || {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let numbers: HashSet<u64> =
            get_many(engine, &keys).into_iter().map(|value| number_of(value.unwrap())).collect();
        assert_eq!(numbers.len(), 1, "a batched read saw a part of a batch: {numbers:?}");
    };
    let writer = || Box::new(move || (0..rounds).for_each(|_| write())) as Box<dyn FnOnce() + Send>;
    race(vec![writer(), writer()], vec![Box::new(one_by_one), Box::new(together)]);
}

#[test]
fn a_batch_is_seen_whole() {
    let (_machine, engine) = open(tiny(64));
    batches_are_seen_whole(&engine, 15_000, 0);
}

#[test]
fn a_batch_is_seen_whole_while_pages_are_compacted_and_the_index_grows() {
    let (_machine, engine) = open(tiny(64));
    let rng = std::sync::Mutex::new(SmallRng::seed_from_u64(3));
    let noise = || {
        let mut rng = rng.lock().unwrap();
        let key = rng.random_range(0..600_u64);
        let value = vec![1; rng.random_range(0..150)];
        put(&engine, &key.to_le_bytes(), &value);
    };
    race(vec![Box::new(|| batches_are_seen_whole(&engine, 10_000, 300))], vec![Box::new(noise)]);
    assert!(stat(&engine, "pages_compacted") > 0);
    assert!(stat(&engine, "index_buckets") > 1);
}

#[test]
fn single_writes_and_batches_on_the_same_keys_leave_one_record_each() {
    let (_machine, engine) = open(tiny(64));
    let engine = &*engine;
    let worker = |thread: u64| {
        Box::new(move || {
            let mut rng = SmallRng::seed_from_u64(thread);
            for _ in 0..8_000 {
                let key = rng.random_range(0..12_u64);
                match rng.random_range(0..4) {
                    0 => put(engine, &key.to_le_bytes(), &uniform(rng.random())),
                    1 => {
                        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
                    }
                    _ => {
                        let mut batch = WriteBatch::new();
                        for key in key..key + 4 {
                            let key = key % 12;
                            match rng.random_bool(0.3) {
                                true => batch.delete(KS, &key.to_le_bytes()),
                                false => {
                                    batch.put(KS, &key.to_le_bytes(), &uniform(rng.random()), None)
                                }
                            };
                        }
                        engine.write(&batch, &WRITE).wait().unwrap();
                    }
                }
            }
        }) as Box<dyn FnOnce() + Send>
    };
    race((0..THREADS).map(worker).collect(), Vec::new());
    let entries = sweep(engine, KS, 3);
    entries.values().for_each(|value| assert_uniform(value));
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, entries.len() as u64);
    // A second record of a key would show once the first is removed.
    for key in 0..12_u64 {
        engine.delete(KS, &key.to_le_bytes(), &WRITE).wait().unwrap();
        assert_eq!(get(engine, KS, &key.to_le_bytes()), None);
    }
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, 0);
}

#[test]
fn a_sweep_meets_every_lasting_key_while_the_index_grows_and_records_move() {
    let (_machine, engine) = open(tiny(256));
    let engine = &*engine;
    for key in 0..300_u64 {
        put(engine, &key.to_le_bytes(), b"stays");
    }
    let writer = Box::new(move || {
        let mut rng = SmallRng::seed_from_u64(1);
        for key in 300..3000_u64 {
            put(engine, &key.to_le_bytes(), b"comes");
            let stays = rng.random_range(0..300_u64).to_le_bytes();
            put(engine, &stays, &vec![b's'; rng.random_range(5..60)]);
        }
    });
    let reader = Box::new(move || {
        let swept = sweep(engine, KS, 5);
        assert!((0..300_u64).all(|key| swept.contains_key(key.to_le_bytes().as_slice())));
    });
    race(vec![writer], vec![reader]);
    assert!(stat(engine, "index_buckets") >= 256);
}

#[test]
fn a_swap_is_seen_whole() {
    let (_machine, engine) = open(tiny(64));
    let engine = &*engine;
    let (a, b) = (KeyspaceId(0), KeyspaceId(1));
    engine.put(a, b"k", b"left", None, &WRITE).wait().unwrap();
    engine.put(b, b"k", b"right", None, &WRITE).wait().unwrap();
    let swaps = AtomicU64::new(0);
    let (swaps, mutex) = (&swaps, &std::sync::Mutex::new(()));
    let swapper = Box::new(move || {
        for _ in 0..3_000 {
            let _one_look = mutex.lock().unwrap();
            engine.swap_keyspaces(a, b, &WRITE).wait().unwrap();
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    });
    let looker = Box::new(move || {
        let _no_swap = mutex.lock().unwrap();
        let expected: [&[u8]; 2] = match swaps.load(Ordering::Relaxed) % 2 {
            0 => [b"left", b"right"],
            _ => [b"right", b"left"],
        };
        assert_eq!(get(engine, a, b"k").unwrap(), expected[0]);
        assert_eq!(get(engine, b, b"k").unwrap(), expected[1]);
    });
    // Increments that run into swaps are applied to one side or the other, and never lost.
    let adder = Box::new(move || {
        for _ in 0..20_000 {
            let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
                let old = present.map_or(0, |it| u64::from_le_bytes(it.value.try_into().unwrap()));
                out.extend((old + 1).to_le_bytes());
                Update::Put { expire_at: None }
            };
            engine.update(a, b"n", &WRITE, &mut change).wait().unwrap();
        }
    });
    race(vec![swapper, adder], vec![looker]);
    let count = |keyspace| {
        get(engine, keyspace, b"n").map_or(0, |it| u64::from_le_bytes(it.try_into().unwrap()))
    };
    assert_eq!(count(a) + count(b), 20_000);
}

#[test]
fn writers_of_more_than_fits_are_refused_and_never_hang() {
    let (_machine, engine) = open(tiny(12));
    let engine = &*engine;
    let worker = |thread: u64| {
        Box::new(move || {
            let mut rng = SmallRng::seed_from_u64(thread);
            for _ in 0..4_000 {
                let key = rng.random_range(0..400_u64).to_le_bytes();
                let value = uniform(rng.random());
                match rng.random_range(0..3) {
                    0 => drop(engine.delete(KS, &key, &WRITE).wait().unwrap()),
                    _ => match engine.put(KS, &key, &value, None, &WRITE).wait() {
                        Ok(_) => {}
                        Err(error) => assert!(
                            matches!(error.kind(), ErrorKind::OutOfSpace | ErrorKind::Busy),
                            "{error}"
                        ),
                    },
                }
            }
        }) as Box<dyn FnOnce() + Send>
    };
    race((0..THREADS).map(worker).collect(), Vec::new());
    let entries = sweep(engine, KS, 50);
    entries.values().for_each(|value| assert_uniform(value));
    assert_eq!(engine.keyspace_len(KS).wait().unwrap().entries, entries.len() as u64);
}

#[test]
fn a_visitor_that_panics_leaves_nothing_locked() {
    let (_machine, engine) = open(HybridLogConfig { keyspaces: 1, ..tiny(64) });
    put(&engine, b"k", b"v");
    let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut change = |_: Option<Entry<'_>>, _: &mut Vec<u8>| -> Update { panic!("on purpose") };
        let _ = engine.update(KS, b"k", &WRITE, &mut change).wait();
    }));
    assert!(panicking.is_err());
    let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut visit = |_: Entry<'_>| panic!("on purpose");
        let _ = engine.get_with(KS, b"k", &ReadOptions::default(), &mut visit).wait();
    }));
    assert!(panicking.is_err());
    put(&engine, b"k", b"w");
    assert_eq!(get(&engine, KS, b"k"), Some(b"w".to_vec()));
    engine.clear_keyspace(KS, &WRITE).wait().unwrap();
}
