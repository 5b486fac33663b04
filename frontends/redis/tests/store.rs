//! The store over the memory engine: transactions, watches, races.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{
    Direction, Durability, Entry, Env, KeyRange, KeyspaceId, KvEngine, ScanLimits, UnixMillis,
    block_on,
};
use ferrokit_redis::bits::FieldProgram;
use ferrokit_redis::{
    ClientId, Db, Event, EventClass, EvictionPolicy, Expiry, Interest, KeySet, Observer, Refusal,
    RefusalKind, Rewrite, Store, Tally, Transaction, WatchList,
};
use ferrokit_storage::sim::SimMachine;
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

/// Takes down what is told.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl Observer for Notes {
    fn event(&self, event: Event, _: KeyspaceId, key: &[u8]) {
        let note = format!("{} {}", event.name, key.escape_ascii());
        self.0.lock().unwrap().push(note);
    }
    fn modified(&self, _: KeyspaceId, _: &[u8], _: ClientId) {}
    fn flushed(&self, _: Option<KeyspaceId>, _: ClientId) {}
}

/// A store on a clock that stands still until it is moved.
fn store_on(machine: &SimMachine, engine: &str) -> (Store, Arc<Notes>) {
    let host = machine.threaded_host();
    let store = Store::new(ferrokit_engines::open(&host, engine).unwrap(), &host.env);
    let notes = Arc::new(Notes::default());
    assert!(store.set_observer(Arc::<Notes>::clone(&notes)).is_ok());
    (store, notes)
}

#[test]
fn an_expiry_is_told_once_and_only_if_it_happened() {
    for engine in ["memory:", "hybridlog:?memory=64MiB", "lsm:/data"] {
        let machine = SimMachine::new(5);
        let (store, notes) = store_on(&machine, engine);
        let at = |millis: u64| Some(UnixMillis(store.now().0 + millis));
        // Before anybody listens: the sweep finds it.
        with(&store, async |db| db.set(b"early", b"v", at(500)).await);
        store.set_interest(Interest::in_events(EventClass::EXPIRED));
        block_on(store.run_expiry_cycle(1 << 20)).unwrap();
        for key in [b"kept".as_slice(), b"deleted", b"expires", b"later", b"copied"] {
            with(&store, async |db| db.set(key, b"v", at(500)).await);
        }
        with(&store, async |db| db.persist(b"kept").await);
        with(&store, async |db| db.delete(&[b"deleted"]).await);
        with(&store, async |db| db.set(b"later", b"w", at(5000)).await);
        with(&store, async |db| db.rename(b"copied", b"moved", false).await);
        let cycle = || {
            for _ in 0..3 {
                block_on(store.run_expiry_cycle(1 << 20)).unwrap();
            }
            let mut told = std::mem::take(&mut *notes.0.lock().unwrap());
            told.sort();
            told
        };
        assert_eq!(cycle(), [""; 0], "{engine}");
        machine.clock().advance(std::time::Duration::from_millis(600));
        assert_eq!(cycle(), ["expired early", "expired expires", "expired moved"], "{engine}");
        machine.clock().advance(std::time::Duration::from_millis(6000));
        assert_eq!(cycle(), ["expired later"], "{engine}");
        assert_eq!(store.told_expired(), 4);
        assert_eq!(with(&store, async |db| db.exist(&[b"kept", b"later"], false).await), 1);
    }
}

#[test]
fn the_least_recently_used_key_goes_first_and_those_without_expiry_are_spared() {
    let machine = SimMachine::new(6);
    let (store, notes) = store_on(&machine, "memory:");
    store.set_interest(Interest::in_events(EventClass::EVICTED));
    let expire_at = Some(UnixMillis(store.now().0 + 1_000_000));
    for number in 0..20_u8 {
        let at = if number < 10 { expire_at } else { None };
        with(&store, async |db| db.set(&[b'a' + number], b"v", at).await);
        machine.clock().advance(std::time::Duration::from_secs(1));
        store.tick();
    }
    get(&store, b"a");
    let mut tally = Tally::default();
    let mut evict = |policy| block_on(store.evict_one(policy, 100, &mut tally)).unwrap();
    assert!(!evict(EvictionPolicy::NoEviction));
    for _ in 0..2 {
        assert!(evict(EvictionPolicy::VolatileLru));
    }
    assert!(evict(EvictionPolicy::VolatileTtl));
    let told = std::mem::take(&mut *notes.0.lock().unwrap());
    assert_eq!(told[..2], ["evicted b", "evicted c"]);
    let mut evicted = 3;
    while evict(EvictionPolicy::VolatileRandom) {
        evicted += 1;
    }
    assert_eq!(evicted, 10, "all with an expiry, and no other");
    while evict(EvictionPolicy::AllKeysRandom) {
        evicted += 1;
    }
    assert_eq!(evicted, 20);
}

