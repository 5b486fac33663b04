//! What the inner mechanisms of the model cost on one thread: the ordered map and its lock, expiries,
//! the map that a snapshot shares and the next write copies, the validation of a transaction. Keys of
//! 16 bytes, drawn uniformly, and values of 100.

use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ferrokit_engine::{
    Direction, Durability, Entry, KeyRange, KeyspaceId, KvEngine, KvRead, Ordered, ReadOptions,
    ScanLimits, TransactionOptions, UnixMillis, Update, WriteBatch, WriteOptions,
};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_storage::Host;
use ferrokit_storage::sim::SimMachine;

const ENTRIES: u64 = 100_000;
/// Of the map that is copied: all of it is, at each turn.
const COPIED_ENTRIES: u64 = 1000;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;
const READ: ReadOptions = ReadOptions::APPLIED;
const HOUR_MS: u64 = 3_600_000;

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

struct Filled {
    host: Host,
    engine: Arc<MemoryEngine>,
}

impl Filled {
    fn new(entries: u64) -> Self {
        let host = SimMachine::new(1).host();
        let engine = MemoryEngine::open(&host, MemoryConfig::default());
        let filled = Self { host, engine: engine.unwrap_or_else(|error| panic!("{error}")) };
        (0..entries).for_each(|number| filled.put(number, None));
        filled
    }

    fn put(&self, number: u64, expire_at: Option<UnixMillis>) {
        let key = key(number);
        let put = self.engine.put(KEYSPACE, &key, black_box(&[7; 100]), expire_at, &MEMORY);
        assert!(put.wait().is_ok());
    }
}

fn get(read: &dyn KvRead, number: u64) -> usize {
    let mut bytes = 0;
    let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
    assert!(read.get_with(KEYSPACE, &key(number), &READ, &mut visit).wait().is_ok());
    bytes
}

fn scan(ordered: &dyn Ordered, from: u64, direction: Direction) -> usize {
    let start = Bound::Included(key(from).to_vec());
    let range = match direction {
        Direction::Forward => KeyRange { start, end: Bound::Unbounded },
        Direction::Backward => KeyRange { start: Bound::Unbounded, end: start },
    };
    let mut bytes = 0;
    let mut visit = |_: &[u8], entry: Entry<'_>| bytes += entry.value.len();
    let limits = ScanLimits::entries(100);
    assert!(
        ordered.scan_with(KEYSPACE, &range, direction, limits, &READ, &mut visit).wait().is_ok()
    );
    bytes
}

fn reads(c: &mut Criterion) {
    let filled = Filled::new(ENTRIES);
    let engine = &*filled.engine;
    let mut state = 1;
    c.bench_function("get", |b| {
        b.iter(|| assert_eq!(get(engine, draw(&mut state) % ENTRIES), 100));
    });
    c.bench_function("get, absent", |b| {
        b.iter(|| assert_eq!(get(engine, ENTRIES + draw(&mut state) % ENTRIES), 0));
    });
    for (name, direction) in
        [("scan of 100", Direction::Forward), ("scan of 100, backwards", Direction::Backward)]
    {
        c.bench_function(name, |b| b.iter(|| scan(engine, draw(&mut state) % ENTRIES, direction)));
    }
    let snapshots = engine.as_snapshots().unwrap_or_else(|| panic!("there are no snapshots"));
    let snapshot = snapshots.snapshot().wait().unwrap_or_else(|error| panic!("{error}"));
    c.bench_function("get, from a snapshot", |b| {
        b.iter(|| assert_eq!(get(&*snapshot, draw(&mut state) % ENTRIES), 100));
    });
}

fn writes(c: &mut Criterion) {
    let filled = Filled::new(ENTRIES);
    let engine = &*filled.engine;
    let mut state = 1;
    c.bench_function("put", |b| b.iter(|| filled.put(draw(&mut state) % ENTRIES, None)));
    let later = Some(UnixMillis(filled.host.env.clock.now().0 + HOUR_MS));
    c.bench_function("put, with an expiry", |b| {
        b.iter(|| filled.put(draw(&mut state) % ENTRIES, later));
    });
    c.bench_function("update", |b| {
        b.iter(|| {
            let key = key(draw(&mut state) % ENTRIES);
            let mut change = |entry: Option<Entry<'_>>, out: &mut Vec<u8>| {
                out.extend_from_slice(entry.map_or(&[], |entry| entry.value));
                Update::Put { expire_at: None }
            };
            assert!(engine.update(KEYSPACE, &key, &MEMORY, &mut change).wait().is_ok());
        });
    });
    c.bench_function("batch of 100", |b| {
        let mut batch = WriteBatch::new();
        b.iter(|| {
            batch.clear();
            for _ in 0..100 {
                batch.put(KEYSPACE, &key(draw(&mut state) % ENTRIES), &[9; 100], None);
            }
            assert!(engine.write(&batch, &MEMORY).wait().is_ok());
        });
    });
}

/// What is kept beside the map costs writers.
fn watched_writes(c: &mut Criterion) {
    let mut state = 1;
    let small = Filled::new(COPIED_ENTRIES);
    let snapshots = small.engine.as_snapshots().unwrap_or_else(|| panic!("there are no snapshots"));
    c.bench_function("first put after a snapshot, of 1000 entries", |b| {
        b.iter_batched(
            || snapshots.snapshot().wait().unwrap_or_else(|error| panic!("{error}")),
            |snapshot| {
                small.put(draw(&mut state) % COPIED_ENTRIES, None);
                snapshot
            },
            BatchSize::PerIteration,
        );
    });
}

fn transactions(c: &mut Criterion) {
    let filled = Filled::new(ENTRIES);
    let mut state = 1;
    let transactions = filled.engine.as_transactions();
    let transactions = transactions.unwrap_or_else(|| panic!("there are no transactions"));
    c.bench_function("a transaction that reads and writes two keys", |b| {
        b.iter(|| {
            let begun = transactions.begin(&TransactionOptions::default()).wait();
            let mut transaction = begun.unwrap_or_else(|error| panic!("{error}"));
            for _ in 0..2 {
                let number = draw(&mut state) % ENTRIES;
                assert_eq!(get(&*transaction, number), 100);
                assert!(transaction.put(KEYSPACE, &key(number), &[9; 100], None).is_ok());
            }
            assert!(transaction.commit(&MEMORY).wait().is_ok());
        });
    });
}

criterion_group!(benches, reads, writes, watched_writes, transactions);
criterion_main!(benches);
