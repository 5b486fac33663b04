//! Writes that fail, deletes that the log must have, directories that are damaged, closing.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use ferrokit_engine::{Durability, KeyspaceId, KvEngine, KvEngineExt, WriteOptions};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::Fs;
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind, SimMachine};
use support::{KS, MEMORY, OS, PAGE, config, stat};

const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}
/// Writes until so many checkpoints were taken or `limit` writes were made.
fn write_until(machine: &SimMachine, engine: &Arc<HybridLogEngine>, checkpoints: u64, limit: u64) {
    let host = machine.host();
    for n in 0..limit {
        if stat(engine, "checkpoints") >= checkpoints {
            return;
        }
        let _ = host.wait(engine.put(KS, &key(n % 50), &[7; 300], None, &SYNCED));
        host.settle();
    }
}

#[test]
fn a_synced_delete_after_an_unlogged_one_stays() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    host.wait(engine.put(KS, b"k", b"v", None, &SYNCED)).unwrap();
    host.wait(engine.delete(KS, b"k", &MEMORY)).unwrap();
    // Acknowledged as Synced.
    host.wait(engine.delete(KS, b"k", &SYNCED)).unwrap();
    assert_eq!(host.wait(engine.get(KS, b"k")).unwrap(), None);
    drop(engine);
    let after = machine.crash(CrashMode::KeepAll);
    let engine = HybridLogEngine::open(&after.host(), config()).unwrap();
    assert_eq!(after.host().wait(engine.get(KS, b"k")).unwrap(), None, "resurrected");
}

#[test]
fn a_synced_delete_after_an_unlogged_clear_stays() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    host.wait(engine.put(KS, b"k", b"v", None, &SYNCED)).unwrap();
    host.wait(engine.clear_keyspace(KS, &MEMORY)).unwrap();
    host.wait(engine.delete(KS, b"k", &SYNCED)).unwrap();
    drop(engine);
    let after = machine.crash(CrashMode::KeepAll);
    let engine = HybridLogEngine::open(&after.host(), config()).unwrap();
    assert_eq!(after.host().wait(engine.get(KS, b"k")).unwrap(), None, "resurrected");
}

/// The older checkpoint cannot be removed after CURRENT was replaced; then the next one cannot be
/// written.
#[test]
fn a_failed_removal_leaves_the_checkpoint_in_force() {
    let machine = SimMachine::new(2);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    write_until(&machine, &engine, 1, 5000);
    assert_eq!(stat(&engine, "checkpoints"), 1);
    // The second: published, then its clean-up fails once.
    machine.set_faults(FaultPlan::new().on(
        OpKind::Remove,
        "checkpoint-0000000000000001",
        FaultKind::Error,
        1,
    ));
    let current = |machine: &SimMachine| {
        let file = machine.fs().open("data/CURRENT", ferrokit_storage::OpenMode::Read).unwrap();
        let len = file.len().unwrap() as usize;
        String::from_utf8(file.read_at(0, len).wait().unwrap()).unwrap()
    };
    for n in 0..5000 {
        host.wait(engine.put(KS, &key(n % 50), &[7; 300], None, &SYNCED)).unwrap();
        host.settle();
        if current(&machine).starts_with("checkpoint-0000000000000002") {
            break;
        }
    }
    assert!(current(&machine).starts_with("checkpoint-0000000000000002"));
    // The third removes checkpoint-2, the one in force, and meets a full disk: no crash is needed.
    machine.set_faults(FaultPlan::new().on(
        OpKind::Create,
        "checkpoint-",
        FaultKind::NoSpace,
        u64::MAX,
    ));
    for n in 0..1000 {
        let _ = host.wait(engine.put(KS, &key(n % 50), &[8; 300], None, &SYNCED));
        host.settle();
    }
    drop(engine);
    machine.set_faults(FaultPlan::new());
    let after = machine.crash(CrashMode::KeepAll);
    let opened = HybridLogEngine::open(&after.host(), config());
    assert!(opened.is_ok(), "all data lost: {}", opened.err().unwrap());
}

#[test]
fn a_full_disk_while_a_checkpoint_is_written_is_not_the_end() {
    let machine = SimMachine::new(3);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    // The header passes, the chunks do not.
    let mut plan = FaultPlan::new();
    plan = plan.on(OpKind::Write, "checkpoint-", FaultKind::Slow { polls: 0 }, 1);
    plan = plan.on(OpKind::Write, "checkpoint-", FaultKind::NoSpace, 1);
    machine.set_faults(plan);
    for n in 0..1000 {
        let put = host.wait(engine.put(KS, &key(n % 50), &[7; 300], None, &SYNCED));
        assert!(put.is_ok(), "write {n}: {}", put.err().unwrap());
        host.settle();
    }
}

