//! Segments that move to the object tier: read from there, through crashes, damage and failures.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use ferrokit_engine::{ErrorKind, KvEngine, KvEngineExt, Tier, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine, TierLimits};
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind, SimMachine};
use ferrokit_storage::{Compression, Fs, Host, OpenMode};
use support::{KS, MEMORY, OS, PAGE, config, stat};

const SEGMENT: u64 = 8 * PAGE;
/// More than four times the memory.
const KEYS: u64 = 4000;

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn value(n: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{n}/{round}/").into_bytes();
    value.resize(100, b'v');
    value
}

/// Two segments mapped, nine on disk, the rest in the object tier.
fn tiered() -> HybridLogConfig {
    HybridLogConfig {
        mapped_bytes: 2 * SEGMENT,
        object: "objects".to_owned(),
        disk_bytes: 9 * SEGMENT,
        ..config()
    }
}

fn fill(host: &Host, engine: &HybridLogEngine, keys: u64, round: u64, options: &WriteOptions) {
    for n in 0..keys {
        host.wait(engine.put(KS, &key(n), &value(n, round), None, options)).unwrap();
    }
    host.settle();
}

fn check(host: &Host, engine: &Arc<HybridLogEngine>, keys: u64, round: u64) {
    for n in 0..keys {
        let got = host.wait(engine.get(KS, &key(n))).unwrap();
        assert_eq!(got, Some(value(n, round)), "key {n}");
    }
}

fn objects(machine: &SimMachine) -> Vec<String> {
    let entries = machine.fs().list("objects").unwrap();
    entries.into_iter().map(|entry| format!("objects/{}", entry.name)).collect()
}

fn segment_files(machine: &SimMachine) -> usize {
    let entries = machine.fs().list("data").unwrap();
    entries.iter().filter(|entry| entry.name.starts_with("segment-")).count()
}

#[test]
fn every_tier_is_read_in_one_run() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, tiered()).unwrap();
    assert_eq!(engine.capabilities().tiers, [Tier::Memory, Tier::Mapped, Tier::Disk, Tier::Object]);
    fill(&host, &engine, KEYS, 1, &MEMORY);
    assert!(stat(&engine, "segments_object") > 5 && stat(&engine, "segments_moved") > 5);
    assert_eq!(stat(&engine, "segments_mapped"), 2);
    assert!(stat(&engine, "segments_disk") <= 10, "nine, and the one that is written");
    assert_eq!(segment_files(&machine) as u64, stat(&engine, "segments_disk"));
    let packed = stat(&engine, "segments_object_bytes");
    assert!(packed < stat(&engine, "segments_object") * SEGMENT / 2, "{packed} bytes packed");
    check(&host, &engine, KEYS, 1);
    let reads = ["reads_mapped", "reads_disk", "reads_object"].map(|name| stat(&engine, name));
    assert!(reads.iter().all(|reads| *reads > 100), "{reads:?}");
    assert!(reads.iter().sum::<u64>() < KEYS, "and some were in memory");
    assert!(stat(&engine, "object_cache_bytes") <= 64 << 10);
    assert_eq!(stat(&engine, "tier_failures"), 0);
}

#[test]
fn what_moved_is_there_after_opening_again() {
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd(3)] {
        let machine = SimMachine::new(2);
        let host = machine.host();
        let config = HybridLogConfig { object_codec: codec, ..tiered() };
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        fill(&host, &engine, KEYS, 1, &OS);
        host.wait(engine.close()).unwrap();
        drop(engine);
        // Segments that are packed in another way are read all the same.
        let engine = HybridLogEngine::open(&host, tiered()).unwrap();
        assert!(stat(&engine, "segments_object") > 5);
        check(&host, &engine, KEYS, 1);
        fill(&host, &engine, KEYS, 2, &OS);
        drop(engine);
        let after = machine.crash(CrashMode::ProcessKill);
        let engine = HybridLogEngine::open(&after.host(), tiered()).unwrap();
        check(&after.host(), &engine, KEYS, 2);
    }
}

#[test]
fn compaction_reads_objects_and_removes_them() {
    let machine = SimMachine::new(3);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, tiered()).unwrap();
    for round in 0..12 {
        fill(&host, &engine, KEYS, round, &OS);
    }
    assert!(stat(&engine, "objects_deleted") > 20);
    assert_eq!(objects(&machine).len() as u64, stat(&engine, "segments_object"));
    let live = KEYS * 160;
    assert!(stat(&engine, "disk_bytes") < live * 3);
    check(&host, &engine, KEYS, 11);
}

