//! Tests of races that take a pause at the right place.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::sync::Mutex;
use std::time::Duration;

use ferrokit_engine::{
    CommitTicket, Durability, Entry as Lent, Env, Error, ErrorKind, KeyspaceId, Result, block_on,
};
use ferrokit_storage::sim::SimMachine;

use super::chain::Lookup;
use super::write::blueprint;
use super::{Intent, Store};
use crate::config::HybridLogConfig;
use crate::index::table::Access;
use crate::log::Purpose;
use crate::primitive::Ordering;

const KS: KeyspaceId = KeyspaceId(0);

thread_local! {
    /// What happens in the next search, before it looks at its entry's chain.
    static PAUSE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// The place of the pause.
pub(super) fn pause() {
    if let Some(pause) = PAUSE.with(|it| it.borrow_mut().take()) {
        pause();
    }
}

fn config() -> HybridLogConfig {
    HybridLogConfig {
        directory: "data".to_owned(),
        memory_bytes: 64 << 12,
        page_bytes: 4 << 10,
        index_bytes: 1 << 16,
        segment_bytes: 64 << 10,
        keyspaces: 2,
        ..HybridLogConfig::default()
    }
}

/// A store in whose oldest page, on disk, "the key" lies; that page is to be compacted.
fn with_a_cold_key(machine: &SimMachine) -> Store {
    let store = Store::open(&machine.host(), &config()).unwrap().0;
    store.put(Intent::plain(KS, b"the key"), b"value", None).wait().unwrap();
    for n in 0..4000_u32 {
        let _ = store.tend();
        let name = n.to_le_bytes();
        machine.host().wait(store.put(Intent::plain(KS, &name), &[0; 100], None)).unwrap();
    }
    assert_eq!(read(machine, &store).as_deref(), Some(&b"value"[..]));
    store.collect_before_page.store(store.log.begin_page() + 2, Ordering::SeqCst);
    store
}

fn read(machine: &SimMachine, store: &Store) -> Option<Vec<u8>> {
    let mut value = None;
    let mut visit = |entry: Lent<'_>| value = Some(entry.value.to_vec());
    machine.host().wait(store.get(KS, b"the key", &mut visit)).unwrap();
    value
}

fn compact(store: &Store) -> Result<bool> {
    store.compact_disk(store.tiers.as_ref().unwrap())
}

#[test]
fn a_key_that_compaction_moves_is_never_absent() {
    let machine = SimMachine::new(1);
    let store: &'static Store = Box::leak(Box::new(with_a_cold_key(&machine)));
    let page = store.log.begin_page();
    PAUSE.with(|it| {
        *it.borrow_mut() = Some(Box::new(|| {
            std::thread::scope(|scope| {
                assert!(scope.spawn(|| compact(store)).join().unwrap().unwrap());
            });
        }));
    });
    assert_eq!(read(&machine, store).as_deref(), Some(&b"value"[..]));
    assert_eq!(store.log.begin_page(), page + 1, "its page was given up meanwhile");
}

#[test]
fn a_write_that_fails_does_not_let_compaction_drop_what_lives() {
    let machine = SimMachine::new(1);
    let store = with_a_cold_key(&machine);
    std::thread::scope(|scope| {
        let guard = store.epochs.enter();
        let space = store.keyspaces.load(&guard).unwrap().of(KS).unwrap().id();
        let name = store.name(space, b"the key");
        let table = store.table_for(&name, &guard).unwrap();
        let Lookup::Cold(cold) = store.find(table, &name, Access::Shared).unwrap() else {
            panic!("it is not on disk")
        };
        let compaction = Mutex::new(None);
        // Compaction comes by while the new record is linked, and the log has no room for it.
        let append = || -> Result<CommitTicket> {
            *compaction.lock().unwrap() = Some(scope.spawn(|| compact(&store)));
            block_on(Env::system().timer.sleep(Duration::from_millis(200)));
            Err(Error::new(ErrorKind::OutOfSpace, "log.append", "no segment"))
        };
        let plan = blueprint(&name, b"new value"[..].into(), 0, 9);
        let (place, previous) = ((cold.slot, cold.head), cold.head.address());
        let put = store.insert_at(place, previous, &plan, Purpose::Write, Some(&append));
        assert!(put.is_err());
        drop(guard);
        let compaction = compaction.into_inner().unwrap().unwrap();
        assert!(compaction.join().unwrap().unwrap());
    });
    assert_eq!(read(&machine, &store).as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_sweep_waits_for_the_exchange_it_saw() {
    let machine = SimMachine::new(1);
    let config = HybridLogConfig { index_bytes: 64, ..config() };
    let store = Store::open(&machine.host(), &config).unwrap().0;
    store.put(Intent::plain(KS, b"the key"), b"value", None).wait().unwrap();
    let swap = store.swap_keyspaces(KS, KeyspaceId(1), Durability::Synced).unwrap();
    assert!(swap.synced > 0);
    let swept = std::thread::scope(|scope| {
        let inside = store.epochs.enter();
        // When the sweep ends, another exchange is under way.
        let mut visit = |_: &[u8], _: Lent<'_>| {
            scope.spawn(|| store.clear_keyspace(KS, Durability::Memory).unwrap());
            while !store.keyspaces.is_closed() {
                std::thread::yield_now();
            }
        };
        let swept = store.sweep(KeyspaceId(1), 0, 1, &mut visit).wait().unwrap();
        drop(inside);
        swept
    });
    assert_eq!(swept.visited, 1);
    assert!(swept.ticket.synced >= swap.synced, "{:?} against {swap:?}", swept.ticket);
}