#[test]
fn a_missing_current_is_told_before_anything_is_deleted() {
    let machine = SimMachine::new(4);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    write_until(&machine, &engine, 3, 5000);
    drop(engine);
    let fs = machine.fs();
    fs.rename("data/CURRENT", "data/away").unwrap();
    let error = HybridLogEngine::open(&host, config()).err();
    assert!(error.is_some(), "opened empty");
    fs.rename("data/away", "data/CURRENT").unwrap();
    let again = HybridLogEngine::open(&host, config());
    assert!(again.is_ok(), "the data was deleted: {}", again.err().unwrap());
}

#[test]
fn a_write_that_waits_for_space_ends_when_the_engine_is_closed() {
    let machine = SimMachine::new(5);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let keys: Vec<Vec<u8>> = (0..3000).map(key).collect();
    // No step is made: at some point there is no frame left.
    let mut waiting = Vec::new();
    for key in &keys {
        let mut put = Box::pin(engine.put(KS, key, &[7; 100], None, &MEMORY));
        if put.as_mut().poll(&mut cx).is_pending() {
            waiting.push(put);
        }
    }
    assert!(!waiting.is_empty());
    host.wait(engine.close()).unwrap();
    // They run one after the other; each must end with an answer or an error.
    for put in waiting {
        let _ = host.wait(put);
    }
}

#[test]
fn a_second_close_does_not_end_before_the_first() {
    let machine = SimMachine::new(6);
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    host.wait(engine.put(KS, b"k", b"v", None, &MEMORY)).unwrap();
    {
        let mut first = pin!(engine.close());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        // Dropped: sound at any point.
    }
    host.wait(engine.close()).unwrap();
    let again = HybridLogEngine::open(&host, config());
    assert!(again.is_ok(), "closed, and: {}", again.err().unwrap());
}

#[test]
fn disk_space_follows_the_live_data_across_openings() {
    let machine = SimMachine::new(7);
    let host = machine.host();
    let config = HybridLogConfig { garbage_percent: 50, ..config() };
    for round in 0..40_u64 {
        let engine = HybridLogEngine::open(&host, config.clone()).unwrap();
        for n in 0..1000 {
            host.wait(engine.put(KS, &key(n), &[round as u8; 100], None, &MEMORY)).unwrap();
        }
        host.settle();
        host.wait(engine.close()).unwrap();
        let used = stat(&engine, "disk_bytes");
        assert!(used < 1000 * 160 * 5, "round {round}: {used} bytes for {} live ones", 1000 * 160);
    }
}

/// Their space numbers are none that clears used while the checkpoint was taken.
#[test]
fn added_keyspaces_are_empty() {
    for seed in 0..400 {
        let machine = SimMachine::new(seed);
        let host = machine.threaded_host();
        let few = HybridLogConfig {
            keyspaces: 1,
            checkpoint_bytes: 4 << 10,
            index_bytes: 64 << 10,
            ..config()
        };
        let engine = HybridLogEngine::open(&host, few.clone()).unwrap();
        for n in 0..150_u64 {
            ferrokit_engine::block_on(engine.clear_keyspace(KS, &OS)).unwrap();
            ferrokit_engine::block_on(engine.put(KS, b"k", &[n as u8; 100], None, &OS)).unwrap();
        }
        let taken = stat(&engine, "checkpoints");
        drop(engine);
        let after = machine.crash(CrashMode::ProcessKill);
        let host = after.host();
        let engine =
            HybridLogEngine::open(&host, HybridLogConfig { keyspaces: 64, ..few }).unwrap();
        for ks in 1..64 {
            let got = host.wait(engine.get(KeyspaceId(ks), b"k")).unwrap();
            assert_eq!(
                got.map(|it| it[0]),
                None,
                "seed {seed}, keyspace {ks}, {taken} checkpoints"
            );
        }
    }
}

#[test]
fn sixteen_gib_of_memory_can_be_configured() {
    let machine = SimMachine::new(1);
    let big = HybridLogConfig {
        memory_bytes: 16 << 30,
        page_bytes: 4 << 20,
        segment_bytes: 64 << 20,
        ..config()
    };
    big.check().unwrap();
    let opened = HybridLogEngine::open(&machine.host(), big);
    assert!(opened.is_ok(), "{}", opened.err().unwrap());
}

#[test]
fn less_memory_loses_no_batch() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine =
        HybridLogEngine::open(&host, HybridLogConfig { memory_bytes: 256 * PAGE, ..config() })
            .unwrap();
    let mut batch = ferrokit_engine::WriteBatch::new();
    for n in 0..60 {
        batch.put(KS, &key(n), &[7; 500], None);
    }
    host.wait(engine.write(&batch, &SYNCED)).unwrap();
    drop(engine);
    let after = machine.crash(CrashMode::KeepAll);
    match HybridLogEngine::open(
        &after.host(),
        HybridLogConfig { memory_bytes: 32 * PAGE, ..config() },
    ) {
        Err(error) => println!("an error, at least: {error}"),
        Ok(engine) => {
            assert!(
                after.host().wait(engine.get(KS, &key(1))).unwrap().is_some(),
                "acknowledged as Synced, and gone without a word"
            );
        }
    }
}

