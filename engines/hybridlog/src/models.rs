//! Loom models of the protocols that stand on memory order. They run the real code:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test -p ferrokit-hybridlog --lib --release models
//! ```

use loom::sync::Arc;
use loom::thread;

use crate::address::LogicalAddress;
use crate::disk::image::{read_record, seal_page};
use crate::epoch::{Epochs, Protected};
use crate::index::entry::{Entry, KeyHash, TagBits};
use crate::index::latches::Latches;
use crate::index::table::{Access, Table};
use crate::index::{Chains, Node, migrate_bucket};
use crate::interrupt::Interrupt;
use crate::keyspaces::Keyspaces;
use crate::log::record::{Blueprint, Born, End, Record};
use crate::log::{Purpose, RecordLog, Span};
use crate::primitive::{AtomicU64, Ordering};

const HASH: KeyHash = KeyHash(0x0123_4567_0000_0000);
const OTHER: KeyHash = KeyHash(0x7654_3210_0000_0000);

/// Explores all interleavings with up to `preemptions` involuntary switches.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Bits that no small table needs: what an entry belongs to is asked of its records.
fn untold() -> TagBits {
    TagBits::for_tables_up_to(1 << 32)
}

fn address(number: u64) -> LogicalAddress {
    LogicalAddress::from_low_bits(number)
}

/// One insert; whether it did not step back before another one.
fn find_or_create(table: &Table) -> bool {
    match table.find_or_create(HASH, Access::Shared, LogicalAddress::NULL) {
        Ok((slot, entry)) => {
            assert_eq!(entry.tag(), HASH.tag());
            assert_eq!(slot.load(), entry);
            true
        }
        Err(Interrupt::Again) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn two_inserts_of_one_tag_make_one_entry() {
    explore(3, || {
        let table = Arc::new(Table::new(1, 0).unwrap());
        let Ok((first, _)) = table.find_or_create(OTHER, Access::Shared, LogicalAddress::NULL)
        else {
            panic!("an empty table has room")
        };
        let filled = Entry::new(OTHER.tag(), address(8));
        assert!(first.exchange(first.load(), filled));
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                // The first slot becomes free, so that the two threads claim different ones.
                assert!(table.slot(0, 0).exchange(filled, Entry::FREE));
                find_or_create(&table)
            })
        };
        let mine = find_or_create(&table);
        let theirs = other.join().unwrap();
        let entries = table.slots(0).filter(|slot| slot.load().tag() == HASH.tag()).count();
        let expected = usize::from(mine || theirs);
        assert_eq!(entries, expected, "with two entries of a tag one of two keys would be lost");
    });
}

#[test]
fn a_reader_never_sees_half_of_an_overwrite() {
    explore(4, || {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..8).map(|_| AtomicU64::new(0)).collect());
        let plan = Blueprint {
            space: 1,
            hash_low: 0,
            key: b"k",
            value: &[1; 8],
            expire_at: 1,
            capacity: 16,
            is_tombstone: false,
            is_long: false,
        };
        Record::at(&words).write_new(&plan, LogicalAddress::NULL, Born::Free);
        let writer = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                let record = Record::at(&words);
                record.latch().unwrap().overwrite(&[2; 16], 2);
                record.latch().unwrap().end(End::Removed);
            })
        };
        let mut value = Vec::new();
        if let Ok(copied) = Record::at(&words).read(&mut value) {
            let is_old = value == [1; 8] && copied.expire_at == 1;
            let is_new = value == [2; 16] && copied.expire_at == 2;
            assert!(is_old || is_new, "torn: {value:?} {copied:?}");
        }
        writer.join().unwrap();
    });
}

/// Records of which all belong to one key.
struct OneKey;

impl Chains for OneKey {
    fn begin(&self) -> LogicalAddress {
        LogicalAddress::NULL
    }
    fn head(&self) -> LogicalAddress {
        LogicalAddress::NULL
    }
    fn node(&self, _: LogicalAddress) -> Node {
        Node { hash_low: HASH.low(), previous: LogicalAddress::NULL, is_dead: false }
    }
}

