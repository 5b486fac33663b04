//! Scans and sweeps over much that is not visible.

use ferrokit_engine::{
    Direction, Durability, Entry, KeyRange, KeyspaceId, KvEngine, KvEngineExt, KvRead, ReadOptions,
    ScanLimits, Snapshots, SweepCursor, WriteOptions,
};
use ferrokit_lsm::{LsmConfig, LsmEngine};
use ferrokit_storage::sim::SimMachine;

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);

fn config() -> LsmConfig {
    LsmConfig {
        memtable_bytes: 4096,
        block_bytes: 256,
        cache_bytes: 2048,
        level0_compact_files: 2,
        ..LsmConfig::new("data")
    }
}

/// A chunk of a scan that reports a rest has visited something, however many tombstones and newer
/// versions it had to pass, and however often it had to fetch a block.
#[test]
fn a_scan_passes_tombstones_and_newer_versions() {
    let host = SimMachine::new(11).host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    let key = |n: u32| n.to_be_bytes();
    host.wait(engine.put(KS, &key(0), b"first", None, &MEMORY)).unwrap();
    host.wait(engine.put(KS, &key(9999), b"last", None, &MEMORY)).unwrap();
    let snapshot = host.wait(engine.snapshot()).unwrap();
    for n in 1..6000 {
        host.wait(engine.put(KS, &key(n), b"newer", None, &MEMORY)).unwrap();
    }
    let ordered = snapshot.as_ordered().unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut rest = Some(KeyRange::ALL);
        let mut keys = Vec::new();
        while let Some(range) = rest {
            let before = keys.len();
            let mut visit = |key: &[u8], _: Entry<'_>| keys.push(key.to_vec());
            let scan = ordered.scan_with(
                KS,
                &range,
                direction,
                ScanLimits::entries(1),
                &ReadOptions::default(),
                &mut visit,
            );
            rest = host.wait(scan).unwrap().rest;
            assert!(rest.is_none() || keys.len() > before, "a chunk made no progress");
        }
        assert_eq!(keys.len(), 2);
    }
    drop(snapshot);
    for n in 1..6000 {
        host.wait(engine.delete(KS, &key(n), &MEMORY)).unwrap();
    }
    let all = host.wait(engine.scan(KS, &KeyRange::ALL, Direction::Forward)).unwrap();
    assert_eq!(all.len(), 2);
}

/// A sweep's step looks at a bounded number of versions, and a sweep of tombstones ends.
#[test]
fn a_sweep_passes_tombstones_in_bounded_steps() {
    let host = SimMachine::new(12).host();
    let mut config = config();
    config.memtable_bytes = 64 << 20; // the tombstones stay
    let engine = LsmEngine::open(&host, config).unwrap();
    for n in 0..20_000u32 {
        host.wait(engine.delete(KS, &n.to_be_bytes(), &MEMORY)).unwrap();
    }
    host.wait(engine.put(KS, b"zz", b"v", None, &MEMORY)).unwrap();
    let (mut cursor, mut steps, mut visited) = (SweepCursor::start(), 0, 0);
    loop {
        let mut visit = |_: &[u8], _: Entry<'_>| {};
        let swept =
            host.wait(engine.sweep(KS, &cursor, 10, &ReadOptions::default(), &mut visit)).unwrap();
        steps += 1;
        visited += swept.visited;
        match swept.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(visited, 1);
    assert!((4..=10).contains(&steps), "{steps} steps over 20,000 tombstones");
}

/// Also where the tombstones lie at the end, which a sweep looks for first.
#[test]
fn a_sweep_passes_tombstones_at_its_end_in_bounded_steps() {
    let host = SimMachine::new(13).host();
    let engine = LsmEngine::open(&host, LsmConfig::new("data")).unwrap();
    host.wait(engine.put(KS, &0u32.to_be_bytes(), b"v", None, &MEMORY)).unwrap();
    for n in 1..20_000u32 {
        host.wait(engine.delete(KS, &n.to_be_bytes(), &MEMORY)).unwrap();
    }
    let mut visit = |_: &[u8], _: Entry<'_>| {};
    let start = SweepCursor::start();
    let options = ReadOptions::default();
    let swept = host.wait(engine.sweep(KS, &start, 10, &options, &mut visit)).unwrap();
    let cursor = swept.next.expect("one step passed 20,000 tombstones");
    // The key the first step found for the end: the bounded work behind the last tombstone.
    let end = u32::from_be_bytes(cursor.as_bytes()[2..6].try_into().unwrap());
    assert!((10_000..19_999).contains(&end), "the end was looked for down to {end}");
    assert_eq!(swept.visited, 1);
}
