//! The store over the memory engine: transactions, watches, races.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{
    Direction, Durability, Entry, Env, KeyRange, KeyspaceId, KvEngine, ScanLimits, block_on,
};
use ferrokit_redis::{
    ClientId, Db, Expiry, KeySet, Refusal, RefusalKind, Rewrite, Store, Tally, Transaction,
    WatchList,
};
use ferrokit_storage::{Host, IoBackend};

const DB0: KeyspaceId = KeyspaceId(0);
const ME: ClientId = ClientId(1);

fn store() -> Store {
    let host = Host::system(IoBackend::Threads).unwrap();
    let engine: Arc<dyn KvEngine> = ferrokit_engines::open(&host, "memory:").unwrap();
    Store::new(engine, &Env::system())
}

fn with<T>(store: &Store, run: impl AsyncFnOnce(&mut Db<'_>) -> Result<T, Refusal>) -> T {
    let mut tally = Tally::default();
    let mut db = store.db(DB0, ME, &mut tally);
    block_on(run(&mut db)).unwrap()
}

fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = None;
    with(store, async |db| db.get(key, |bytes| value = Some(bytes.to_vec())).await);
    value
}

/// Futures of the store go from thread to thread.
#[test]
fn operations_are_send() {
    fn check<T: Send>(_: T) {}
    let store = store();
    let mut tally = Tally::default();
    let mut db = store.db(DB0, ME, &mut tally);
    check(db.set(b"k", b"v", None));
    check(db.append(b"k", b"v"));
    check(db.delete(&[b"a", b"b"]));
    check(db.rename(b"a", b"b", false));
    check(db.set_many(&[(b"a", b"1")], true));
    check(db.flush_all());
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does_before_it_commits() {
    let store = store();
    let mut tally = Tally::default();
    let mut transaction =
        block_on(Transaction::begin(&store, KeySet::of([(DB0, b"a".as_slice())])));
    let mut db = store.db(DB0, ME, &mut tally).inside(transaction.overlay());
    block_on(db.set(b"a", b"1", None)).unwrap();
    assert_eq!(block_on(db.incr_by(b"a", 5)).unwrap(), 6);
    assert_eq!(block_on(db.delete(&[b"a"])).unwrap(), 1);
    assert_eq!(block_on(db.append(b"a", b"xy")).unwrap(), 2);
    assert_eq!(get(&store, b"a"), None);
    block_on(transaction.commit(ME, &mut tally)).unwrap();
    assert_eq!(get(&store, b"a").as_deref(), Some(b"xy".as_slice()));
}

#[test]
fn a_dropped_transaction_changes_nothing_and_releases_its_keys() {
    let store = store();
    let mut tally = Tally::default();
    let mut transaction = block_on(Transaction::begin(&store, KeySet::all()));
    let mut db = store.db(DB0, ME, &mut tally).inside(transaction.overlay());
    block_on(db.set(b"a", b"1", None)).unwrap();
    drop(transaction);
    assert_eq!(get(&store, b"a"), None);
    with(&store, async |db| db.set(b"a", b"2", None).await);
    assert_eq!(get(&store, b"a").as_deref(), Some(b"2".as_slice()));
}

#[test]
fn a_watch_sees_every_kind_of_change_and_no_other() {
    let store = store();
    let mut tally = Tally::default();
    let mut watch = async |change: &dyn Fn(&Store)| {
        let mut list = WatchList::default();
        store.watch(&mut list, DB0, b"k", &mut tally).await.unwrap();
        change(&store);
        let is_touched = list.is_touched(store.now());
        store.unwatch(&mut list);
        is_touched
    };
    let set = |store: &Store| with(store, async |db| db.set(b"k", b"v", None).await);
    assert!(!block_on(watch(&|_| ())));
    assert!(block_on(watch(&set)));
    assert!(!block_on(watch(&|store| {
        with(store, async |db| db.set(b"other", b"v", None).await);
        with(store, async |db| db.persist(b"k").await);
        with(store, async |db| db.set_many(&[(b"k", b"w")], true).await);
    })));
    assert!(block_on(watch(&|store| {
        with(store, async |db| db.rename(b"k", b"l", false).await);
    })));
    assert!(!block_on(watch(&|store| with(store, async |db| db.flush().await))), "it is not there");
    set(&store);
    assert!(block_on(watch(&|store| with(store, async |db| db.flush_all().await))));
    set(&store);
    assert!(block_on(watch(&|store| {
        with(store, async |db| db.swap(DB0, KeyspaceId(3)).await);
    })));
}

/// A view, and a transaction, may write at another durability than the store: the engine refuses one
/// that it cannot give, and changes nothing.
#[test]
fn durability_is_chosen_per_view_and_per_transaction() {
    let store = store();
    let is_refused = |outcome: Result<(), Refusal>| {
        assert_eq!(outcome.unwrap_err().kind(), RefusalKind::Engine);
    };
    let mut tally = Tally::default();
    let mut synced = store.db(DB0, ME, &mut tally).with_durability(Durability::Synced);
    is_refused(block_on(synced.set(b"a", b"1", None)));
    is_refused(block_on(synced.incr_by(b"a", 1)).map(|_| ()));
    is_refused(block_on(synced.set_many(&[(b"a", b"1"), (b"b", b"2")], false)).map(|_| ()));
    is_refused(block_on(synced.flush()));
    let keys = KeySet::of([(DB0, b"a".as_slice())]);
    for level in [Durability::Synced, Durability::Memory] {
        let begun = block_on(Transaction::begin(&store, keys.clone()));
        let mut transaction = begun.with_durability(level);
        let mut db = store.db(DB0, ME, &mut tally).inside(transaction.overlay());
        block_on(db.set(b"a", b"1", None)).unwrap();
        let outcome = block_on(transaction.commit(ME, &mut tally));
        if level == Durability::Synced {
            is_refused(outcome)
        } else {
            outcome.unwrap()
        }
        assert_eq!(get(&store, b"a").is_some(), level == Durability::Memory);
    }
}

#[test]
fn a_rewrite_keeps_changes_or_removes_a_string_and_its_expiry() {
    let store = store();
    let at = store.now().plus(60_000);
    let rewrite = |to: Rewrite| {
        let mut seen = None;
        let is_changed = with(&store, async |db| {
            db.rewrite_string(b"k", |current, out| {
                seen = current.map(|current| (current.bytes.to_vec(), current.expire_at));
                out.extend(b"\xFFnew");
                Ok(to)
            })
            .await
        });
        (seen, is_changed)
    };
    assert_eq!(rewrite(Rewrite::Delete), (None, false));
    assert_eq!(rewrite(Rewrite::Keep), (None, false));
    assert_eq!(rewrite(Rewrite::Put(Expiry::At(at))), (None, true));
    let stored = Some((b"\xFFnew".to_vec(), Some(at)));
    assert_eq!(rewrite(Rewrite::Keep), (stored.clone(), false));
    assert_eq!(rewrite(Rewrite::Put(Expiry::Keep)), (stored.clone(), true));
    assert_eq!(rewrite(Rewrite::Put(Expiry::Remove)), (stored, true));
    assert_eq!(rewrite(Rewrite::Delete), (Some((b"\xFFnew".to_vec(), None)), true));
    assert_eq!(get(&store, b"k"), None);
}

#[test]
fn a_scan_visits_a_range_in_either_direction() {
    let store = store();
    with(&store, async |db| {
        db.set_many(&[(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")], false).await
    });
    let scan = |direction| {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: Entry<'_>| keys.extend_from_slice(key);
        let range = KeyRange::half_open(b"a", b"d");
        let limits = ScanLimits::entries(2);
        let scanned = with(&store, async |db| db.scan(&range, direction, limits, &mut visit).await);
        assert!(scanned.rest.is_some());
        keys
    };
    assert_eq!(scan(Direction::Forward), b"ab");
    assert_eq!(scan(Direction::Backward), b"cb");
}

/// Threads move units between two counters by transactions; others add to one of them, and rename.
/// Nothing is lost, and nobody sees the sum change by what was only moved.
#[test]
fn transactions_keep_writers_of_single_keys_out() {
    let store = Arc::new(store());
    let is_done = Arc::new(AtomicBool::new(false));
    with(&store, async |db| db.set_many(&[(b"a", b"1000"), (b"b", b"1000")], false).await);
    let rounds = 2000;
    let movers: Vec<_> = (0..2)
        .map(|_| {
            let store = Arc::clone(&store);
            spawn(move || {
                for _ in 0..rounds {
                    let mut tally = Tally::default();
                    let keys = [(DB0, b"b".as_slice()), (DB0, b"a".as_slice())];
                    block_on(async {
                        let mut transaction = Transaction::begin(&store, KeySet::of(keys)).await;
                        let mut db = store.db(DB0, ME, &mut tally).inside(transaction.overlay());
                        db.incr_by(b"a", -1).await.unwrap();
                        db.incr_by(b"b", 1).await.unwrap();
                        transaction.commit(ME, &mut tally).await.unwrap();
                    });
                }
            })
        })
        .collect();
    let adders: Vec<_> = (0..2)
        .map(|_| {
            let store = Arc::clone(&store);
            spawn(move || {
                for _ in 0..rounds {
                    with(&store, async |db| db.incr_by(b"a", 1).await);
                }
            })
        })
        .collect();
    let reader = {
        let (store, is_done) = (Arc::clone(&store), Arc::clone(&is_done));
        spawn(move || {
            let mut last = 0;
            while !is_done.load(Ordering::Acquire) {
                let sum = sum(&store);
                assert!(sum >= last, "the sum fell from {last} to {sum}");
                last = sum;
            }
        })
    };
    movers.into_iter().chain(adders).for_each(|thread| thread.join().unwrap());
    is_done.store(true, Ordering::Release);
    reader.join().unwrap();
    assert_eq!(sum(&store), 2000 + 2 * rounds);
    assert_eq!(get(&store, b"b"), Some((1000 + 2 * rounds).to_string().into_bytes()));
}

#[expect(clippy::disallowed_methods, reason = "a test of threads")]
fn spawn(body: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(body)
}

/// The sum of both counters at one moment.
fn sum(store: &Store) -> i64 {
    struct Sum([i64; 2]);
    impl ferrokit_redis::ManyVisitor for Sum {
        fn restart(&mut self) {
            self.0 = [0; 2];
        }
        fn visit(&mut self, index: usize, entry: ferrokit_engine::Entry<'_>) {
            self.0[index] = ferrokit_redis::integer::parse_integer(entry.value).unwrap();
        }
    }
    let mut sum = Sum([0; 2]);
    with(store, async |db| db.read_many(&[b"a", b"b"], &mut sum).await);
    sum.0.iter().sum()
}