#[test]
fn an_exchange_is_not_lost_to_growth() {
    explore(3, || {
        let old = Table::new(1, 0).unwrap();
        let (slot, entry) = old.find_or_create(HASH, Access::Shared, LogicalAddress::NULL).unwrap();
        assert!(slot.exchange(entry, Entry::new(HASH.tag(), address(8))));
        let tables = Arc::new((old, Table::new(2, 0).unwrap()));
        let grower = {
            let tables = Arc::clone(&tables);
            thread::spawn(move || {
                assert!(migrate_bucket(&tables.0, &tables.1, 0, untold(), &OneKey).unwrap());
            })
        };
        // A writer that knows only the old table.
        let newer = Entry::new(HASH.tag(), address(16));
        let is_linked = match tables.0.find(HASH, Access::Shared) {
            Ok(found) => {
                let (slot, entry) = found.unwrap();
                slot.exchange(entry, newer)
            }
            Err(_) => false,
        };
        // A reader that knows both finds the entry in one of them.
        if tables.0.control(0).is_migrated() {
            assert!(tables.1.find(HASH, Access::Shared).unwrap().is_some());
        }
        grower.join().unwrap();
        let (_, entry) = tables.1.find(HASH, Access::Shared).unwrap().unwrap();
        let expected = address(if is_linked { 16 } else { 8 });
        assert_eq!(entry.address(), expected, "the newer record was lost to the migration");
        assert!(tables.0.find(HASH, Access::Shared).is_err(), "the old table is closed");
    });
}

#[test]
fn who_saw_one_write_of_a_batch_waits_for_the_others() {
    explore(3, || {
        // Two keys in two buckets; what a record would hold is the entry's address.
        let table = Arc::new(Table::new(2, 0).unwrap());
        let keys = [KeyHash(HASH.0), KeyHash(HASH.0 | 1)];
        for key in keys {
            let (slot, entry) =
                table.find_or_create(key, Access::Shared, LogicalAddress::NULL).unwrap();
            assert!(slot.exchange(entry, Entry::new(key.tag(), address(8))));
        }
        let batch = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let mut latches = Latches::take(&table, keys.into_iter()).unwrap();
                for key in keys {
                    let (slot, _) = table.find(key, Access::Holder).unwrap().unwrap();
                    let entry = latches.hold(slot);
                    slot.store_held(entry.with_address(address(16)));
                }
                latches.mark_changed();
            })
        };
        let read = |key| match table.find(key, Access::Shared) {
            Ok(found) => Some(found.unwrap().1.address()),
            Err(_) => None,
        };
        for [first, second] in [keys, [keys[1], keys[0]]] {
            if read(first) == Some(address(16)) {
                assert_ne!(read(second), Some(address(8)), "half of a batch");
            }
        }
        batch.join().unwrap();
    });
}

#[test]
fn a_replaced_value_is_not_freed_under_its_reader() {
    struct Freed(Arc<AtomicU64>);
    impl Drop for Freed {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }
    explore(3, || {
        let freed = Arc::new(AtomicU64::new(0));
        let unused = Arc::new(AtomicU64::new(0));
        let epochs = std::sync::Arc::new(Epochs::new(2));
        let value = Protected::new(Freed(Arc::clone(&freed)), std::sync::Arc::clone(&epochs));
        let shared = Arc::new((epochs, value));
        let reader = {
            let (shared, freed) = (Arc::clone(&shared), Arc::clone(&freed));
            thread::spawn(move || {
                let guard = shared.0.enter();
                let value = shared.1.load(&guard);
                if Arc::ptr_eq(&value.0, &freed) {
                    assert_eq!(freed.load(Ordering::SeqCst), 0, "freed while it is borrowed");
                }
            })
        };
        shared.1.replace(Freed(Arc::clone(&unused)));
        shared.0.run_actions();
        reader.join().unwrap();
        shared.0.run_actions();
        assert_eq!(freed.load(Ordering::SeqCst), 1);
    });
}

