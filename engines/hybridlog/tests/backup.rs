//! Backups of data larger than memory: engines of their own, whatever becomes of their origin.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use ferrokit_engine::{
    Changes, Checkpoint, Durability, ErrorKind, KvEngine, KvEngineExt, WriteOptions,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind, SimMachine};
use ferrokit_storage::{Fs, Host, OpenMode};
use support::{KS, MEMORY, OS, config, stat};

const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);
const KEYS: u64 = 3000;

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn value(n: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{n}/{round}/").into_bytes();
    value.resize(100, b'v');
    value
}

fn in_directory(directory: &str) -> HybridLogConfig {
    HybridLogConfig { directory: directory.to_owned(), ..config() }
}

fn open(host: &Host, directory: &str) -> Arc<HybridLogEngine> {
    HybridLogEngine::open(host, in_directory(directory)).unwrap()
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

/// The origin goes on, appends to the segment that was copied in part, compacts and removes what was
/// linked; the backup does the same, both at once.
#[test]
fn a_backup_and_its_origin_go_on_separately() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let origin = open(&host, "data");
    // Of writes at Memory the log has nothing.
    fill(&host, &origin, KEYS, 1, &MEMORY);
    let info = host.wait(origin.checkpoint("backup")).unwrap();
    assert!(info.bytes > KEYS * 100 && info.files > 4, "{info:?}");
    let backup = open(&host, "backup");
    check(&host, &backup, KEYS, 1);
    for round in 2..6 {
        fill(&host, &origin, KEYS, round, &OS);
        fill(&host, &backup, KEYS, round + 10, &OS);
        host.settle();
    }
    assert!(stat(&origin, "pages_compacted") > 0 && stat(&backup, "pages_compacted") > 0);
    check(&host, &origin, KEYS, 5);
    check(&host, &backup, KEYS, 15);
    for (engine, directory, round) in [(origin, "data", 5), (backup, "backup", 15)] {
        host.wait(engine.close()).unwrap();
        check(&host, &open(&host, directory), KEYS, round);
    }
}

/// Again and again, each linked to what the ones before are linked to.
#[test]
fn backups_of_every_moment_stay_what_they_were() {
    let machine = SimMachine::new(2);
    let host = machine.host();
    let origin = open(&host, "data");
    for round in 0..8 {
        fill(&host, &origin, 700, round, &OS);
        host.wait(origin.checkpoint(&format!("backup-{round}"))).unwrap();
    }
    fill(&host, &origin, 700, 100, &OS);
    host.wait(origin.close()).unwrap();
    host.fs.remove_dir_all("data").unwrap();
    for round in 0..8 {
        let backup = open(&host, &format!("backup-{round}"));
        check(&host, &backup, 700, round);
        // Positions of the log go on: an older one was never this engine's.
        let error = host.wait(backup.subscribe(Some(ferrokit_engine::ChangePosition(0))));
        assert_eq!(error.err().unwrap().kind(), ErrorKind::NotFound);
        fill(&host, &backup, 10, 200, &SYNCED);
    }
}

/// A backup that is opened and crashes before its first checkpoint begins from itself again.
#[test]
fn an_opened_backup_recovers_from_a_crash() {
    let machine = SimMachine::new(3);
    let host = machine.host();
    let origin = open(&host, "data");
    fill(&host, &origin, KEYS, 1, &OS);
    host.wait(origin.checkpoint("backup")).unwrap();
    let backup = open(&host, "backup");
    fill(&host, &backup, 100, 2, &SYNCED);
    let after = machine.crash(CrashMode::DropUnsynced);
    let host = after.host();
    let backup = open(&host, "backup");
    check(&host, &backup, 100, 2);
    for n in 100..KEYS {
        assert_eq!(host.wait(backup.get(KS, &key(n))).unwrap(), Some(value(n, 1)), "key {n}");
    }
}

/// Writes go on at every step, so that the log from W to C is not empty.
#[test]
fn what_is_written_meanwhile_is_in_it_up_to_one_moment() {
    for seed in 0..20 {
        let machine = SimMachine::new(seed);
        let host = machine.host();
        let origin = open(&host, "data");
        fill(&host, &origin, 500, 0, &MEMORY);
        let mut backup = origin.checkpoint("backup");
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let mut written = 0;
        loop {
            if std::future::Future::poll(std::pin::Pin::new(&mut backup), &mut context).is_ready() {
                break;
            }
            for _ in 0..=seed % 3 {
                let options = if written % 2 == 0 { &MEMORY } else { &OS };
                let (key, value) = (key(written % 500), value(written, 1));
                host.wait(origin.put(KS, &key, &value, None, options)).unwrap();
                written += 1;
            }
            host.background.step();
        }
        drop(backup);
        let backup = open(&host, "backup");
        // A prefix: the last write it has of each key is that of one moment.
        let found: Vec<Vec<u8>> =
            (0..500).map(|n| host.wait(backup.get(KS, &key(n))).unwrap().unwrap()).collect();
        let has = |upto: u64| {
            (0..500).all(|n| {
                let last = (0..upto).rev().find(|write| write % 500 == n);
                found[n as usize] == last.map_or(value(n, 0), |write| value(write, 1))
            })
        };
        assert!((0..=written).any(has), "seed {seed}: {written} writes, no prefix of them");
    }
}