/// Databases without keys, or without expiries, cost nothing once that is known.
#[test]
fn the_cycle_leaves_alone_what_cannot_expire() {
    let machine = SimMachine::new(7);
    let (store, _) = store_on(&machine, "lsm:/data");
    with(&store, async |db| db.set(b"k", b"v", None).await);
    let figures = || store.expiry_figures(DB0).keys;
    for _ in 0..3 {
        block_on(store.run_expiry_cycle(100)).unwrap();
    }
    assert!(!store.may_expire(DB0) && !store.may_expire(KeyspaceId(7)));
    let at = Some(UnixMillis(store.now().0 + 1000));
    with(&store, async |db| db.set(b"k", b"v", at).await);
    assert!(store.may_expire(DB0) && !store.may_expire(KeyspaceId(7)));
    block_on(store.run_expiry_cycle(100)).unwrap();
    assert_eq!((figures(), store.may_expire(DB0)), (1, true));
    with(&store, async |db| db.flush().await);
    block_on(store.run_expiry_cycle(100)).unwrap();
    assert_eq!((figures(), store.may_expire(DB0)), (0, false));
}

/// Strings are stored with a mark, and a field may end beyond the longest string.
#[test]
fn the_longest_strings_fit_into_the_engines_values() {
    for engine in ["memory:", "lsm:unused"] {
        let machine = SimMachine::new(1);
        let (store, _) = store_on(&machine, engine);
        assert_eq!(store.string_bytes_max(), 512 << 20, "{engine}");
        assert!(store.engine().capabilities().max_value_bytes > store.string_bytes_max() + 9);
        store.set_string_bytes_max(usize::MAX);
        assert_eq!(store.string_bytes_max(), 512 << 20, "{engine}");
    }

    let machine = SimMachine::new(2);
    let (store, _) = store_on(&machine, "lsm:data?value_max=1KiB");
    let longest = 1024 - 16;
    assert_eq!(store.string_bytes_max(), longest);
    let last_bit = longest as u64 * 8 - 1;
    let program = |offset: u64| {
        let words = ["SET".to_owned(), "i64".into(), offset.to_string(), "-1".into()];
        FieldProgram::parse(words.iter().map(String::as_bytes), 1 << 20).unwrap()
    };
    let mut tally = Tally::default();
    let mut db = store.db(DB0, ME, &mut tally);
    // A string that begins like a mark is marked itself.
    for (key, byte) in [(b"a".as_slice(), 0xFF), (b"b", b'x')] {
        block_on(db.set(key, &vec![byte; longest], None)).unwrap();
        assert_eq!(block_on(db.set_range(key, longest - 1, b"z")).unwrap(), longest);
        assert!(block_on(db.append(key, b"z")).is_err());
        let mut answers = Vec::new();
        block_on(db.bit_field(key, &program(last_bit), &mut answers)).unwrap();
        assert_eq!(block_on(db.strlen(key)).unwrap(), longest + 8);
    }
    assert!(!block_on(db.set_bit(b"c", last_bit, true)).unwrap());
    assert_eq!(block_on(db.strlen(b"c")).unwrap(), longest);
    assert_eq!(block_on(db.set_range(b"d", longest - 1, b"z")).unwrap(), longest);
    let mut answers = Vec::new();
    block_on(db.bit_field(b"e", &program(last_bit), &mut answers)).unwrap();
    assert_eq!(answers, [Some(0)]);
    for refused in [
        block_on(db.set_bit(b"f", last_bit + 1, true)).unwrap_err(),
        block_on(db.bit_field(b"f", &program(last_bit + 1), &mut answers)).unwrap_err(),
    ] {
        let text = refused.into_text();
        assert_eq!(text, "ERR bit offset is not an integer or out of range");
    }
    let refused = block_on(db.set_range(b"f", longest, b"z")).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::TooLong);
}
