//! Data larger than memory: what leaves it, comes back, and goes for good.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use ferrokit_engine::{
    KeyspaceId, KvEngine, KvEngineExt, KvRead, ReadOptions, SweepCursor, Update, WriteBatch,
    WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::Host;
use ferrokit_storage::sim::{CrashMode, SimMachine};
use support::{KS, MEMORY, OS, PAGE, config, stat};

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn value(n: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{n}/{round}/").into_bytes();
    value.resize(100, b'v');
    value
}

fn fill(host: &Host, engine: &HybridLogEngine, keys: u64, round: u64, options: &WriteOptions) {
    for n in 0..keys {
        host.wait(engine.put(KS, &key(n), &value(n, round), None, options)).unwrap();
    }
}

fn check(host: &Host, engine: &Arc<HybridLogEngine>, keys: u64, round: u64) {
    for n in 0..keys {
        let got = host.wait(engine.get(KS, &key(n))).unwrap();
        assert_eq!(got, Some(value(n, round)), "key {n}");
    }
}

/// 4,000 records of 150 bytes: more than four times the memory.
const KEYS: u64 = 4000;

#[test]
fn what_left_memory_is_read_written_and_swept() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    fill(&host, &engine, KEYS, 1, &MEMORY);
    assert!(stat(&engine, "pages_on_disk_only") * PAGE > 3 * config().memory_bytes);
    assert!(stat(&engine, "pages_used_bytes") <= config().memory_bytes);
    check(&host, &engine, KEYS, 1);
    assert!(stat(&engine, "cold_reads") > KEYS / 2, "most were not in memory");
    // Updates of cold records see them.
    for n in 0..100 {
        let mut change = |old: Option<ferrokit_engine::Entry<'_>>, out: &mut Vec<u8>| {
            assert_eq!(old.unwrap().value, value(n, 1));
            out.extend_from_slice(&value(n, 2));
            Update::Put { expire_at: None }
        };
        host.wait(engine.update(KS, &key(n), &MEMORY, &mut change)).unwrap();
    }
    check(&host, &engine, 100, 2);
    // Deletes of cold records hide them, even when the tombstones have left memory, too.
    for n in 100..200 {
        let options = MEMORY.reporting_existed();
        let deleted = host.wait(engine.delete(KS, &key(n), &options)).unwrap();
        assert_eq!(deleted.existed, Some(true), "key {n}");
        let again = host.wait(engine.delete(KS, &key(n), &options)).unwrap();
        assert_eq!(again.existed, Some(false), "key {n}");
    }
    for n in 200..KEYS {
        host.wait(engine.put(KS, &key(n), &value(n, 3), None, &MEMORY)).unwrap();
    }
    for n in 100..200 {
        assert_eq!(host.wait(engine.get(KS, &key(n))).unwrap(), None, "key {n}");
    }
    // Many at once, from everywhere.
    let keys: Vec<Vec<u8>> = (0..KEYS).step_by(40).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let found = host.wait(engine.get_many(KS, &keys)).unwrap();
    assert_eq!(found.iter().filter(|value| value.is_some()).count(), keys.len() - 2);
    // Every key that is there is swept, once here where nobody else writes.
    let (mut cursor, mut swept) = (SweepCursor::start(), Vec::new());
    loop {
        let mut visit = |key: &[u8], _: ferrokit_engine::Entry<'_>| swept.push(key.to_vec());
        let options = ReadOptions::default();
        let next = host.wait(engine.sweep(KS, &cursor, 500, &options, &mut visit)).unwrap().next;
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    swept.sort_unstable();
    assert!((0..100).chain(200..KEYS).map(key).eq(swept));
}

#[test]
fn disk_space_follows_the_live_data() {
    let machine = SimMachine::new(2);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    for round in 0..12 {
        fill(&host, &engine, KEYS, round, &OS);
    }
    host.settle();
    assert!(stat(&engine, "pages_compacted") > 0 && stat(&engine, "checkpoints") > 0);
    let (live, used) = (KEYS * 160, stat(&engine, "disk_bytes"));
    assert!(used < live * 3, "{used} bytes on disk for {live} live ones");
    check(&host, &engine, KEYS, 11);
    // All of it goes when the keyspace is cleared.
    host.wait(engine.clear_keyspace(KS, &OS)).unwrap();
    for round in 0..2 {
        fill(&host, &engine, KEYS / 8, round, &OS);
    }
    host.settle();
    let used = stat(&engine, "disk_bytes");
    assert!(used < live, "{used} bytes on disk after a clear");
}