#[test]
fn where_links_fail_it_is_copied_and_where_copies_fail_it_is_said() {
    let machine = SimMachine::new(4);
    let host = machine.host();
    let origin = open(&host, "data");
    fill(&host, &origin, KEYS, 1, &OS);
    machine.set_faults(FaultPlan::new().on(OpKind::Link, "", FaultKind::Error, u64::MAX));
    host.wait(origin.checkpoint("copied")).unwrap();
    machine.set_faults(FaultPlan::new());
    check(&host, &open(&host, "copied"), KEYS, 1);
    for name in ["index-", "segment-", "checkpoint-", "CURRENT"] {
        let directory = format!("failed-{name}");
        let path = format!("{directory}/{name}");
        machine.set_faults(
            FaultPlan::new().on(OpKind::Link, &format!("data/{name}"), FaultKind::NoSpace, 1).on(
                OpKind::Create,
                &path,
                FaultKind::NoSpace,
                1,
            ),
        );
        let Err(error) = host.wait(origin.checkpoint(&directory)) else {
            panic!("{name} was written all the same");
        };
        assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{name}: {error}");
        machine.set_faults(FaultPlan::new());
        let is_empty = host.fs.list(&directory).unwrap().is_empty();
        let opened = HybridLogEngine::open(&host, in_directory(&directory));
        assert!(opened.is_err() || is_empty, "{name}: half a backup was opened");
    }
    // None of it did the origin any harm.
    fill(&host, &origin, KEYS, 2, &OS);
    host.wait(origin.checkpoint("last")).unwrap();
    check(&host, &open(&host, "last"), KEYS, 2);
}

#[test]
fn damage_in_a_backup_is_found() {
    for name in ["index-", "segment-", "checkpoint-", "CURRENT"] {
        let machine = SimMachine::new(5);
        let host = machine.host();
        let origin = open(&host, "data");
        fill(&host, &origin, KEYS, 1, &OS);
        host.wait(origin.checkpoint("backup")).unwrap();
        drop(origin);
        let fs = machine.fs();
        let files = fs.list("backup").unwrap();
        let file = files.iter().find(|entry| entry.name.starts_with(name)).unwrap();
        let file = fs.open(&format!("backup/{}", file.name), OpenMode::ReadWrite).unwrap();
        let old = file.read_at(20, 1).wait().unwrap();
        file.write_at(20, vec![old[0] ^ 8]).wait().unwrap();
        let error = HybridLogEngine::open(&host, in_directory("backup")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{name}: {error}");
    }
}

/// With a page to a segment compaction is faster than a backup that copies: meanwhile checkpoints come
/// into force that begin after what it still needs.
#[test]
fn what_a_backup_needs_stays_until_it_is_done() {
    let machine = SimMachine::new(6);
    let host = machine.host();
    let config = HybridLogConfig { segment_bytes: support::PAGE, ..config() };
    let origin = HybridLogEngine::open(&host, config.clone()).unwrap();
    fill(&host, &origin, KEYS, 1, &OS);
    host.settle();
    machine.set_faults(FaultPlan::new().on(OpKind::Link, "", FaultKind::Error, u64::MAX));
    let checkpoints = stat(&origin, "checkpoints");
    let mut backup = origin.checkpoint("backup");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = || std::future::Future::poll(std::pin::Pin::new(&mut backup), &mut context);
    while stat(&origin, "checkpoints") == checkpoints {
        assert!(poll().is_pending());
        host.background.step();
    }
    // From here on the origin needs nothing of it.
    host.wait(origin.clear_keyspace(KS, &OS)).unwrap();
    let info = loop {
        if let std::task::Poll::Ready(info) = poll() {
            break info.unwrap();
        }
        host.wait(origin.put(KS, b"k", b"v", None, &OS)).unwrap();
        host.background.step();
    };
    assert!(info.bytes > KEYS * 100);
    assert!(stat(&origin, "checkpoints") > checkpoints + 2, "no other checkpoint came between");
    // With the next checkpoint.
    host.wait(origin.checkpoint("another")).unwrap();
    let segments = |directory: &str| {
        let names = host.fs.list(directory).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.starts_with("segment-")).collect::<Vec<_>>()
    };
    assert!(segments("data").len() < segments("backup").len() / 2, "it is removed in the end");
    let config = HybridLogConfig { directory: "backup".to_owned(), ..config };
    check(&host, &HybridLogEngine::open(&host, config).unwrap(), KEYS, 1);
}

/// What has moved to the object tier is fetched: the backup needs nothing of its origin's.
#[test]
fn segments_in_the_object_tier_are_in_it() {
    let machine = SimMachine::new(7);
    let host = machine.host();
    let tiered = HybridLogConfig {
        object: "objects".to_owned(),
        disk_bytes: 4 * config().segment_bytes,
        mapped_bytes: 2 * config().segment_bytes,
        ..config()
    };
    let origin = HybridLogEngine::open(&host, tiered).unwrap();
    fill(&host, &origin, KEYS, 1, &OS);
    host.settle();
    assert!(stat(&origin, "segments_object") > 3);
    host.wait(origin.checkpoint("backup")).unwrap();
    fill(&host, &origin, KEYS, 2, &OS);
    host.wait(origin.close()).unwrap();
    machine.fs().remove_dir_all("objects").unwrap();
    machine.fs().remove_dir_all("data").unwrap();
    check(&host, &open(&host, "backup"), KEYS, 1);
}