/// A log of a few tiny pages, and a record in the first of them, which is closed.
fn log_with_a_record(frames: usize) -> (std::sync::Arc<Epochs>, std::sync::Arc<RecordLog>) {
    let epochs = std::sync::Arc::new(Epochs::new(2));
    let log = RecordLog::new(frames, 3, std::sync::Arc::clone(&epochs), Span::EMPTY).unwrap();
    let log = std::sync::Arc::new(log);
    write_record(&log, 1);
    assert_eq!(log.close_tail().unwrap(), 2);
    (epochs, log)
}

/// Appends a record whose value is 8 times `byte`.
fn write_record(log: &RecordLog, byte: u8) -> LogicalAddress {
    let value = [byte; 8];
    let plan = Blueprint {
        space: 1,
        hash_low: 0,
        key: b"k",
        value: &value,
        expire_at: 0,
        capacity: 8,
        is_tombstone: false,
        is_long: false,
    };
    let address = log.allocate(plan.words(), Purpose::Compaction).unwrap();
    log.record(address).write_new(&plan, LogicalAddress::NULL, Born::Free);
    address
}

#[test]
fn a_flushed_page_holds_every_update_in_place() {
    explore(3, || {
        let (epochs, log) = log_with_a_record(3);
        let record = LogicalAddress::new(1, 0, 3);
        let shared = Arc::new((epochs, log));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (epochs, log) = &*shared;
                let _guard = epochs.enter();
                let is_mutable = log.is_mutable(record);
                if is_mutable {
                    log.record(record).latch().unwrap().overwrite(&[2; 8], 0);
                }
                is_mutable
            })
        };
        let (epochs, log) = &*shared;
        let safe = log.set_read_only(2);
        epochs.wait_safe(safe).unwrap();
        let bytes = seal_page(log.page_words_of(1), record);
        let flushed = read_record(&bytes, record).unwrap().value[0];
        let is_updated = writer.join().unwrap();
        assert_eq!(flushed, if is_updated { 2 } else { 1 }, "an update in place was not flushed");
    });
}

#[test]
fn an_evicted_page_is_not_written_over_under_its_reader() {
    explore(3, || {
        let (epochs, log) = log_with_a_record(2);
        let record = LogicalAddress::new(1, 0, 3);
        let shared = Arc::new((epochs, log));
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (epochs, log) = &*shared;
                let _guard = epochs.enter();
                if record >= log.head() {
                    let mut value = Vec::new();
                    log.record(record).read(&mut value).unwrap();
                    assert_eq!(value, [1; 8], "the frame has another page");
                }
            })
        };
        let (epochs, log) = &*shared;
        log.evict_oldest();
        epochs.run_actions();
        if log.free_frames() > 0 {
            write_record(log, 3);
            assert_eq!(log.close_tail().unwrap(), 3);
            write_record(log, 4);
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_checkpoint_has_a_write_as_a_whole_or_the_log_has_it() {
    explore(3, || {
        // One slot: which one a thread prefers would depend on the executions before.
        let epochs = std::sync::Arc::new(Epochs::new(1));
        let keyspaces = Keyspaces::new(1, std::sync::Arc::clone(&epochs));
        // The log of a write, whether all are logged, and what a write changes, in two places.
        let words: [AtomicU64; 4] = std::array::from_fn(|_| AtomicU64::new(0));
        let shared = Arc::new((epochs, keyspaces, words));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (epochs, keyspaces, [logged, logs_all, first, second]) = &*shared;
                let guard = epochs.enter();
                // Its gate is closed: it would come again later.
                if keyspaces.load(&guard).is_err() {
                    return;
                }
                if logs_all.load(Ordering::Acquire) != 0 {
                    logged.store(1, Ordering::Release);
                }
                first.store(1, Ordering::Release);
                second.store(1, Ordering::Release);
            })
        };
        let (_, keyspaces, [logged, logs_all, first, second]) = &*shared;
        keyspaces.in_a_still_moment("model", |_, _| logs_all.store(1, Ordering::SeqCst)).unwrap();
        let copied = [second.load(Ordering::Acquire), first.load(Ordering::Acquire)];
        writer.join().unwrap();
        let is_whole = copied[0] == copied[1];
        assert!(is_whole || logged.load(Ordering::Acquire) == 1, "half of a write, and no log");
    });
}
