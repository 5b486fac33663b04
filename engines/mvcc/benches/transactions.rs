//! What versions and transactions cost over the in-memory engine, on one thread: 100,000 entries of
//! 16-byte keys and 100-byte values, keys drawn uniformly.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvRead, ReadOptions, TransactionOptions, WriteOptions,
};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_mvcc::{Mvcc, MvccOptions};
use ferrokit_storage::sim::SimMachine;

const ENTRIES: u64 = 100_000;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;
const READ: ReadOptions = ReadOptions::APPLIED;

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

fn get(read: &dyn KvRead, key: &[u8]) -> usize {
    let mut bytes = 0;
    let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
    assert!(read.get_with(KEYSPACE, key, &READ, &mut visit).wait().is_ok());
    bytes
}

fn put(engine: &dyn KvEngine, number: u64) {
    let put = engine.put(KEYSPACE, &key(number), &[7; 100], None, &MEMORY).wait();
    assert!(put.is_ok(), "{put:?}");
}

fn open() -> Arc<dyn KvEngine> {
    let host = SimMachine::new(1).host();
    let inner = MemoryEngine::open(&host, MemoryConfig::default());
    let inner: Arc<dyn KvEngine> = inner.unwrap_or_else(|error| panic!("{error}"));
    let options = MvccOptions { clock: Arc::clone(&host.env.clock), ..MvccOptions::default() };
    let engine: Arc<dyn KvEngine> =
        Mvcc::new(inner, options).unwrap_or_else(|error| panic!("{error}"));
    (0..ENTRIES).for_each(|number| put(&*engine, number));
    engine
}

fn transactions(c: &mut Criterion) {
    let engine = open();
    let mut state = 1;
    c.bench_function("get", |b| b.iter(|| get(&*engine, &key(draw(&mut state) % ENTRIES))));
    c.bench_function("put", |b| b.iter(|| put(&*engine, draw(&mut state) % ENTRIES)));
    let snapshots = engine.as_snapshots().unwrap_or_else(|| panic!("there are no snapshots"));
    let snapshot = snapshots.snapshot().wait().unwrap_or_else(|error| panic!("{error}"));
    c.bench_function("get, from a snapshot", |b| {
        b.iter(|| get(&*snapshot, &key(draw(&mut state) % ENTRIES)));
    });
    drop(snapshot);
    let transactions = engine.as_transactions().unwrap_or_else(|| panic!("no transactions"));
    c.bench_function("a transaction that reads and writes two keys", |b| {
        b.iter(|| {
            let begun = transactions.begin(&TransactionOptions::default()).wait();
            let mut transaction = begun.unwrap_or_else(|error| panic!("{error}"));
            for _ in 0..2 {
                let key = key(draw(&mut state) % ENTRIES);
                assert_eq!(get(&*transaction, &key), 100);
                assert!(transaction.put(KEYSPACE, &key, &[9; 100], None).is_ok());
            }
            assert!(transaction.commit(&MEMORY).wait().is_ok());
        });
    });
}

criterion_group!(benches, transactions);
criterion_main!(benches);
