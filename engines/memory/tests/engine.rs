//! What the memory engine promises beyond the contract: its checkpoint files, its bounds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use ferrokit_engine::{
    Change, ChangeBatch, ChangePosition, Changes, Checkpoint, Durability, ErrorKind, Isolation,
    KeyspaceId, KvEngine, KvEngineExt, Snapshots, Transactions, UnixMillis, WriteBatch,
    WriteOptions,
};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_storage::sim::SimMachine;
use ferrokit_storage::{Host, OpenMode};

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);

fn open(host: &Host, config: MemoryConfig) -> Arc<MemoryEngine> {
    MemoryEngine::open(host, config).unwrap()
}

fn from_checkpoint(directory: &str) -> MemoryConfig {
    MemoryConfig { checkpoint: Some(directory.to_owned()), ..MemoryConfig::default() }
}

/// Several blocks, several keyspaces, empty and large values, an expiry.
fn filled(host: &Host) -> Arc<MemoryEngine> {
    let engine = open(host, MemoryConfig::default());
    for n in 0..3000u32 {
        let value = vec![b'v'; n as usize % 97];
        engine.put(KeyspaceId(n % 3), &n.to_be_bytes(), &value, None, &MEMORY).wait().unwrap();
    }
    engine.put(KS, b"", &vec![7; 200_000], None, &MEMORY).wait().unwrap();
    engine
}

#[test]
fn a_checkpoint_is_opened_as_it_was() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let engine = filled(&host);
    let later = host.env.clock.now().plus(1000);
    engine.put(KS, b"ttl", b"v", Some(later), &MEMORY).wait().unwrap();
    let running = engine.checkpoint("backup");
    engine.put(KS, b"after", b"v", None, &MEMORY).wait().unwrap();
    let info = host.wait(running).unwrap();
    assert_eq!(info.files, 1);
    let copy = open(&host, from_checkpoint("backup"));
    for keyspace in 0..3 {
        let all = |engine: &MemoryEngine| {
            let range = ferrokit_engine::KeyRange::ALL;
            host.wait(engine.scan(KeyspaceId(keyspace), &range, Default::default())).unwrap()
        };
        let mut expected = all(&engine);
        expected.retain(|(key, _)| key != b"after");
        assert_eq!(all(&copy), expected);
    }
    // Time does not go back for who opens it, and sequence numbers go on.
    machine.clock().set_wall(UnixMillis(1));
    let copy = open(&host, from_checkpoint("backup"));
    let written = copy.put(KS, b"n", b"", Some(UnixMillis(2)), &MEMORY).wait().unwrap();
    assert_eq!(written.sequence, None, "it expired long ago: nothing is stored");
    let written = copy.put(KS, b"n", b"", None, &MEMORY).wait().unwrap();
    assert!(written.sequence > info.sequence);
}

#[test]
fn a_damaged_or_unfinished_checkpoint_is_refused() {
    let machine = SimMachine::new(2);
    let host = machine.host();
    let engine = filled(&host);
    host.wait(engine.checkpoint("backup")).unwrap();
    let fs = &host.fs;
    let file = fs.open("backup/memory.checkpoint", OpenMode::ReadWrite).unwrap();
    let len = file.len().unwrap();
    for offset in (0..len).step_by(997).chain([8, len - 1, len - 5, len - 9]) {
        let good = file.read_at(offset, 1).wait().unwrap();
        file.write_at(offset, vec![good[0] ^ 4]).wait().unwrap();
        let error = MemoryEngine::open(&host, from_checkpoint("backup")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corruption, "byte {offset}: {error}");
        file.write_at(offset, good).wait().unwrap();
    }
    for cut in [0, 20, 36, 5000, len - 8, len - 1] {
        let bytes = file.read_at(0, cut as usize).wait().unwrap();
        fs.create_dir_all("cut").unwrap();
        let copy = fs.open("cut/memory.checkpoint", OpenMode::OpenOrCreate).unwrap();
        copy.set_len(0).wait().unwrap();
        copy.write_at(0, bytes).wait().unwrap();
        let error = MemoryEngine::open(&host, from_checkpoint("cut")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {cut}: {error}");
    }
    let error = host.wait(engine.checkpoint("backup")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let mut unfinished = engine.checkpoint("half");
    assert!(matches!(poll_once(&mut unfinished), std::task::Poll::Pending));
    host.background.step();
    drop(unfinished);
    host.settle();
    let error = MemoryEngine::open(&host, from_checkpoint("half")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx)
}

#[test]
fn a_full_change_log_slows_writers_and_loses_nothing() {
    let host = SimMachine::new(3).host();
    let config = MemoryConfig { change_log_bytes: 1000, ..MemoryConfig::default() };
    let engine = open(&host, config);
    engine.put(KS, b"before", b"", None, &MEMORY).wait().unwrap();
    let error = engine.subscribe(Some(ChangePosition(0))).wait().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut feed = engine.subscribe(None).wait().unwrap();
    let mut accepted = 0u32;
    loop {
        match engine.put(KS, &accepted.to_be_bytes(), b"v", None, &MEMORY).wait() {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy);
                break;
            }
        }
    }
    assert!(accepted > 5, "{accepted}");
    let mut seen = 0u32;
    let mut visit = |batch: &ChangeBatch<'_>| {
        assert!(matches!(batch.changes, [Change::Put { key, .. }] if **key == seen.to_be_bytes()));
        seen += 1;
    };
    feed.next_with(usize::MAX, &mut visit).wait().unwrap();
    assert_eq!(seen, accepted);
    engine.put(KS, b"again", b"", None, &MEMORY).wait().unwrap();
    assert_eq!(engine.stats().get("change_feeds_open"), Some(1));
    drop(feed);
    assert_eq!(engine.stats().get("change_log_bytes"), Some(0));
}

#[test]
fn views_and_tracked_keys_are_bounded() {
    let host = SimMachine::new(4).host();
    let config = MemoryConfig { max_views: 2, max_tracked_keys: 3, ..MemoryConfig::default() };
    let engine = open(&host, config);
    let snapshot = engine.snapshot().wait().unwrap();
    let options = ferrokit_engine::TransactionOptions { isolation: Isolation::Snapshot };
    let mut transaction = engine.begin(&options).wait().unwrap();
    assert_eq!(engine.snapshot().wait().err().unwrap().kind(), ErrorKind::Busy);
    transaction.put(KS, b"mine", b"", None).unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..5u8 {
        batch.put(KS, &[n], b"", None);
    }
    engine.write(&batch, &MEMORY).wait().unwrap();
    let error = transaction.commit(&MEMORY).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(snapshot);
    assert_eq!(engine.stats().get("views_open"), Some(0));
    assert_eq!(engine.stats().get("transactions_open"), Some(0));
}

#[test]
fn a_checkpoint_at_the_end_of_all_sequences_is_refused() {
    let machine = SimMachine::new(1);
    let host = machine.host();
    let mut bytes = b"FKMEMCP\0\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    bytes.extend_from_slice(&0_u64.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&0_u64.to_le_bytes()).to_le_bytes());
    host.fs.create_dir_all("end").unwrap();
    let file = host.fs.open("end/memory.checkpoint", OpenMode::CreateNew).unwrap();
    host.wait(file.write_at(0, bytes)).unwrap();
    let error = MemoryEngine::open(&host, from_checkpoint("end")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}
