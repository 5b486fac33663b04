//! Point operations on 1M keys (16 B keys, 100 B values), one thread: get, batched get of 32,
//! overwrite, read-modify-write; beside the same on a bare `HashMap` behind a lock, the least one
//! could do instead.
//!
//! ```text
//! cargo bench -p ferrokit-hybridlog
//! ```

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvRead, ReadOptions, Update, WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::SimMachine;

const KEYS: u64 = 1_000_000;
const BATCH: usize = 32;
const KS: KeyspaceId = KeyspaceId::DEFAULT;
const WRITE: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const VALUE: [u8; 100] = [7; 100];

type Key = [u8; 16];

fn key(number: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Numbers of keys in no order that a prefetcher could guess.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % KEYS
    }
}

fn filled_engine() -> Arc<HybridLogEngine> {
    let config = HybridLogConfig { memory_bytes: 512 << 20, ..HybridLogConfig::default() };
    let engine = HybridLogEngine::open(&SimMachine::new(1).host(), config).expect("opens");
    for number in 0..KEYS {
        engine.put(KS, &key(number), &VALUE, None, &WRITE).wait().expect("fits");
    }
    engine
}

fn engine(criterion: &mut Criterion) {
    let engine = filled_engine();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut group = criterion.benchmark_group("hybridlog");
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            let mut sum = 0;
            let mut visit = |entry: Entry<'_>| sum += entry.value.len();
            let key = key(numbers.next());
            let seen = engine.get_with(KS, &key, &ReadOptions::default(), &mut visit).wait();
            assert_eq!(seen.expect("reads").found, 1);
            black_box(sum)
        });
    });
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| {
            engine.put(KS, &key(numbers.next()), &VALUE, None, &WRITE).wait().expect("writes")
        });
    });
    group.bench_function("update", |bencher| {
        bencher.iter(|| {
            let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
                out.extend_from_slice(present.map_or(&VALUE, |entry| entry.value));
                if let Some(first) = out.first_mut() {
                    *first = first.wrapping_add(1);
                }
                Update::Put { expire_at: None }
            };
            let key = key(numbers.next());
            engine.update(KS, &key, &WRITE, &mut change).wait().expect("updates")
        });
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("get_many_32", |bencher| {
        bencher.iter(|| {
            let keys: [Key; BATCH] = std::array::from_fn(|_| key(numbers.next()));
            let keys: [&[u8]; BATCH] = std::array::from_fn(|index| keys[index].as_slice());
            let mut sum = 0;
            let mut visit = |_: usize, entry: Entry<'_>| sum += entry.value.len();
            let seen = engine.get_many_with(KS, &keys, &ReadOptions::default(), &mut visit).wait();
            assert_eq!(seen.expect("reads").found, BATCH);
            black_box(sum)
        });
    });
    group.finish();
}

fn baseline(criterion: &mut Criterion) {
    let map: HashMap<Key, Vec<u8>> =
        (0..KEYS).map(|number| (key(number), VALUE.to_vec())).collect();
    let map = RwLock::new(map);
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut group = criterion.benchmark_group("locked_hash_map");
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            let map = map.read().expect("no panic");
            black_box(map.get(&key(numbers.next())).cloned())
        });
    });
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| {
            let mut map = map.write().expect("no panic");
            let value = map.get_mut(&key(numbers.next())).expect("is there");
            value.clear();
            value.extend_from_slice(&VALUE);
        });
    });
    group.finish();
}

criterion_group!(benches, engine, baseline);
criterion_main!(benches);
