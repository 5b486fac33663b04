//! A byte that is another in any file, or a file that ends early: an error that names it, or the
//! right answers; never a wrong one, a panic, or memory by what a damaged number says.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use ferrokit_engine::{Durability, ErrorKind, KvEngine, KvEngineExt, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::{CrashMode, SimMachine};
use ferrokit_storage::{Fs, OpenMode};
use support::{KS, MEMORY, OS, PAGE, config, stat};

const KEYS: u64 = 1500;
const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn value(n: u64, round: u64) -> Vec<u8> {
    format!("{n}/{round}/").repeat(10).into_bytes()
}

fn tiered() -> HybridLogConfig {
    HybridLogConfig {
        memory_bytes: 16 * PAGE,
        object: "objects".to_owned(),
        disk_bytes: 16 * PAGE,
        ..config()
    }
}

fn put(machine: &SimMachine, engine: &HybridLogEngine, n: u64, round: u64, how: &WriteOptions) {
    machine.host().wait(engine.put(KS, &key(n), &value(n, round), None, how)).unwrap();
}

/// A directory with everything in it: segments here and in the object tier, a checkpoint that
/// stands on an older index, a log to be replayed.
fn damageable(seed: u64) -> SimMachine {
    let machine = SimMachine::new(seed);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, tiered()).unwrap();
    for round in 1..=2 {
        for n in 0..KEYS {
            put(&machine, &engine, n, round, &MEMORY);
        }
        host.settle();
    }
    assert!(stat(&engine, "pages_on_disk_only") > 0, "all is in memory");
    host.wait(engine.close()).unwrap();
    drop(engine);
    let engine = HybridLogEngine::open(&host, tiered()).unwrap();
    for n in 0..50 {
        put(&machine, &engine, n, 3, &OS);
    }
    // What is not on the device may end the log anywhere: damage there cannot be told from a cut.
    host.wait(engine.sync(Durability::Synced)).unwrap();
    for n in 0..2 {
        put(&machine, &engine, n, 3, &SYNCED);
    }
    drop(engine);
    machine.crash(CrashMode::ProcessKill)
}

fn files(fs: &dyn Fs, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs.list(directory).unwrap() {
        let path = format!("{directory}/{}", entry.name);
        if entry.is_dir {
            found.extend(files(fs, &path));
        } else if entry.bytes > 0 {
            found.push(path);
        }
    }
    found
}

/// Opens and reads everything; whether that was possible.
fn answers(machine: &SimMachine, what: &str) -> bool {
    let host = machine.host();
    let is_told = |error: &ferrokit_engine::Error| {
        let kinds = [
            ErrorKind::Corruption,
            ErrorKind::VersionTooNew,
            ErrorKind::InvalidArgument,
            ErrorKind::Unsupported,
            ErrorKind::Io,
        ];
        assert!(kinds.contains(&error.kind()), "{what}: {error}");
    };
    let engine = match HybridLogEngine::open(&host, tiered()) {
        Ok(engine) => engine,
        Err(error) => {
            is_told(&error);
            return false;
        }
    };
    let mut is_whole = true;
    for n in 0..KEYS {
        let round = if n < 50 { 3 } else { 2 };
        match host.wait(engine.get(KS, &key(n))) {
            Ok(found) => assert_eq!(found, Some(value(n, round)), "{what}: key {n}"),
            Err(error) => {
                is_told(&error);
                is_whole = false;
            }
        }
    }
    is_whole
}

#[test]
fn damage_is_told_or_does_no_harm() {
    let machine = damageable(1);
    let paths: Vec<String> = ["data", "objects"]
        .iter()
        .flat_map(|directory| files(&*machine.host().fs, directory))
        .collect();
    for part in ["CURRENT", "PLACES", "segment-", "objects/", "log/", "checkpoint-"] {
        assert!(paths.iter().any(|path| path.contains(part)), "no {part} in {paths:?}");
    }
    assert!(answers(&damageable(1), "undamaged"));
    let mut random = 1_u64;
    let mut told = 0;
    for path in &paths {
        for turn in 0..12_u64 {
            let machine = damageable(1);
            let fs = machine.host().fs;
            let file = fs.open(path, OpenMode::ReadWrite).unwrap();
            let len = file.len().unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The first bytes of a file say most.
            let within = if turn % 2 == 0 { len.min(128) } else { len };
            let at = (random >> 33) % within;
            // A log that ends earlier is one that was written less of.
            let what = if turn % 12 == 11 && !path.contains("/log/") {
                file.set_len(at).wait().unwrap();
                format!("{path} ends at {at}")
            } else {
                let byte = file.read_at(at, 1).wait().unwrap()[0];
                let bit = 1 << ((random >> 20) % 8);
                file.write_at(at, vec![byte ^ bit]).wait().unwrap();
                format!("{path} has bit {bit:#x} of byte {at} flipped")
            };
            drop(file);
            told += u32::from(!answers(&machine, &what));
        }
    }
    assert!(told > 50, "only {told} of {} were told", paths.len() * 12);
}
