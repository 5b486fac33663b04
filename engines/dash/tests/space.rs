//! Space: it is used again, dead records give it back, and where there is none left it is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ferrokit_dash::{DashConfig, DashEngine};
use ferrokit_engine::{
    Durability, Error, ErrorKind, KeyspaceId, KvEngine, KvEngineExt, Result, UnixMillis,
    WriteBatch, WriteOptions, block_on,
};
use ferrokit_storage::pmem::{
    EmulatedPmem, Pmem, PmemKind, PmemProvider, PmemRegion, ShadowProvider, StoreObserver,
};
use ferrokit_storage::sim::SimMachine;

const MEMORY: WriteOptions = WriteOptions::with_durability(Durability::Memory);
const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

fn open(machine: &SimMachine, capacity_bytes: u64) -> Arc<DashEngine> {
    DashEngine::open(&machine.host(), DashConfig { capacity_bytes }).unwrap()
}

/// Puts entries of 200 bytes until the engine is full; answers how many it took.
fn fill(engine: &DashEngine, expire_at: Option<UnixMillis>) -> u32 {
    for number in 0.. {
        let key = u32::to_le_bytes(number);
        let put = engine.put(KEYSPACE, &key, &[1; 200], expire_at, &MEMORY);
        if let Err(error) = put.wait() {
            assert_eq!(error.kind(), ErrorKind::OutOfSpace);
            return number;
        }
    }
    unreachable!("an engine of bounded capacity took everything");
}

#[test]
fn replaced_records_give_their_space_back() {
    let engine = open(&SimMachine::new(1), 4 << 20);
    for round in 0..100_000_u32 {
        let value = vec![round as u8; 100 + round as usize % 5];
        engine.put(KEYSPACE, &[round as u8 % 32], &value, None, &MEMORY).wait().unwrap();
    }
}

#[test]
fn a_full_engine_says_so_and_keeps_what_it_has() {
    let engine = open(&SimMachine::new(1), 4 << 20);
    let count = fill(&engine, None);
    assert!(count > 10_000, "{count} entries of 240 bytes in 4 MiB");
    let mut batch = WriteBatch::new();
    for number in 0..10_000_u32 {
        batch.put(KEYSPACE, &number.to_le_bytes(), &[2; 200], None);
    }
    assert_eq!(engine.write(&batch, &MEMORY).wait().unwrap_err().kind(), ErrorKind::OutOfSpace);
    for number in 0..count {
        let value = block_on(engine.get(KEYSPACE, &number.to_le_bytes())).unwrap();
        assert_eq!(value.as_deref(), Some(&[1; 200][..]), "{number}");
    }
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, u64::from(count));
}

#[test]
fn expired_and_cleared_records_make_space_for_others() {
    let machine = SimMachine::new(1);
    let engine = open(&machine, 4 << 20);
    let now = ferrokit_engine::Clock::now(machine.clock());
    let count = fill(&engine, Some(now.plus(1000)));
    machine.clock().advance(std::time::Duration::from_secs(2));
    let again = fill(&engine, None);
    assert!(again * 10 > count * 8, "{again} after {count}");
    engine.clear_keyspace(KEYSPACE, &MEMORY).wait().unwrap();
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 0);
    let again = fill(&engine, None);
    assert!(again * 10 > count * 8, "{again} after {count}");
}

