//! Values that are longer than a record: many at once on a few keys, in memory that has room for a few.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ferrokit_engine::{
    Clock, Entry, KeyspaceId, KvEngine, KvEngineExt, KvRead, ReadOptions, SweepCursor, UnixMillis,
    Update, WriteBatch, WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::OpenMode;
use ferrokit_storage::sim::{CrashMode, SimMachine};
use support::{KS, MEMORY, OS, PAGE, config, stat};

const OTHER: KeyspaceId = KeyspaceId(1);

/// A value that shows whether it is all of one write.
fn value(version: u64, longest: usize) -> Vec<u8> {
    let len = 24 + (version * 7919) as usize % (longest - 24);
    version.to_le_bytes().iter().copied().cycle().take(len).collect()
}

const SHORT: &[u8] = b"a short one";

/// Makes sure that all of a value is of one write.
fn check(found: &[u8], longest: usize) {
    if found != SHORT {
        let version = u64::from_le_bytes(*found.first_chunk().unwrap());
        assert!(found == value(version, longest), "torn: version {version}, {}", found.len());
    }
}

fn opened(directory: &str, pages: u64) -> (SimMachine, Arc<HybridLogEngine>) {
    let machine = SimMachine::new(3);
    let memory_bytes = pages * PAGE;
    let config = HybridLogConfig { directory: directory.to_owned(), memory_bytes, ..config() };
    let engine = HybridLogEngine::open(&machine.threaded_host(), config).unwrap();
    (machine, engine)
}

/// Two writers and two readers of three keys, while keyspaces are swapped and pages compacted.
fn overwrite(directory: &str, pages: u64, options: &WriteOptions) {
    const ROUNDS: u64 = 400;
    let (_machine, engine) = opened(directory, pages);
    let longest = (engine.capabilities().max_value_bytes / 4).max(3000);
    let (next, is_over) = (AtomicU64::new(1), AtomicBool::new(false));
    let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
    let whole = |entry: Entry<'_>| check(entry.value, longest);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|thread| {
                let (engine, next) = (&engine, &next);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let key = keys[(round % 3) as usize];
                        let new = next.fetch_add(1, Ordering::Relaxed);
                        let new = value(new, longest);
                        let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
                            present.map(whole);
                            out.extend_from_slice(&new);
                            Update::Put { expire_at: None }
                        };
                        match (round + thread) % 5 {
                            0 => {
                                engine.update(KS, key, options, &mut change).wait().unwrap();
                            }
                            1 => {
                                let mut batch = WriteBatch::new();
                                batch.put(KS, b"a", &new, None).put(OTHER, b"b", &new, None);
                                engine.write(&batch, options).wait().unwrap();
                            }
                            2 if thread == 0 => {
                                engine.swap_keyspaces(KS, OTHER, options).wait().unwrap();
                            }
                            3 => {
                                engine.put(KS, key, SHORT, None, options).wait().unwrap();
                            }
                            _ => {
                                engine.put(KS, key, &new, None, options).wait().unwrap();
                            }
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let read = ReadOptions::default();
                while !is_over.load(Ordering::Relaxed) {
                    let mut one = whole;
                    engine.get_with(KS, b"a", &read, &mut one).wait().unwrap();
                    let mut many = |_: usize, entry: Entry<'_>| whole(entry);
                    engine.get_many_with(KS, &keys, &read, &mut many).wait().unwrap();
                    let mut swept = |_: &[u8], entry: Entry<'_>| whole(entry);
                    let start = SweepCursor::start();
                    engine.sweep(KS, &start, 100, &read, &mut swept).wait().unwrap();
                }
            });
        }
        let ends: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    assert!(stat(&engine, "pages_compacted") > 0, "dead pieces are collected");
    engine.close().wait().unwrap();
}

#[test]
fn nobody_sees_half_of_one_in_memory() {
    overwrite("", 64, &MEMORY);
}

#[test]
fn nobody_sees_half_of_one_on_disk() {
    overwrite("data", 16, &OS);
}