#[test]
fn limits_are_adjusted_while_it_is_open() {
    let machine = SimMachine::new(4);
    let host = machine.host();
    let start = HybridLogConfig { disk_bytes: u64::MAX, mapped_bytes: 0, ..tiered() };
    let engine = HybridLogEngine::open(&host, start).unwrap();
    assert_eq!(engine.tier_limits(), Some(TierLimits { mapped_bytes: 0, disk_bytes: u64::MAX }));
    fill(&host, &engine, KEYS, 1, &MEMORY);
    assert_eq!((stat(&engine, "segments_object"), stat(&engine, "segments_mapped")), (0, 0));
    let limits = TierLimits { mapped_bytes: 3 * SEGMENT, disk_bytes: 8 * SEGMENT };
    engine.set_tier_limits(limits).unwrap();
    host.settle();
    assert_eq!(stat(&engine, "segments_mapped"), 3);
    assert!((8..=9).contains(&stat(&engine, "segments_disk")));
    check(&host, &engine, KEYS, 1);
    engine.set_tier_limits(TierLimits { mapped_bytes: SEGMENT, ..limits }).unwrap();
    host.settle();
    assert_eq!(stat(&engine, "segments_mapped"), 1);
    check(&host, &engine, KEYS, 1);
    let plain =
        HybridLogEngine::open(&host, HybridLogConfig { directory: "plain".to_owned(), ..config() })
            .unwrap();
    let error = plain.set_tier_limits(limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    plain.set_tier_limits(TierLimits { mapped_bytes: 0, disk_bytes: u64::MAX }).unwrap();
    let memory = HybridLogConfig { directory: String::new(), ..config() };
    let memory = HybridLogEngine::open(&host, memory).unwrap();
    assert_eq!(memory.tier_limits(), None);
    assert_eq!(memory.set_tier_limits(limits).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Writes, moves, and is cut off just before every I/O in turn.
#[test]
fn a_crash_at_any_moment_of_moving_loses_nothing() {
    let config = HybridLogConfig { disk_bytes: 2 * SEGMENT, ..tiered() };
    let keys = 1300;
    // What happens before, so that all cuts are in the moving.
    let prepare = |machine: &SimMachine| {
        let host = machine.host();
        let all = HybridLogConfig { disk_bytes: u64::MAX, ..config.clone() };
        let engine = HybridLogEngine::open(&host, all).unwrap();
        fill(&host, &engine, keys, 3, &MEMORY);
        host.wait(engine.close()).unwrap();
    };
    let check_some = |host: &Host, engine: &Arc<HybridLogEngine>| {
        for n in (0..keys).step_by(9) {
            assert_eq!(host.wait(engine.get(KS, &key(n))).unwrap(), Some(value(n, 3)), "key {n}");
        }
    };
    let mut moved_most = 0;
    for cut in 0.. {
        let machine = SimMachine::new(5);
        prepare(&machine);
        let first = machine.io_count();
        machine.crash_at(first + cut);
        let host = machine.host();
        let mut reached_end = false;
        if let Ok(engine) = HybridLogEngine::open(&host, config.clone()) {
            let limits = engine.tier_limits().unwrap();
            engine.set_tier_limits(limits).unwrap();
            host.settle();
            moved_most = moved_most.max(stat(&engine, "segments_moved"));
            reached_end = !machine.is_frozen();
        }
        for mode in [
            CrashMode::KeepAll,
            CrashMode::DropUnsynced,
            CrashMode::ProcessKill,
            CrashMode::Random(cut),
            CrashMode::Random(cut + 1000),
        ] {
            let after = machine.crash(mode);
            let host = after.host();
            let engine = HybridLogEngine::open(&host, config.clone())
                .unwrap_or_else(|error| panic!("cut {cut}, {mode:?}: {error}"));
            check_some(&host, &engine);
            engine.set_tier_limits(engine.tier_limits().unwrap()).unwrap();
            host.settle();
            check_some(&host, &engine);
            // Nothing is left over: neither objects nor files.
            let (in_objects, on_disk) =
                (stat(&engine, "segments_object"), stat(&engine, "segments_disk"));
            assert_eq!(objects(&after).len() as u64, in_objects, "cut {cut}, {mode:?}");
            assert_eq!(segment_files(&after) as u64, on_disk, "cut {cut}, {mode:?}");
            assert!(on_disk <= 3, "cut {cut}: {on_disk} segments on disk");
        }
        if reached_end {
            assert!(cut > 30 && moved_most > 1, "{cut} cuts, {moved_most} moved");
            return;
        }
    }
}

#[test]
fn a_tier_that_fails_holds_up_nobody_and_is_tried_again() {
    let machine = SimMachine::new(6);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, tiered()).unwrap();
    machine.set_faults(FaultPlan::new().on(None, "objects/", FaultKind::Error, u64::MAX));
    fill(&host, &engine, KEYS, 1, &OS);
    assert!(stat(&engine, "tier_failures") > 3);
    assert_eq!(stat(&engine, "segments_object"), 0);
    check(&host, &engine, KEYS, 1);
    machine.set_faults(FaultPlan::new());
    fill(&host, &engine, KEYS, 2, &OS);
    assert!(stat(&engine, "segments_object") > 5);
    // Down again: what is there is not read, everything else goes on.
    machine.set_faults(FaultPlan::new().on(None, "objects/", FaultKind::Error, u64::MAX));
    let mut failed = 0;
    for n in 0..KEYS {
        match host.wait(engine.get(KS, &key(n))) {
            Ok(got) => assert_eq!(got, Some(value(n, 2)), "key {n}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > KEYS / 10, "{failed} failed");
    fill(&host, &engine, KEYS, 3, &OS);
    machine.set_faults(FaultPlan::new());
    fill(&host, &engine, KEYS, 4, &OS);
    check(&host, &engine, KEYS, 4);
    assert_eq!(objects(&machine).len() as u64, stat(&engine, "segments_object"));
}

/// An engine whose old keys are in the object tier, closed.
fn moved(machine: &SimMachine, config: &HybridLogConfig) {
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
    fill(&host, &engine, KEYS, 1, &OS);
    assert!(stat(&engine, "segments_object") > 5);
    host.wait(engine.close()).unwrap();
}

fn bytes_of(machine: &SimMachine, path: &str) -> Vec<u8> {
    let file = machine.fs().open(path, OpenMode::Read).unwrap();
    file.read_at(0, file.len().unwrap() as usize).wait().unwrap()
}

fn replace(machine: &SimMachine, path: &str, bytes: Vec<u8>) {
    machine.fs().remove_file(path).unwrap();
    let file = machine.fs().open(path, OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).wait().unwrap();
}

/// Reads all keys: every answer is right or the error of damage in an object; how many of those.
fn damaged_reads(machine: &SimMachine, config: &HybridLogConfig, path: &str) -> u64 {
    let host = machine.host();
    let engine = match HybridLogEngine::open(&host, config.clone()) {
        Ok(engine) => engine,
        Err(error) => {
            assert_eq!((error.kind(), error.file()), (ErrorKind::Corruption, Some(path)));
            assert!(error.offset().is_some(), "{error}");
            return 1;
        }
    };
    let mut damaged = 0;
    for n in 0..KEYS {
        match host.wait(engine.get(KS, &key(n))) {
            Ok(got) => assert_eq!(got, Some(value(n, 1)), "key {n}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                assert_eq!(error.file(), Some(path), "{error}");
                assert!(error.offset().is_some(), "{error}");
                damaged += 1;
            }
        }
    }
    damaged
}

#[test]
fn damage_in_an_object_is_told_with_its_name_and_offset() {
    let key_file = "key";
    for encrypted in [false, true] {
        let machine = SimMachine::new(7);
        let file = machine.fs().open(key_file, OpenMode::CreateNew).unwrap();
        file.write_at(0, vec![9; 32]).wait().unwrap();
        let mut config = tiered();
        if encrypted {
            config.object_key = key_file.to_owned();
        }
        moved(&machine, &config);
        let paths = objects(&machine);
        let (path, other) = (&paths[1], &paths[2]);
        let (bytes, other_bytes) = (bytes_of(&machine, path), bytes_of(&machine, other));
        let step = bytes.len() / 23;
        for at in (3..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            replace(&machine, path, damaged);
            assert!(damaged_reads(&machine, &config, path) > 0, "byte {at} of {}", bytes.len());
        }
        for at in [bytes.len() - 1, bytes.len() - 100] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            replace(&machine, path, damaged);
            assert!(damaged_reads(&machine, &config, path) > 5, "the tail is for all");
        }
        replace(&machine, path, bytes[..bytes.len() - 1].to_vec());
        assert!(damaged_reads(&machine, &config, path) > 0, "cut short");
        replace(&machine, path, bytes[..10].to_vec());
        assert!(damaged_reads(&machine, &config, path) > 0, "cut short");
        machine.fs().remove_file(path).unwrap();
        assert!(damaged_reads(&machine, &config, path) > 0, "removed");
        // That of another segment, even as long.
        let mut swapped = other_bytes.clone();
        swapped.resize(bytes.len(), 0);
        let file = machine.fs().open(path, OpenMode::CreateNew).unwrap();
        file.write_at(0, swapped).wait().unwrap();
        assert!(damaged_reads(&machine, &config, path) > 5, "swapped");
        replace(&machine, path, bytes);
        assert_eq!(damaged_reads(&machine, &config, path), 0);
        // In the clear nothing of it is to be found where it is encrypted.
        let clear = paths
            .iter()
            .any(|path| bytes_of(&machine, path).windows(4).any(|window| window == b"key:"));
        assert_eq!(clear, !encrypted);
    }
}

#[test]
fn a_wrong_key_opens_nothing() {
    let machine = SimMachine::new(8);
    for (name, byte, len) in [("right", 1, 32), ("wrong", 2, 32), ("short", 1, 31)] {
        let file = machine.fs().open(name, OpenMode::CreateNew).unwrap();
        file.write_at(0, vec![byte; len]).wait().unwrap();
    }
    let with = |key: &str| HybridLogConfig { object_key: key.to_owned(), ..tiered() };
    moved(&machine, &with("right"));
    let host = machine.host();
    for (config, file) in [
        (with("wrong"), "data/PLACES"),
        (with(""), "data/PLACES"),
        (with("short"), "short"),
        (
            HybridLogConfig { object: String::new(), disk_bytes: u64::MAX, ..tiered() },
            "data/PLACES",
        ),
    ] {
        let error = HybridLogEngine::open(&host, config.clone()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(error.file(), Some(file), "{error}");
    }
    let error = HybridLogEngine::open(&host, with("absent")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let engine = HybridLogEngine::open(&host, with("right")).unwrap();
    check(&host, &engine, KEYS, 1);
}

#[test]
fn a_key_is_given_later_and_what_was_in_the_clear_stays_readable() {
    let machine = SimMachine::new(9);
    let file = machine.fs().open("key", OpenMode::CreateNew).unwrap();
    file.write_at(0, vec![9; 32]).wait().unwrap();
    moved(&machine, &tiered());
    let host = machine.host();
    let config = HybridLogConfig { object_key: "key".to_owned(), ..tiered() };
    let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
    for n in KEYS..2 * KEYS {
        host.wait(engine.put(KS, &key(n), &value(n, 1), None, &OS)).unwrap();
    }
    host.settle();
    check(&host, &engine, 2 * KEYS, 1);
    drop(engine);
    let engine = HybridLogEngine::open(&host, config).unwrap();
    check(&host, &engine, 2 * KEYS, 1);
}

#[test]
fn a_mapping_that_fails_is_read_as_a_file_and_damage_in_one_is_noticed() {
    let machine = SimMachine::new(10);
    let host = machine.host();
    machine.set_faults(FaultPlan::new().on(OpKind::Map, "segment-", FaultKind::Error, u64::MAX));
    let config = HybridLogConfig { mapped_bytes: 1 << 30, ..config() };
    let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
    fill(&host, &engine, KEYS, 1, &OS);
    check(&host, &engine, KEYS, 1);
    assert_eq!((stat(&engine, "segments_mapped"), stat(&engine, "reads_mapped")), (0, 0));
    assert!(stat(&engine, "tier_failures") > 0);
    host.wait(engine.close()).unwrap();
    // Each mapping shows one bit wrong.
    let flip = FaultKind::FlipBit { byte: None, bit: 3 };
    machine.set_faults(FaultPlan::new().on(OpKind::Map, "segment-", flip, u64::MAX));
    let engine = HybridLogEngine::open(&host, config).unwrap();
    engine.set_tier_limits(engine.tier_limits().unwrap()).unwrap();
    host.settle();
    assert!(stat(&engine, "segments_mapped") > 5);
    let mut damaged = 0;
    for n in 0..KEYS {
        match host.wait(engine.get(KS, &key(n))) {
            Ok(got) => assert_eq!(got, Some(value(n, 1)), "key {n}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                assert!(error.file().is_some_and(|file| file.contains("segment-")), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0 && damaged < 200, "{damaged} damaged");
    assert!(stat(&engine, "reads_mapped") > KEYS / 2);
}
