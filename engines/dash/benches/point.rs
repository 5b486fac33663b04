//! Point operations of the engine on one thread: 200,000 entries of 16-byte keys and 100-byte
//! values in emulated persistent memory, keys drawn uniformly.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ferrokit_dash::{DashConfig, DashEngine};
use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvRead, ReadOptions, Update, WriteOptions,
};
use ferrokit_storage::sim::SimMachine;

const ENTRIES: u64 = 200_000;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

/// SplitMix64: numbers to draw keys by.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn put(engine: &DashEngine, number: u64, value: &[u8]) {
    let put = engine.put(KEYSPACE, &key(number), value, None, &MEMORY).wait();
    assert!(put.is_ok(), "{put:?}");
}

fn open(entries: u64) -> Arc<DashEngine> {
    let engine = DashEngine::open(&SimMachine::new(1).host(), DashConfig::default());
    let engine = engine.unwrap_or_else(|error| panic!("{error}"));
    (0..entries).for_each(|number| put(&engine, number, &[7; 100]));
    engine
}

fn point(c: &mut Criterion) {
    let engine = open(ENTRIES);
    let mut state = 1;
    c.bench_function("get", |b| {
        b.iter(|| {
            let key = key(draw(&mut state) % ENTRIES);
            let mut bytes = 0;
            let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
            let seen = engine.get_with(KEYSPACE, &key, &ReadOptions::default(), &mut visit).wait();
            assert!(seen.is_ok_and(|seen| seen.found == 1));
            bytes
        });
    });
    c.bench_function("get, absent", |b| {
        b.iter(|| {
            let key = key(ENTRIES + draw(&mut state) % ENTRIES);
            let mut visit = |_: Entry<'_>| {};
            let seen = engine.get_with(KEYSPACE, &key, &ReadOptions::default(), &mut visit).wait();
            assert!(seen.is_ok_and(|seen| seen.found == 0));
        });
    });
    c.bench_function("get, 32 at once", |b| {
        b.iter(|| {
            let keys: [_; 32] = std::array::from_fn(|_| key(draw(&mut state) % ENTRIES));
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let mut bytes = 0;
            let mut visit = |_: usize, entry: Entry<'_>| bytes += entry.value.len();
            let options = ReadOptions::default();
            let seen = engine.get_many_with(KEYSPACE, &keys, &options, &mut visit).wait();
            assert!(seen.is_ok_and(|seen| seen.found == 32));
            bytes
        });
    });
    c.bench_function("put, replacing", |b| {
        b.iter(|| put(&engine, draw(&mut state) % ENTRIES, black_box(&[8; 100])));
    });
    let counters = open(0);
    (0..ENTRIES).for_each(|number| put(&counters, number, &[0; 8]));
    c.bench_function("update, in place", |b| {
        b.iter(|| {
            let key = key(draw(&mut state) % ENTRIES);
            let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
                let value = current.and_then(|entry| entry.value.try_into().ok());
                let count = value.map_or(0, u64::from_le_bytes).wrapping_add(1);
                out.extend_from_slice(&count.to_le_bytes());
                Update::Put { expire_at: None }
            };
            let updated = counters.update(KEYSPACE, &key, &MEMORY, &mut change).wait();
            assert!(updated.is_ok());
        });
    });
    c.bench_function("insert, 10000 into an empty engine", |b| {
        b.iter_batched_ref(
            || open(0),
            |engine| (0..10_000).for_each(|number| put(engine, number, &[7; 100])),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, point);
criterion_main!(benches);
