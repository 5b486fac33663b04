//! What a failure of the device, or too much at once, does to those who wait.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use ferrokit_engine::{
    Change, ChangeBatch, Changes, Checkpoint, Durability, ErrorKind, KeyspaceId, KvEngine,
    KvEngineExt, UnixMillis, WriteBatch, WriteOptions,
};
use ferrokit_lsm::{LsmConfig, LsmEngine};
use ferrokit_storage::sim::{FaultKind, FaultPlan, OpKind, SimMachine};

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn config() -> LsmConfig {
    LsmConfig {
        memtable_bytes: 1024,
        sealed_memtables_max: 1,
        log_segment_bytes: 4096,
        ..LsmConfig::new("data")
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A writer that waits for a flush is told when the log fails, instead of sleeping on.
#[test]
fn a_waiting_writer_learns_of_a_failed_log() {
    let machine = SimMachine::new(21);
    let host = machine.host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    // No job runs until the host settles: the memtable is sealed and stays.
    while engine.stats().get("sealed_memtables").unwrap() == 0 {
        let _ = engine.put(KS, b"k", &[1; 200], None, &SYNCED.applied()).wait().unwrap();
    }
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut write = pin!(engine.put(KS, b"k", b"waits", None, &MEMORY));
    assert!(write.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    machine.set_faults(FaultPlan::new().on(OpKind::Write, "log", FaultKind::Error, 1));
    while machine.background().awake().iter().any(|name| name.contains("log")) {
        assert!(host.background.step());
    }
    host.settle();
    assert!(woken.0.load(Ordering::Acquire), "nobody woke the writer");
    match write.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(result) => assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned),
        Poll::Pending => panic!("the writer sleeps on"),
    }
}

/// What cannot be removed now is removed later: neither a flush nor the manifest fails for it.
#[test]
fn a_file_that_cannot_be_removed_stops_nothing() {
    let machine = SimMachine::new(22);
    let host = machine.host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    machine.set_faults(FaultPlan::new().on(OpKind::Remove, "", FaultKind::Error, u64::MAX));
    for n in 0..400u32 {
        host.wait(engine.put(KS, &n.to_be_bytes(), &[7; 100], None, &SYNCED)).unwrap();
    }
    host.settle();
    assert!(engine.stats().get("flushes").unwrap() > 3);
    host.wait(engine.close()).unwrap();
    drop(engine);
    machine.set_faults(FaultPlan::new());
    let engine = LsmEngine::open(&host, config()).unwrap();
    for n in 0..400u32 {
        assert!(host.wait(engine.get(KS, &n.to_be_bytes())).unwrap().is_some(), "{n}");
    }
}

/// Many checkpoints at once share what they flush, and are refused beyond a number.
#[test]
fn checkpoints_at_once_are_bounded() {
    let host = SimMachine::new(23).host();
    let engine = LsmEngine::open(&host, config()).unwrap();
    let written = host.wait(engine.put(KS, b"k", b"v", None, &MEMORY)).unwrap();
    let names: Vec<String> = (0..100).map(|n| format!("copy{n}")).collect();
    let mut waiting: Vec<_> = names.iter().map(|name| engine.checkpoint(name)).collect();
    let waker = Waker::from(Arc::new(Woken::default()));
    let mut refused = 0;
    waiting.retain_mut(|checkpoint| {
        match pin!(checkpoint).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Busy);
                refused += 1;
                false
            }
        }
    });
    assert_eq!((waiting.len(), refused), (64, 36));
    assert!(engine.stats().get("sealed_memtables").unwrap() <= 1, "each sealed a memtable");
    for checkpoint in waiting {
        host.wait(checkpoint).unwrap();
    }
    // The places are free again, and nothing new has to be flushed.
    let flushes = engine.stats().get("flushes").unwrap();
    let info = host.wait(engine.checkpoint("another")).unwrap();
    assert_eq!(info.sequence, written.sequence);
    assert_eq!(engine.stats().get("flushes").unwrap(), flushes);
}

/// A batch of the greatest size fits the log also where each of its keys replaces an expired entry.
#[test]
fn the_largest_batch_over_expired_entries() {
    let machine = SimMachine::new(24);
    let host = machine.host();
    let config = LsmConfig { value_bytes_max: 64 << 20, ..LsmConfig::new("data") };
    let engine = LsmEngine::open(&host, config).unwrap();
    let key = |n: u32| {
        let mut key = vec![b'k'; 60 << 10];
        key.extend_from_slice(&n.to_be_bytes());
        key
    };
    let most = engine.capabilities().max_batch_bytes;
    let soon = UnixMillis(host.env.clock.now().0 + 10);
    let mut batch = WriteBatch::new();
    let mut count = 0;
    while batch.bytes() + key(0).len() <= most {
        batch.put(KS, &key(count), b"", Some(soon));
        count += 1;
    }
    host.wait(engine.write(&batch, &MEMORY)).unwrap();
    machine.clock().set_wall(UnixMillis(soon.0 + 1));
    let mut feed = host.wait(engine.subscribe(None)).unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..count {
        batch.put(KS, &key(n), b"", None);
    }
    host.wait(engine.write(&batch, &SYNCED)).unwrap();
    let counts = Mutex::new((0, 0));
    while *counts.lock().unwrap() != (count, count) {
        let mut visit = |batch: &ChangeBatch<'_>| {
            for change in batch.changes {
                match change {
                    Change::Expired { .. } => counts.lock().unwrap().0 += 1,
                    Change::Put { .. } => counts.lock().unwrap().1 += 1,
                    other => panic!("{other:?}"),
                }
            }
        };
        host.wait(feed.next_with(1 << 20, &mut visit)).unwrap();
    }
}