#[test]
fn cold_ones_are_read_updated_swept_and_found_after_a_crash() {
    const KEYS: u64 = 40;
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let longest = engine.capabilities().max_value_bytes;
    assert!(longest as u64 > config().memory_bytes / 2);
    let key = |n: u64| n.to_be_bytes();
    for n in 0..KEYS {
        host.wait(engine.put(KS, &key(n), &value(n, longest), None, &OS)).unwrap();
    }
    assert!(stat(&engine, "pages_on_disk_only") * PAGE > 4 * config().memory_bytes);
    for n in 0..KEYS {
        assert!(host.wait(engine.get(KS, &key(n))).unwrap().unwrap() == value(n, longest));
        let mut change = |present: Option<Entry<'_>>, out: &mut Vec<u8>| {
            assert!(present.unwrap().value == value(n, longest));
            out.extend_from_slice(&value(n + KEYS, longest));
            Update::Put { expire_at: None }
        };
        if n % 2 == 0 {
            host.wait(engine.update(KS, &key(n), &OS, &mut change)).unwrap();
        }
    }
    let expected = |n: u64| value(if n.is_multiple_of(2) { n + KEYS } else { n }, longest);
    let check = |host: &ferrokit_storage::Host, engine: &HybridLogEngine| {
        let (mut found, mut cursor) = (0, SweepCursor::start());
        loop {
            let mut visit = |key: &[u8], entry: Entry<'_>| {
                let n = u64::from_be_bytes(key.try_into().unwrap());
                assert!(entry.value == expected(n), "key {n}");
                found += 1;
            };
            let read = ReadOptions::default();
            let swept = host.wait(engine.sweep(KS, &cursor, 3, &read, &mut visit)).unwrap();
            match swept.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert_eq!(found, KEYS, "pieces are nobody's keys");
    };
    check(&host, &engine);
    drop(engine);
    let machine = machine.crash(CrashMode::ProcessKill);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    check(&host, &engine);
    host.wait(engine.close()).unwrap();
    drop(engine);
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    check(&host, &engine);
}

#[test]
fn disk_space_of_those_that_are_gone_comes_back() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let longest = engine.capabilities().max_value_bytes;
    let live_bytes = 4 * longest as u64;
    for round in 0..60_u64 {
        let key = (round % 4).to_be_bytes();
        host.wait(engine.put(KS, &key, &vec![round as u8; longest], None, &OS)).unwrap();
    }
    host.settle();
    let used = stat(&engine, "disk_bytes");
    assert!(used < 3 * live_bytes, "{used} bytes on disk for {live_bytes}");
    for n in 0..4_u64 {
        host.wait(engine.delete(KS, &n.to_be_bytes(), &OS)).unwrap();
    }
    // What is in memory has to be written before it can go.
    for n in 0..2000_u64 {
        host.wait(engine.put(KS, &(n % 10).to_be_bytes(), &[1; 1000], None, &OS)).unwrap();
    }
    host.settle();
    let used = stat(&engine, "disk_bytes");
    assert!(used < live_bytes, "{used} bytes on disk for nothing of {live_bytes}");
}

#[test]
fn one_that_is_given_up_half_way_is_no_harm() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let small = HybridLogConfig { memory_bytes: 16 * PAGE, ..config() };
    let engine = HybridLogEngine::open(&host, small).unwrap();
    let longest = engine.capabilities().max_value_bytes;
    host.wait(engine.put(KS, b"k", &value(1, longest), None, &OS)).unwrap();
    let long = vec![7; longest];
    for _ in 0..100 {
        let mut put = engine.put(KS, b"k", &long, None, &OS);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut put).poll(&mut context).is_pending(), "it has no room yet");
        drop(put);
        host.settle();
    }
    assert!(host.wait(engine.get(KS, b"k")).unwrap().unwrap() == value(1, longest));
    let used = stat(&engine, "disk_bytes");
    assert!(used < 12 * longest as u64, "{used} bytes on disk for {longest}");
}

#[test]
fn a_batch_that_is_large_for_the_memory_is_one_write() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let facts = engine.capabilities().clone();
    let count = facts.max_batch_ops.min(facts.max_batch_bytes / 600) as u64;
    assert!(count * 600 > config().memory_bytes / 4);
    for round in 0..5_u8 {
        let mut batch = WriteBatch::new();
        for n in 0..count {
            batch.put(KS, &n.to_be_bytes(), &[round; 590], None);
        }
        host.wait(engine.write(&batch, &OS)).unwrap();
        for n in 0..count {
            let got = host.wait(engine.get(KS, &n.to_be_bytes())).unwrap();
            assert_eq!(got.as_deref(), Some(&[round; 590][..]));
        }
    }
}