#[test]
fn a_write_that_fails_leaves_the_cold_key_as_it_was() {
    let machine = SimMachine::new(12);
    let host = machine.host();
    let engine =
        HybridLogEngine::open(&host, HybridLogConfig { checkpoint_bytes: 1 << 30, ..config() })
            .unwrap();
    for n in 0..4000 {
        host.wait(engine.put(KS, &key(n), &[7; 100], None, &MEMORY)).unwrap();
    }
    host.settle();
    assert_eq!(host.wait(engine.get(KS, &key(0))).unwrap(), Some(vec![7; 100]));
    let options = OS.reporting_existed();
    let first = key(0);
    // It has to read what is on disk, and is not polled yet.
    let write = engine.put(KS, &first, &[8; 100], None, &options);
    // Meanwhile the disk is full: the log gets no segment.
    let mut plan = FaultPlan::new();
    for kind in [OpKind::Create, OpKind::Allocate, OpKind::SetLen, OpKind::Rename] {
        plan = plan.on(kind, "log/", FaultKind::NoSpace, u64::MAX);
    }
    machine.set_faults(plan);
    let _full = (0..2000)
        .find(|n| host.wait(engine.put(KS, &key(5000 + n % 50), &[7; 300], None, &OS)).is_err());
    let failed = host.wait(write);
    assert!(failed.is_err());
    machine.set_faults(FaultPlan::new());
    assert_eq!(
        host.wait(engine.get(KS, &key(0))).unwrap(),
        Some(vec![7; 100]),
        "the old value is gone"
    );
}

#[test]
fn what_was_written_at_the_limit_of_the_index_is_opened() {
    let config = HybridLogConfig {
        index_bytes: 4 << 10,
        index_bytes_max: 4 << 10,
        checkpoint_bytes: 256 << 10,
        ..config()
    };
    for seed in 0..10_u64 {
        let mut machine = SimMachine::new(seed);
        let mut r = seed + 1;
        let mut next = 0_u64;
        let mut live = std::collections::VecDeque::new();
        for life in 0..20 {
            let host = machine.host();
            let engine = HybridLogEngine::open(&host, config.clone())
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            for _ in 0..1500 {
                r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                next += 1;
                if host.wait(engine.put(KS, &key(next), &[7; 200], None, &OS)).is_ok() {
                    live.push_back(next);
                }
                while live.len() > 250 {
                    let old = live.pop_front().unwrap();
                    host.wait(engine.delete(KS, &key(old), &OS)).unwrap();
                }
                if r >> 60 == 0 {
                    host.settle();
                }
            }
            drop(engine);
            machine = machine.crash(CrashMode::ProcessKill);
        }
    }
}

#[test]
fn pages_are_as_they_were_whatever_the_memory() {
    let machine = SimMachine::new(9);
    let host = machine.host();
    let open = |memory_bytes| {
        let segment_bytes = 64 << 20;
        let config = HybridLogConfig { memory_bytes, page_bytes: 0, segment_bytes, ..config() };
        HybridLogEngine::open(&host, config)
    };
    let engine = open(64 << 20).unwrap();
    let (long_key, long) = (vec![b'k'; 20 << 10], vec![7; 200 << 10]);
    host.wait(engine.put(KS, b"long", &long, None, &OS)).unwrap();
    host.wait(engine.put(KS, &long_key, b"v", None, &OS)).unwrap();
    drop(engine);
    // Nothing but the log tells, and it has what does not fit.
    let error = open(1 << 20).err().unwrap();
    assert!(error.to_string().contains("larger pages"), "{error}");
    let engine = open(64 << 20).unwrap();
    host.wait(engine.close()).unwrap();
    drop(engine);
    for memory_bytes in [4 << 20, 1 << 30] {
        let engine = open(memory_bytes).unwrap();
        assert_eq!(host.wait(engine.get(KS, b"long")).unwrap(), Some(long.clone()));
        assert!(host.wait(engine.get(KS, &long_key)).unwrap().is_some());
        host.wait(engine.close()).unwrap();
        drop(engine);
    }
    let named = HybridLogConfig {
        memory_bytes: 64 << 20,
        page_bytes: 64 << 10,
        segment_bytes: 64 << 20,
        ..config()
    };
    let error = HybridLogEngine::open(&host, named).err().unwrap();
    assert!(error.to_string().contains("was written with"), "{error}");
}