#[test]
fn moved_records_are_no_older_than_those_written_meanwhile() {
    let mut machine = SimMachine::new(3);
    let mut engine = HybridLogEngine::open(&machine.host(), config()).unwrap();
    let mut rounds = vec![0; KEYS as usize];
    fill(&machine.host(), &engine, KEYS, 0, &OS);
    let mut random = 7_u64;
    let mut moved = 0;
    for round in 1..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let n = (random >> 33) % KEYS;
        let host = machine.host();
        host.wait(engine.put(KS, &key(n), &value(n, round), None, &OS)).unwrap();
        rounds[n as usize] = round;
        if round % 4000 == 0 {
            moved += stat(&engine, "records_moved");
            drop(engine);
            machine = machine.crash(CrashMode::ProcessKill);
            engine = HybridLogEngine::open(&machine.host(), config()).unwrap();
            for (n, round) in (0_u64..).zip(&rounds) {
                let got = machine.host().wait(engine.get(KS, &key(n))).unwrap();
                assert_eq!(got, Some(value(n, *round)), "key {n} after a crash");
            }
        }
    }
    assert!(moved > 0, "nothing was compacted");
}

#[test]
fn a_batch_of_cold_keys_is_whole() {
    let machine = SimMachine::new(4);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    fill(&host, &engine, KEYS, 1, &MEMORY);
    let mut batch = WriteBatch::new();
    for n in 0..20 {
        batch.put(KS, &key(n), &value(n, 2), None);
        batch.delete(KS, &key(20 + n));
        batch.put(KS, &key(KEYS + n), &value(n, 2), None);
    }
    let written = host.wait(engine.write(&batch, &OS.reporting_existed())).unwrap();
    assert_eq!(written.existed, Some(true));
    check(&host, &engine, 20, 2);
    for n in 20..40 {
        assert_eq!(host.wait(engine.get(KS, &key(n))).unwrap(), None, "key {n}");
    }
    let mut absent = WriteBatch::new();
    absent.delete(KS, &key(20)).delete(KS, b"never there");
    let written = host.wait(engine.write(&absent, &OS.reporting_existed())).unwrap();
    assert_eq!(written.existed, Some(false));
}

#[test]
fn a_closed_engine_has_nothing_to_replay() {
    let machine = SimMachine::new(5);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    fill(&host, &engine, KEYS, 1, &MEMORY);
    host.wait(engine.close()).unwrap();
    drop(engine);
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    // What was written in memory was in the last checkpoint, too.
    check(&host, &engine, KEYS, 1);
    assert!(stat(&engine, "pages_in_memory") > 8, "the newest pages are in memory again");
}

#[test]
fn what_is_read_again_is_not_read_from_disk_again() {
    let machine = SimMachine::new(6);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    fill(&host, &engine, KEYS, 1, &MEMORY);
    check(&host, &engine, 50, 1);
    let reads = stat(&engine, "cold_reads");
    assert!(reads >= 50);
    for _ in 0..100 {
        check(&host, &engine, 50, 1);
        let keys: Vec<Vec<u8>> = (0..50).map(key).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let found = host.wait(engine.get_many(KS, &keys)).unwrap();
        for (n, value_found) in (0..).zip(found) {
            assert_eq!(value_found, Some(value(n, 1)));
        }
    }
    let again = stat(&engine, "cold_reads") - reads;
    assert!(again < 50, "{again} of 10,000 from disk");
    assert!(stat(&engine, "read_cache_hits") > 9000);
    // Newer values hide the copies, absent keys too, and what was deleted stays away.
    fill(&host, &engine, 25, 2, &MEMORY);
    for n in 25..50 {
        host.wait(engine.delete(KS, &key(n), &MEMORY)).unwrap();
    }
    check(&host, &engine, 25, 2);
    for n in 25..50 {
        assert_eq!(host.wait(engine.get(KS, &key(n))).unwrap(), None);
    }
}