#[test]
fn the_job_collects_what_a_read_found_expired_and_what_was_cleared() {
    let machine = SimMachine::new(1);
    let (host, engine) = (machine.host(), open(&machine, 4 << 20));
    let now = ferrokit_engine::Clock::now(machine.clock());
    engine.put(KEYSPACE, b"k", b"v", Some(now.plus(10)), &MEMORY).wait().unwrap();
    machine.clock().advance(std::time::Duration::from_secs(1));
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 1);
    assert_eq!(block_on(engine.get(KEYSPACE, b"k")).unwrap(), None);
    host.settle();
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 0);
    engine.put(KEYSPACE, b"k", b"v", None, &MEMORY).wait().unwrap();
    engine.clear_keyspace(KEYSPACE, &MEMORY).wait().unwrap();
    host.settle();
    assert_eq!(engine.keyspace_len(KEYSPACE).wait().unwrap().entries, 0);
    engine.close().wait().unwrap();
    assert_eq!(block_on(engine.get(KEYSPACE, b"k")).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_region_with_a_table_is_not_overwritten() {
    let (machine, provider) = (SimMachine::new(1), ShadowProvider::new());
    let config = DashConfig { capacity_bytes: 1 << 20 };
    let open = || DashEngine::open_on(&machine.host(), config.clone(), &provider);
    let engine = open().unwrap();
    engine.put(KEYSPACE, b"k", b"v", None, &MEMORY).wait().unwrap();
    assert_eq!(open().err().unwrap().kind(), ErrorKind::Locked);
    provider.crash(ferrokit_storage::pmem::Survival::Fenced);
    assert_eq!(open().err().unwrap().kind(), ErrorKind::Unsupported);
    // Nor is one that cannot be read: word 4 is the checksum of the header, word 1 its version.
    for (word, kind) in [(4, ErrorKind::Corruption), (1, ErrorKind::VersionTooNew)] {
        let with_word = |change: fn(u64) -> u64| {
            let region = PmemRegion::new(provider.open("table.dash", 1 << 20).unwrap());
            region.store_persist(word * 8, change(region.load(word * 8))).unwrap();
        };
        with_word(|word| word + 1);
        assert_eq!(open().err().unwrap().kind(), kind);
        with_word(|word| word - 1);
        assert_eq!(open().err().unwrap().kind(), ErrorKind::Unsupported, "it is whole again");
    }
}

/// Memory of which only so many fences succeed.
struct Failing {
    memory: EmulatedPmem,
    fences_left: AtomicU32,
}

impl Pmem for Failing {
    fn kind(&self) -> PmemKind {
        self.memory.kind()
    }
    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }
    fn observer(&self) -> Option<&dyn StoreObserver> {
        None
    }
    fn grow(&self, bytes: u64) -> Result<()> {
        self.memory.grow(bytes)
    }
    fn flush(&self, offset: u64, len: u64) {
        self.memory.flush(offset, len);
    }
    fn fence(&self) -> Result<()> {
        let left = self.fences_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(Error::io("pmem.fence", std::io::Error::other("planted")));
        }
        self.fences_left.store(left - 1, Ordering::Relaxed);
        self.memory.fence()
    }
    fn stream(&self, first_word: usize, values: &[u64]) {
        self.memory.stream(first_word, values);
    }
}

struct FailingProvider(Arc<Failing>);

impl PmemProvider for FailingProvider {
    fn open(&self, _: &str, _: u64) -> Result<Arc<dyn Pmem>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Pmem>)
    }
}

#[test]
fn a_batch_that_a_region_failed_never_shares_its_space_with_others() {
    for fences in 0..6 {
        let memory = EmulatedPmem::new(4 << 20).unwrap();
        let region = Arc::new(Failing { memory, fences_left: AtomicU32::new(u32::MAX) });
        let config = DashConfig { capacity_bytes: 4 << 20 };
        let provider = FailingProvider(Arc::clone(&region));
        let engine = DashEngine::open_on(&SimMachine::new(1).host(), config, &provider).unwrap();
        let keys = [&b"a"[..], b"b", b"c"];
        let mut batch = WriteBatch::new();
        for key in keys {
            engine.put(KEYSPACE, key, &[1; 100], None, &MEMORY).wait().unwrap();
            batch.put(KEYSPACE, key, &[2; 100], None);
        }
        region.fences_left.store(fences, Ordering::Relaxed);
        let is_written = engine.write(&batch, &MEMORY).wait().is_ok();
        assert_eq!(is_written, fences > 3, "one for each record, one for the slots");
        for number in 0..100_u32 {
            let _ = engine.put(KEYSPACE, &number.to_le_bytes(), &[3; 100], None, &MEMORY).wait();
        }
        for key in keys {
            let value = block_on(engine.get(KEYSPACE, key)).unwrap().expect("it was never deleted");
            assert!(value == [1; 100] || value == [2; 100], "{fences} fences: {value:?}");
        }
    }
}
