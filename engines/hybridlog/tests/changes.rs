//! Change feeds over data that leave memory: what is told of, and what is not.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ferrokit_engine::{
    Change, ChangeBatch, ChangeFeed, ChangePosition, Changes, Clock, ErrorKind, KvEngine,
    KvEngineExt, UnixMillis, WriteBatch,
};
use ferrokit_hybridlog::HybridLogEngine;
use ferrokit_storage::Host;
use ferrokit_storage::sim::SimMachine;
use support::{KS, MEMORY, OS, config, stat};

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn open(machine: &SimMachine) -> (Host, Arc<HybridLogEngine>) {
    let host = machine.host();
    let engine = HybridLogEngine::open(&host, config()).unwrap();
    (host, engine)
}

fn subscribe(
    host: &Host,
    engine: &HybridLogEngine,
    from: Option<ChangePosition>,
) -> Box<dyn ChangeFeed> {
    host.wait(engine.subscribe(from)).unwrap()
}

/// What the feed says up to now, each change in words.
fn drain(host: &Host, engine: &HybridLogEngine, feed: &mut dyn ChangeFeed) -> Vec<String> {
    let mut said = Vec::new();
    let mut visit = |batch: &ChangeBatch<'_>| {
        for change in batch.changes {
            let (verb, key) = match *change {
                Change::Put { key, .. } => ("put", key),
                Change::Delete { key, .. } => ("delete", key),
                Change::Expired { key, .. } => ("expired", key),
                Change::Clear { .. } => ("clear", &b""[..]),
                Change::Swap { .. } => ("swap", &b""[..]),
            };
            said.push(format!("{verb} {}", String::from_utf8_lossy(key)));
        }
    };
    while feed.position() < engine.position() {
        host.wait(feed.next_with(1 << 16, &mut visit)).unwrap();
    }
    said
}

/// Writes other keys until everything older has left memory.
fn push_out(host: &Host, engine: &HybridLogEngine) {
    for n in 0..2000 {
        host.wait(engine.put(KS, &key(1000 + n), &[1; 100], None, &MEMORY)).unwrap();
    }
}

fn soon(machine: &SimMachine) -> Option<UnixMillis> {
    Some(Clock::now(machine.clock()).plus(100))
}

/// The words about one of the first keys.
fn about(said: &[String], n: u64) -> Vec<&str> {
    let name = String::from_utf8(key(n)).unwrap();
    said.iter().filter(|it| it.ends_with(&name)).map(|it| it.split(' ').next().unwrap()).collect()
}

#[test]
fn compaction_is_no_change() {
    let machine = SimMachine::new(1);
    let (host, engine) = open(&machine);
    for n in 0..500 {
        host.wait(engine.put(KS, &key(n), &[0; 100], None, &OS)).unwrap();
    }
    let mut feed = subscribe(&host, &engine, None);
    for round in 1..10 {
        for n in 0..400 {
            host.wait(engine.put(KS, &key(n), &[round; 100], None, &MEMORY)).unwrap();
        }
        host.settle();
    }
    assert!(stat(&engine, "records_moved") > 0, "nothing was moved");
    let said = drain(&host, &engine, &mut *feed);
    assert_eq!(said.len(), 9 * 400, "each write once, and nothing else");
    assert!((400..500).all(|n| about(&said, n).is_empty()));
}

/// The writes of a key whose record expired on disk: blind ones, ones that look, and batches.
#[test]
fn whoever_writes_over_an_expired_record_on_disk_tells_of_it_first() {
    let machine = SimMachine::new(2);
    let (host, engine) = open(&machine);
    for n in 0..6 {
        host.wait(engine.put(KS, &key(n), b"v", soon(&machine), &OS)).unwrap();
    }
    push_out(&host, &engine);
    machine.clock().advance(Duration::from_millis(200));
    let mut feed = subscribe(&host, &engine, None);
    host.wait(engine.put(KS, &key(0), b"new", None, &MEMORY)).unwrap();
    let seeing = MEMORY.reporting_existed();
    let written = host.wait(engine.put(KS, &key(1), b"new", None, &seeing)).unwrap();
    assert_eq!(written.existed, Some(false));
    host.wait(engine.delete(KS, &key(2), &MEMORY)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(KS, &key(3), b"new", None).delete(KS, &key(4));
    host.wait(engine.write(&batch, &MEMORY)).unwrap();
    assert_eq!(host.wait(engine.get(KS, &key(5))).unwrap(), None);
    host.settle();
    // And never again.
    for n in 0..6 {
        host.wait(engine.get(KS, &key(n))).unwrap();
    }
    host.settle();
    let said = drain(&host, &engine, &mut *feed);
    for n in [0, 1, 3] {
        assert_eq!(about(&said, n), ["expired", "put"], "key {n}");
    }
    for n in [2, 4] {
        assert_eq!(about(&said, n), ["expired", "delete"], "key {n}");
    }
    assert_eq!(about(&said, 5), ["expired"]);
}

#[test]
fn what_compaction_drops_has_expired_for_the_feed_too() {
    let machine = SimMachine::new(3);
    let (host, engine) = open(&machine);
    let mut feed = subscribe(&host, &engine, None);
    for n in 0..200 {
        host.wait(engine.put(KS, &key(n), &[0; 100], soon(&machine), &MEMORY)).unwrap();
    }
    machine.clock().advance(Duration::from_millis(200));
    // Nobody reads them again.
    for _ in 0..6 {
        push_out(&host, &engine);
        host.settle();
    }
    assert!(stat(&engine, "pages_compacted") > 10, "nothing was compacted");
    let said = drain(&host, &engine, &mut *feed);
    for n in 0..200 {
        assert_eq!(about(&said, n), ["put", "expired"], "key {n}");
    }
}

#[test]
fn nothing_behind_a_feed_is_trimmed_and_what_was_is_said_to_be() {
    let machine = SimMachine::new(4);
    let (host, engine) = open(&machine);
    let write = |rounds: u64| {
        let before = stat(&engine, "checkpoints");
        for n in 0..rounds * 1000 {
            host.wait(engine.put(KS, &key(n % 50), &[7; 300], None, &OS)).unwrap();
            if n % 100 == 0 {
                host.settle();
            }
        }
        assert!(stat(&engine, "checkpoints") > before + 2);
    };
    let start = engine.position();
    let mut feed = subscribe(&host, &engine, None);
    write(2);
    assert_eq!(drain(&host, &engine, &mut *feed).len(), 2000, "it is all there");
    drop(feed);
    write(2);
    let error = host.wait(engine.subscribe(Some(start))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// A feed that was forgotten keeps the log, but nothing else from being opened again.
#[test]
fn a_feed_outlives_its_engine_without_its_directory() {
    let machine = SimMachine::new(5);
    let (host, engine) = open(&machine);
    let mut feed = subscribe(&host, &engine, None);
    host.wait(engine.put(KS, b"k", b"v", None, &OS)).unwrap();
    drop(engine);
    let again = HybridLogEngine::open(&host, config());
    assert!(again.is_ok(), "{}", again.err().unwrap());
    let mut seen = 0;
    let mut visit = |_: &ChangeBatch<'_>| seen += 1;
    let end = loop {
        if let Err(error) = host.wait(feed.next_with(100, &mut visit)) {
            break error;
        }
    };
    assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
    assert!(seen <= 1);
}