#[test]
fn pages_make_room_for_the_index_and_the_read_cache() {
    let machine = SimMachine::new(7);
    let host = machine.host();
    let config = HybridLogConfig {
        memory_bytes: 96 * PAGE,
        index_bytes: 4 << 10,
        index_bytes_max: 32 * PAGE,
        ..config()
    };
    let budget = config.memory_bytes;
    let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
    let taken = |engine: &Arc<HybridLogEngine>| {
        ["pages_used_bytes", "index_bytes", "read_cache_bytes"].map(|name| stat(engine, name))
    };
    let mut most = [0; 3];
    for n in 0..2 * KEYS {
        host.wait(engine.put(KS, &key(n), &value(n, 1), None, &MEMORY)).unwrap();
        let any = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % (n + 1);
        assert!(host.wait(engine.get(KS, &key(any))).unwrap().is_some());
        let now = taken(&engine);
        most = std::array::from_fn(|part| most[part].max(now[part]));
        let all: u64 = now.iter().sum();
        assert!(all <= budget + budget / 10, "{now:?} of {budget}");
    }
    assert!(most[1] > budget / 4 && most[2] > budget / 8, "{most:?} of {budget}");
    drop(engine);
    let machine = machine.crash(CrashMode::ProcessKill);
    let engine = HybridLogEngine::open(&machine.host(), config).unwrap();
    let now = taken(&engine);
    assert!(now.iter().sum::<u64>() <= budget, "{now:?} of {budget}");
}

#[test]
fn an_index_that_grows_over_cold_records_has_one_place_for_each() {
    let machine = SimMachine::new(8);
    let host = machine.host();
    // 512 buckets of 7 places at most, and 128 more of overflow: 4480 places.
    let config = HybridLogConfig { index_bytes_max: 32 << 10, ..config() };
    let engine = HybridLogEngine::open(&host, config).unwrap();
    fill(&host, &engine, 2600, 1, &MEMORY);
    assert!(stat(&engine, "pages_on_disk_only") * PAGE > self::config().memory_bytes * 3 / 2);
    assert_eq!(stat(&engine, "index_buckets"), 512);
    check(&host, &engine, 2600, 1);
    // Nothing leads to another half's records: hardly any read finds another key's.
    assert!(stat(&engine, "cold_reads") < 2700, "{}", stat(&engine, "cold_reads"));
}

#[test]
fn a_hint_changes_nothing() {
    let machine = SimMachine::new(9);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    fill(&host, &engine, KEYS, 1, &MEMORY);
    let before = (stat(&engine, "cold_reads"), stat(&engine, "pages_used_bytes"));
    let mut keys: Vec<Vec<u8>> = (0..KEYS + 100).map(key).collect();
    keys.extend([Vec::new(), vec![b'k'; 100_000]]);
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    assert!(engine.prefetch(KS, &keys));
    assert!(engine.prefetch(KeyspaceId(1 << 20), &keys));
    assert!(engine.prefetch(KS, &[]));
    assert_eq!(before, (stat(&engine, "cold_reads"), stat(&engine, "pages_used_bytes")));
    check(&host, &engine, 100, 1);
    host.wait(engine.close()).unwrap();
    engine.prefetch(KS, &keys);
}

#[test]
fn keys_that_expired_are_counted_no_more_once_they_were_met() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let exact = OS.reporting_existed();
    let expire_at = Some(host.env.clock.now().plus(1000));
    let count = |engine: &HybridLogEngine| host.wait(engine.keyspace_len(KS)).unwrap().entries;
    for n in 0..KEYS {
        let expire_at = expire_at.filter(|_| n % 2 == 0);
        host.wait(engine.put(KS, &key(n), &value(n, 1), expire_at, &exact)).unwrap();
    }
    assert_eq!(count(&engine), KEYS);
    machine.clock().advance(std::time::Duration::from_secs(2));
    // What may be changed in place goes as it is met.
    let mut cursor = SweepCursor::start();
    loop {
        let read = ReadOptions::default();
        let swept = host.wait(engine.sweep(KS, &cursor, 100, &read, &mut |_, _| {})).unwrap();
        match swept.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let swept = count(&engine);
    assert!(swept < KEYS, "{swept}");
    // What is on disk, as it is written over, deleted, or compacted.
    host.wait(engine.put(KS, &key(0), b"v", None, &exact)).unwrap();
    assert_eq!(count(&engine), swept);
    host.wait(engine.delete(KS, &key(2), &exact)).unwrap();
    assert_eq!(count(&engine), swept - 1);
    for round in 2..8 {
        for n in (1..KEYS).step_by(2) {
            host.wait(engine.put(KS, &key(n), &value(n, round), None, &exact)).unwrap();
        }
    }
    assert_eq!(count(&engine), KEYS / 2 + 1, "all that do not expire, and the first");
}