#[test]
fn compaction_spares_what_is_still_being_written() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let small = HybridLogConfig { memory_bytes: 16 * PAGE, ..config() };
    let engine = HybridLogEngine::open(&host, small).unwrap();
    let long = vec![7; engine.capabilities().max_value_bytes];
    let mut put = engine.put(KS, b"k", &long, None, &OS);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut put).poll(&mut context).is_pending(), "it has no room yet");
    // Pages come and go.
    let before = stat(&engine, "pages_compacted");
    for n in 0..3000_u64 {
        host.wait(engine.put(KS, &(n % 100).to_be_bytes(), &[1; 1000], None, &OS)).unwrap();
    }
    assert!(stat(&engine, "pages_compacted") > before + 100);
    host.wait(put).unwrap();
    assert!(host.wait(engine.get(KS, b"k")).unwrap().unwrap() == long);
}

/// Bytes on disk after rounds of a batch that leaves nothing, and of what makes compaction go on.
fn used_after(rounds: u64, write: impl Fn(u64, &mut WriteBatch)) -> u64 {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    for round in 0..rounds {
        // Sooner or later a key's value expires.
        machine.clock().advance(std::time::Duration::from_secs(5));
        let mut batch = WriteBatch::new();
        write(round, &mut batch);
        host.wait(engine.write(&batch, &OS)).unwrap();
        for n in 0..20_u64 {
            host.wait(engine.put(KS, &n.to_be_bytes(), &[1; 1000], None, &OS)).unwrap();
        }
    }
    host.settle();
    stat(&engine, "disk_bytes")
}

#[test]
fn disk_space_of_those_that_nobody_can_see_comes_back() {
    let long = [7; 30_000];
    let expired = used_after(300, |n, batch| {
        batch.put(KS, &n.to_le_bytes(), &long, Some(UnixMillis(1)));
    });
    assert!(expired < 2 << 20, "{expired} bytes for values that had expired before");
    let twice = used_after(150, |n, batch| {
        let key = n.to_le_bytes();
        batch.put(KS, &key, &long, None).put(KS, &key, &long, None).delete(KS, &key);
    });
    assert!(twice < 2 << 20, "{twice} bytes for values that were deleted in the same batch");
}

#[test]
fn disk_space_of_those_that_expire_unseen_comes_back() {
    let base = UnixMillis(0);
    for len in [1000, 50_000] {
        let machine = SimMachine::new(1);
        let begin = Clock::now(machine.clock()).0;
        let used = used_after(600, |n, batch| {
            let expire_at = base.plus(begin + n * 5000 + 6000);
            batch.put(KS, &n.to_le_bytes(), &vec![7; len], Some(expire_at));
        });
        assert!(used < 2 << 20, "{used} bytes for a few live values of {len}");
    }
}

#[test]
fn keys_of_cleared_keyspaces_are_forgotten() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let mut sizes = Vec::new();
    for round in 0..30 {
        for n in 0..100_u64 {
            host.wait(engine.put(KS, &n.to_be_bytes(), &[1; 3000], None, &OS)).unwrap();
        }
        host.wait(engine.clear_keyspace(KS, &OS)).unwrap();
        if round % 10 == 9 {
            host.wait(engine.as_checkpoint().unwrap().checkpoint(&format!("copy{round}"))).unwrap();
            sizes.push(file_bytes(&host, &format!("copy{round}")));
        }
    }
    assert!(sizes[2] < sizes[0] * 2, "facts of {sizes:?} bytes");
}

/// The bytes of a checkpoint's facts.
fn file_bytes(host: &ferrokit_storage::Host, directory: &str) -> u64 {
    let entries = host.fs.list(directory).unwrap();
    let facts = entries.iter().find(|entry| entry.name.starts_with("checkpoint-")).unwrap();
    let path = format!("{directory}/{}", facts.name);
    host.fs.open(&path, OpenMode::Read).unwrap().len().unwrap()
}

#[test]
fn reading_many_takes_few_rounds_however_many_are_long() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let memory = HybridLogConfig {
        directory: String::new(),
        memory_bytes: 64 << 20,
        page_bytes: 64 << 10,
        index_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        ..config()
    };
    let engine = HybridLogEngine::open(&host, memory).unwrap();
    let keys: Vec<_> = (0..900_u64).map(u64::to_be_bytes).collect();
    let len = |n: u64| if n < 400 { 25_000 } else { 40_000 };
    for (n, key) in (0..).zip(&keys) {
        host.wait(engine.put(KS, key, &vec![1; len(n)], None, &MEMORY)).unwrap();
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut seen = 0;
    let mut visit = |n: usize, entry: Entry<'_>| {
        assert_eq!(entry.value.len(), len(n as u64));
        seen += 1;
    };
    let read = ReadOptions::default();
    // Each round would read 8 MiB and more again: minutes, were there one for each of the long.
    host.wait(engine.get_many_with(KS, &keys, &read, &mut visit)).unwrap();
    assert_eq!(seen, 900);
}
