//! What each way of a read or a write costs on one thread: 100,000 entries of 16-byte keys and
//! 100-byte values, keys drawn uniformly; files are simulated, so that no device is measured.

use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ferrokit_engine::{
    Direction, Durability, Entry, KeyRange, KeyspaceId, KvEngine, KvRead, ReadOptions, ScanLimits,
    Update, WriteBatch, WriteOptions,
};
use ferrokit_lsm::{LsmConfig, LsmEngine};
use ferrokit_storage::Host;
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

/// An engine, with its entries in the memtable or flushed and compacted into tables.
struct Filled {
    host: Host,
    engine: Arc<LsmEngine>,
}

impl Filled {
    fn new(in_tables: bool, cache_bytes: u64) -> Self {
        let host = SimMachine::new(1).host();
        let memtable_bytes = if in_tables { 1 << 20 } else { 1 << 30 };
        let config = LsmConfig { memtable_bytes, cache_bytes, ..LsmConfig::new("data") };
        let engine = LsmEngine::open(&host, config).unwrap_or_else(|error| panic!("{error}"));
        for number in 0..ENTRIES {
            let key = key(number);
            let put = engine.put(KEYSPACE, &key, &[7; 100], None, &MEMORY);
            assert!(host.wait(put).is_ok());
        }
        host.settle();
        let filled = Self { host, engine };
        (0..ENTRIES).for_each(|number| assert!(filled.get(&key(number)) == 100));
        filled
    }

    fn get(&self, key: &[u8]) -> usize {
        let mut bytes = 0;
        let mut visit = |entry: Entry<'_>| bytes += entry.value.len();
        let seen = self.host.wait(self.engine.get_with(KEYSPACE, key, &READ, &mut visit));
        assert!(seen.is_ok());
        bytes
    }

    fn scan(&self, from: u64, entries: usize) -> usize {
        let range = KeyRange { start: Bound::Included(key(from).to_vec()), end: Bound::Unbounded };
        let mut bytes = 0;
        let mut visit = |_: &[u8], entry: Entry<'_>| bytes += entry.value.len();
        let limits = ScanLimits::entries(entries);
        let scan = self.engine.as_ordered().map(|ordered| {
            ordered.scan_with(KEYSPACE, &range, Direction::Forward, limits, &READ, &mut visit)
        });
        assert!(scan.is_some_and(|scan| self.host.wait(scan).is_ok()));
        bytes
    }
}

fn reads(c: &mut Criterion) {
    let places = [
        ("memtable", Filled::new(false, 256 << 20)),
        ("tables, cached", Filled::new(true, 256 << 20)),
        ("tables, hardly cached", Filled::new(true, 64 << 10)),
    ];
    let mut state = 1;
    for (place, filled) in &places {
        c.bench_function(&format!("get, {place}"), |b| {
            b.iter(|| filled.get(&key(draw(&mut state) % ENTRIES)));
        });
        c.bench_function(&format!("get, absent, {place}"), |b| {
            b.iter(|| assert_eq!(filled.get(&key(ENTRIES + draw(&mut state) % ENTRIES)), 0));
        });
        c.bench_function(&format!("scan of 100, {place}"), |b| {
            b.iter(|| filled.scan(draw(&mut state) % ENTRIES, 100));
        });
    }
}

fn writes(c: &mut Criterion) {
    let filled = Filled::new(true, 256 << 20);
    let (host, engine) = (&filled.host, &filled.engine);
    let mut state = 1;
    c.bench_function("put", |b| {
        b.iter(|| {
            let key = key(draw(&mut state) % ENTRIES);
            let put = engine.put(KEYSPACE, &key, black_box(&[8; 100]), None, &MEMORY);
            assert!(host.wait(put).is_ok());
        });
    });
    c.bench_function("update", |b| {
        b.iter(|| {
            let key = key(draw(&mut state) % ENTRIES);
            let mut change = |entry: Option<Entry<'_>>, out: &mut Vec<u8>| {
                out.extend_from_slice(entry.map_or(&[], |entry| entry.value));
                Update::Put { expire_at: None }
            };
            assert!(host.wait(engine.update(KEYSPACE, &key, &MEMORY, &mut change)).is_ok());
        });
    });
    c.bench_function("batch of 100", |b| {
        let mut batch = WriteBatch::new();
        b.iter(|| {
            batch.clear();
            for _ in 0..100 {
                batch.put(KEYSPACE, &key(draw(&mut state) % ENTRIES), &[9; 100], None);
            }
            assert!(host.wait(engine.write(&batch, &MEMORY)).is_ok());
        });
    });
}

criterion_group!(benches, reads, writes);
criterion_main!(benches);
