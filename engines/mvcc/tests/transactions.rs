//! Snapshots and transactions: what they see, which of them lose, what they leave behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrokit_engine::{
    Durability, Entry, ErrorKind, Isolation, KeyspaceId, KvEngine, KvEngineExt, KvRead,
    ReadOptions, Result, SweepCursor, Transaction, TransactionOptions, UnixMillis, WriteBatch,
    WriteOptions, Written, block_on,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_memory::{MemoryConfig, MemoryEngine};
use ferrokit_mvcc::{Mvcc, MvccOptions};
use ferrokit_storage::sim::SimMachine;
use proptest::prelude::*;

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const WRITE: WriteOptions = WriteOptions::with_durability(Durability::Memory);

struct Bench {
    machine: SimMachine,
    inner: Arc<dyn KvEngine>,
    engine: Arc<Mvcc>,
}

fn wrap(machine: &SimMachine, inner: &Arc<dyn KvEngine>, options: MvccOptions) -> Arc<Mvcc> {
    let clock = machine.host().env.clock;
    Mvcc::new(Arc::clone(inner), MvccOptions { clock, ..options }).unwrap()
}

fn over_memory(options: MvccOptions) -> Bench {
    let machine = SimMachine::new(1);
    let inner: Arc<dyn KvEngine> =
        MemoryEngine::open(&machine.host(), MemoryConfig::default()).unwrap();
    Bench { engine: wrap(&machine, &inner, options), machine, inner }
}

fn over_hybridlog() -> Bench {
    let machine = SimMachine::new(1);
    let config = HybridLogConfig {
        memory_bytes: 4 << 20,
        page_bytes: 32 << 10,
        index_bytes: 64,
        index_bytes_max: 1 << 20,
        keyspaces: 16,
        ..HybridLogConfig::default()
    };
    let inner: Arc<dyn KvEngine> = HybridLogEngine::open(&machine.host(), config).unwrap();
    Bench { engine: wrap(&machine, &inner, MvccOptions::default()), machine, inner }
}

fn both() -> [Bench; 2] {
    [over_memory(MvccOptions::default()), over_hybridlog()]
}

fn put(engine: &Mvcc, key: &[u8], value: &[u8]) {
    engine.put(KS, key, value, None, &WRITE).wait().unwrap();
}

fn begin(engine: &Mvcc, isolation: Isolation) -> Box<dyn Transaction> {
    let options = TransactionOptions { isolation };
    engine.as_transactions().unwrap().begin(&options).wait().unwrap()
}

fn get(reader: &(impl KvRead + ?Sized), key: &[u8]) -> Option<Vec<u8>> {
    get_in(reader, KS, key)
}

fn get_in(reader: &(impl KvRead + ?Sized), keyspace: KeyspaceId, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut visit = |entry: Entry<'_>| found = Some(entry.value.to_vec());
    let seen = reader.get_with(keyspace, key, &ReadOptions::default(), &mut visit).wait().unwrap();
    assert_eq!(seen.found, usize::from(found.is_some()));
    found
}

fn sweep(reader: &(impl KvRead + ?Sized), keyspace: KeyspaceId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut cursor = Some(SweepCursor::start());
    while let Some(at) = cursor {
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            found.insert(key.to_vec(), entry.value.to_vec());
        };
        let options = ReadOptions::default();
        cursor = reader.sweep(keyspace, &at, 3, &options, &mut visit).wait().unwrap().next;
    }
    found
}

fn commit(transaction: Box<dyn Transaction>) -> Result<()> {
    transaction.commit(&WRITE).wait().map(|_| ())
}

fn expect_conflict(transaction: Box<dyn Transaction>) {
    assert_eq!(commit(transaction).unwrap_err().kind(), ErrorKind::Conflict);
}

fn stat(engine: &Mvcc, name: &str) -> u64 {
    engine.stats().get(name).unwrap()
}

#[test]
fn a_lost_update_is_refused() {
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        for Bench { engine, .. } in both() {
            put(&engine, b"n", b"1");
            let (mut first, mut second) = (begin(&engine, isolation), begin(&engine, isolation));
            assert_eq!(get(&*first, b"n"), get(&*second, b"n"));
            first.put(KS, b"n", b"first", None).unwrap();
            second.put(KS, b"n", b"second", None).unwrap();
            commit(second).unwrap();
            expect_conflict(first);
            assert_eq!(get(&*engine, b"n").as_deref(), Some(&b"second"[..]));
        }
    }
}

#[test]
fn write_skew_is_refused_where_transactions_are_serializable() {
    for (isolation, is_refused) in [(Isolation::Snapshot, false), (Isolation::Serializable, true)] {
        for Bench { engine, .. } in both() {
            put(&engine, b"a", b"on call");
            put(&engine, b"b", b"on call");
            let (mut first, mut second) = (begin(&engine, isolation), begin(&engine, isolation));
            assert!(get(&*first, b"b").is_some() && get(&*second, b"a").is_some());
            first.delete(KS, b"a").unwrap();
            second.delete(KS, b"b").unwrap();
            commit(first).unwrap();
            assert_eq!(commit(second).is_err(), is_refused, "{isolation:?}");
            assert_eq!(get(&*engine, b"b").is_some(), is_refused);
        }
    }
}

#[test]
fn reading_that_a_key_is_absent_is_a_read() {
    for Bench { engine, .. } in both() {
        put(&engine, b"deleted", b"1");
        engine.delete(KS, b"deleted", &WRITE).wait().unwrap();
        for key in [&b"never"[..], b"deleted"] {
            let mut transaction = begin(&engine, Isolation::Serializable);
            assert_eq!(get(&*transaction, key), None);
            transaction.put(KS, b"other", b"1", None).unwrap();
            put(&engine, key, b"appeared");
            // Even if it is gone again.
            engine.delete(KS, key, &WRITE).wait().unwrap();
            expect_conflict(transaction);
        }
    }
}

#[test]
fn a_sweep_depends_on_the_whole_keyspace() {
    let Bench { engine, .. } = over_hybridlog();
    put(&engine, b"a", b"1");
    for (keyspace, is_refused) in [(KeyspaceId(1), false), (KS, true)] {
        let mut transaction = begin(&engine, Isolation::Serializable);
        sweep(&*transaction, KS);
        transaction.put(KS, b"count", b"1", None).unwrap();
        engine.put(keyspace, b"phantom", b"1", None, &WRITE).wait().unwrap();
        assert_eq!(commit(transaction).is_err(), is_refused);
    }
}

#[test]
fn more_reads_than_remembered_depend_on_the_keyspace() {
    let Bench { engine, .. } = over_memory(MvccOptions { max_reads: 4, ..MvccOptions::default() });
    for (reads, is_refused) in [(4, false), (5, true)] {
        let mut transaction = begin(&engine, Isolation::Serializable);
        for n in 0..reads {
            get(&*transaction, &[n]);
        }
        transaction.put(KS, b"mine", b"1", None).unwrap();
        put(&engine, b"unrelated", b"1");
        assert_eq!(commit(transaction).is_err(), is_refused, "{reads} reads");
    }
}

#[test]
fn clear_and_swap_conflict_with_what_was_touched() {
    let Bench { engine, .. } = over_hybridlog();
    let (b, c) = (KeyspaceId(1), KeyspaceId(2));
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        let changes: [&dyn Fn() -> Result<Written>; 2] =
            [&|| engine.clear_keyspace(KS, &WRITE).wait(), &|| {
                engine.swap_keyspaces(KS, b, &WRITE).wait()
            }];
        for change in changes {
            let (mut touching, mut other) = (begin(&engine, isolation), begin(&engine, isolation));
            touching.put(KS, b"k", b"v", None).unwrap();
            other.put(c, b"k", b"v", None).unwrap();
            change().unwrap();
            expect_conflict(touching);
            commit(other).unwrap();
        }
    }
}

#[test]
fn who_only_reads_never_loses() {
    for Bench { engine, .. } in both() {
        put(&engine, b"a", b"old");
        let transaction = begin(&engine, Isolation::Serializable);
        assert_eq!(get(&*transaction, b"a").as_deref(), Some(&b"old"[..]));
        put(&engine, b"a", b"new");
        assert_eq!(get(&*transaction, b"a").as_deref(), Some(&b"old"[..]));
        commit(transaction).unwrap();
    }
}

#[test]
fn own_writes_are_read_and_savepoints_undo_them() {
    for Bench { engine, .. } in both() {
        put(&engine, b"a", b"0");
        put(&engine, b"b", b"0");
        let mut transaction = begin(&engine, Isolation::Serializable);
        transaction.put(KS, b"a", b"1", None).unwrap();
        transaction.delete(KS, b"b").unwrap();
        let mark = transaction.savepoint();
        transaction.put(KS, b"c", b"2", None).unwrap();
        transaction.put(KS, b"b", b"2", None).unwrap();
        let later = transaction.savepoint();
        transaction.put(KS, b"gone", b"", Some(UnixMillis(1))).unwrap();
        let all = sweep(&*transaction, KS);
        assert_eq!(all.keys().map(|key| key[0]).collect::<Vec<_>>(), b"abc");
        assert_eq!(all[&b"b"[..]], b"2");
        transaction.rollback_to(mark).unwrap();
        assert!(transaction.rollback_to(later).is_err());
        assert_eq!(get(&*transaction, b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!((get(&*transaction, b"b"), get(&*transaction, b"c")), (None, None));
        assert_eq!(get(&*engine, b"a").as_deref(), Some(&b"0"[..]), "nothing is committed");
        commit(transaction).unwrap();
        assert_eq!(sweep(&*engine, KS), BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]));
        let dropped = {
            let mut transaction = begin(&engine, Isolation::Snapshot);
            transaction.put(KS, b"a", b"never", None)
        };
        dropped.unwrap();
        assert_eq!(get(&*engine, b"a").as_deref(), Some(&b"1"[..]));
    }
}

#[test]
fn a_snapshot_keeps_its_moment_through_everything() {
    for Bench { engine, machine, .. } in both() {
        let soon = ferrokit_engine::Clock::now(machine.clock()).plus(1000);
        for n in 0..20u8 {
            put(&engine, &[n], &[n; 9]);
        }
        engine.put(KS, b"expires", b"v", Some(soon), &WRITE).wait().unwrap();
        engine.put(KeyspaceId(1), b"x", b"y", None, &WRITE).wait().unwrap();
        let before = sweep(&*engine, KS);
        let snapshot = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
        let check = |when: &str| {
            assert_eq!(sweep(&*snapshot, KS), before, "{when}");
            for (key, value) in &before {
                assert_eq!(get(&*snapshot, key).as_ref(), Some(value), "{when}");
            }
            assert_eq!(get(&*snapshot, b"new"), None);
        };
        for round in 0..5 {
            for n in (0..20u8).step_by(2) {
                put(&engine, &[n], b"newer");
                engine.delete(KS, &[n + 1], &WRITE).wait().unwrap();
            }
            put(&engine, b"new", b"");
            let other = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
            put(&engine, &[1], b"later still");
            assert_eq!(get(&*other, &[1]), None);
            check(&format!("round {round}"));
        }
        machine.clock().advance(std::time::Duration::from_millis(2000));
        assert_eq!(get(&*engine, b"expires"), None);
        check("expired");
        engine.swap_keyspaces(KS, KeyspaceId(1), &WRITE).wait().unwrap();
        check("swapped");
        engine.clear_keyspace(KeyspaceId(1), &WRITE).wait().unwrap();
        assert!(sweep(&*engine, KeyspaceId(1)).is_empty());
        check("cleared");
        engine.clear_keyspace(KS, &WRITE).wait().unwrap();
        put(&engine, &[0], b"after");
        check("cleared again");
        drop(snapshot);
        while engine.collect(100).wait().unwrap() > 0 {}
        assert_eq!(stat(&engine, "mvcc_versions_kept"), 0);
        assert_eq!(stat(&engine, "mvcc_views_open"), 0);
    }
}

#[test]
fn chains_do_not_grow_and_nothing_is_left_behind() {
    let Bench { engine, inner, .. } = over_memory(MvccOptions::default());
    let stuck = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
    for n in 0..500u32 {
        put(&engine, b"hot", &n.to_le_bytes());
        drop(engine.as_snapshots().unwrap().snapshot().wait().unwrap());
    }
    // The first version was absent; the stuck view needs none of those that came after.
    assert!(stat(&engine, "mvcc_versions_kept") <= 1, "{:?}", engine.stats());
    assert_eq!(stat(&engine, "mvcc_oldest_view_timestamp"), stuck.sequence().unwrap().0);
    assert_eq!(get(&*stuck, b"hot"), None);
    engine.delete(KS, b"hot", &WRITE).wait().unwrap();
    drop(stuck);
    put(&engine, b"other", b"");
    while engine.collect(100).wait().unwrap() > 0 {}
    let history = inner.keyspace_len(KeyspaceId(1)).wait().unwrap().entries;
    let heads = inner.keyspace_len(KeyspaceId(2)).wait().unwrap().entries;
    assert_eq!((history, heads), (0, 1), "no older version, no tombstone");
}

#[test]
fn what_views_hold_back_is_bounded() {
    let limits = MvccOptions { max_versions: 10, max_views: 2, ..MvccOptions::default() };
    let Bench { engine, .. } = over_memory(limits);
    for n in 0..20 {
        put(&engine, &[n], b"old");
    }
    let snapshot = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
    let _transaction = begin(&engine, Isolation::Snapshot);
    let Err(error) = engine.as_snapshots().unwrap().snapshot().wait() else { panic!("a third") };
    assert_eq!(error.kind(), ErrorKind::Busy);
    let result =
        (0..20).try_for_each(|n| engine.put(KS, &[n], b"new", None, &WRITE).wait().map(|_| ()));
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("older versions"), "{error}");
    drop((snapshot, _transaction));
    put(&engine, &[15], b"new");
}

#[test]
fn a_store_that_is_wrapped_again_goes_on() {
    for Bench { engine, inner, machine } in both() {
        let a = engine.put(KS, b"a", b"1", None, &WRITE).wait().unwrap();
        engine.put(KeyspaceId(1), b"b", b"2", None, &WRITE).wait().unwrap();
        engine.put(KeyspaceId(2), b"c", b"3", None, &WRITE).wait().unwrap();
        engine.swap_keyspaces(KS, KeyspaceId(1), &WRITE).wait().unwrap();
        let snapshot = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
        engine.clear_keyspace(KeyspaceId(2), &WRITE).wait().unwrap();
        put(&engine, b"b", b"4");
        // A crash: the snapshot still holds the cleared slot and a version.
        let again = wrap(&machine, &inner, MvccOptions::default());
        assert_eq!(get_in(&*again, KeyspaceId(1), b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&*again, b"b").as_deref(), Some(&b"4"[..]));
        assert!(sweep(&*again, KeyspaceId(2)).is_empty());
        let next = again.put(KeyspaceId(2), b"d", b"5", None, &WRITE).wait().unwrap();
        assert!(next.sequence > a.sequence);
        for _ in 0..20 {
            again.clear_keyspace(KeyspaceId(2), &WRITE).wait().unwrap();
            assert!(sweep(&*again, KeyspaceId(2)).is_empty(), "no slot comes back with its past");
        }
        assert_eq!(inner.keyspace_len(KeyspaceId(1)).wait().unwrap().entries, 0, "old versions");
        drop(snapshot);
    }
}

#[test]
fn a_foreign_store_is_refused() {
    let machine = SimMachine::new(1);
    let inner = MemoryEngine::open(&machine.host(), MemoryConfig::default()).unwrap();
    inner.put(KS, b"user data", b"", None, &WRITE).wait().unwrap();
    let Err(error) = Mvcc::new(inner, MvccOptions::default()) else { panic!("not mvcc's") };
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

#[test]
fn transfers_keep_the_sum() {
    const ACCOUNTS: u8 = 8;
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        for Bench { engine, .. } in both() {
            let mut batch = WriteBatch::new();
            for account in 0..ACCOUNTS {
                batch.put(KS, &[account], &100u64.to_le_bytes(), None);
            }
            engine.write(&batch, &WRITE).wait().unwrap();
            let sum = |reader: &dyn KvRead| -> u64 {
                let number = |value: &Vec<u8>| u64::from_le_bytes(value[..].try_into().unwrap());
                sweep(reader, KS).values().map(number).sum()
            };
            let commits: u64 = std::thread::scope(|scope| {
                let transfer = |seed: u64| {
                    let engine = &engine;
                    move || {
                        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                        let mut commits = 0;
                        for _ in 0..300 {
                            random ^= random << 13;
                            random ^= random >> 7;
                            random ^= random << 17;
                            let (from, to) = ((random % 8) as u8, (random >> 8 & 7) as u8);
                            let mut transaction = begin(engine, isolation);
                            let read = |transaction: &dyn Transaction, key| {
                                let value = get(transaction, &[key]).unwrap();
                                u64::from_le_bytes(value[..].try_into().unwrap())
                            };
                            let amount = read(&*transaction, from).min(random >> 20 & 15);
                            let left = read(&*transaction, from) - amount;
                            transaction.put(KS, &[from], &left.to_le_bytes(), None).unwrap();
                            let new = read(&*transaction, to) + amount;
                            transaction.put(KS, &[to], &new.to_le_bytes(), None).unwrap();
                            commits += u64::from(commit(transaction).is_ok());
                        }
                        commits
                    }
                };
                let threads: Vec<_> = (1..=4).map(|seed| scope.spawn(transfer(seed))).collect();
                for _ in 0..40 {
                    let snapshot = engine.as_snapshots().unwrap().snapshot().wait().unwrap();
                    assert_eq!(sum(&*snapshot), 100 * u64::from(ACCOUNTS));
                }
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(commits >= 300, "only {commits} transfers got through");
            assert_eq!(sum(&*engine), 100 * u64::from(ACCOUNTS));
        }
    }
}

#[test]
fn updates_of_one_key_by_many_threads_are_not_lost() {
    for Bench { engine, .. } in both() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        block_on(engine.incr(KS, b"n", 1, &WRITE)).unwrap();
                    }
                });
            }
        });
        assert_eq!(get(&*engine, b"n").as_deref(), Some(&b"800"[..]));
    }
}

/// A step of one of three transactions, or a plain write beside them.
#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Get(usize, u8),
    Sweep(usize),
    Put(usize, u8, u8),
    Delete(usize, u8),
    Commit(usize),
    PlainPut(u8, u8),
    PlainDelete(u8),
    Batch(u8, u8, u8),
    Collect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, key) = (0..3usize, 0..4u8);
    let step = prop_oneof![
        3 => who.clone().prop_map(Step::Begin),
        5 => (who.clone(), key.clone()).prop_map(|(who, key)| Step::Get(who, key)),
        1 => who.clone().prop_map(Step::Sweep),
        4 => (who.clone(), key.clone(), any::<u8>()).prop_map(|(w, k, v)| Step::Put(w, k, v)),
        2 => (who.clone(), key.clone()).prop_map(|(who, key)| Step::Delete(who, key)),
        3 => who.prop_map(Step::Commit),
        1 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::PlainPut(key, value)),
        1 => key.clone().prop_map(Step::PlainDelete),
        1 => (key.clone(), key, any::<u8>()).prop_map(|(a, b, value)| Step::Batch(a, b, value)),
        1 => Just(Step::Collect),
    ];
    proptest::collection::vec(step, 1..80)
}

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A transaction of the model: the state of its beginning, what it read there, what it wrote.
struct Running {
    transaction: Box<dyn Transaction>,
    began: State,
    reads: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    swept: bool,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Running {
    fn expected(&self) -> State {
        let mut state = self.began.clone();
        apply(&mut state, &self.writes);
        state
    }
}

fn apply(state: &mut State, writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
    }
}

fn step(
    engine: &Mvcc,
    isolation: Isolation,
    state: &mut State,
    running: &mut [Option<Running>; 3],
    step: Step,
) {
    match step {
        Step::Begin(who) => {
            running[who] = Some(Running {
                transaction: begin(engine, isolation),
                began: state.clone(),
                reads: BTreeMap::new(),
                swept: false,
                writes: BTreeMap::new(),
            });
        }
        Step::Get(who, key) => {
            let Some(running) = &mut running[who] else { return };
            let found = get(&*running.transaction, &[key]);
            assert_eq!(found.as_ref(), running.expected().get(&[key][..]));
            if !running.writes.contains_key(&[key][..]) {
                running.reads.insert(vec![key], found);
            }
        }
        Step::Sweep(who) => {
            let Some(running) = &mut running[who] else { return };
            assert_eq!(sweep(&*running.transaction, KS), running.expected());
            running.swept = true;
        }
        Step::Put(who, key, value) => {
            let Some(running) = &mut running[who] else { return };
            running.transaction.put(KS, &[key], &[value], None).unwrap();
            running.writes.insert(vec![key], Some(vec![value]));
        }
        Step::Delete(who, key) => {
            let Some(running) = &mut running[who] else { return };
            running.transaction.delete(KS, &[key]).unwrap();
            running.writes.insert(vec![key], None);
        }
        Step::Commit(who) => {
            let Some(running) = running[who].take() else { return };
            let Running { transaction, began, reads, swept, writes } = running;
            match commit(transaction) {
                Ok(()) => {
                    let of = |key: &Vec<u8>| (began.get(key), state.get(key));
                    let is_untouched = writes.keys().map(of).all(|(then, now)| then == now);
                    assert!(is_untouched, "a concurrent write was overwritten");
                    if isolation == Isolation::Serializable && !writes.is_empty() {
                        // Its reads hold at its place among the commits.
                        for (key, value) in &reads {
                            assert_eq!(state.get(key), value.as_ref(), "a stale read committed");
                        }
                        assert!(!swept || *state == began, "a phantom was missed");
                    }
                    apply(state, &writes);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict);
                    assert!(!writes.is_empty(), "who only reads never loses");
                }
            }
        }
        Step::PlainPut(key, value) => {
            put(engine, &[key], &[value]);
            state.insert(vec![key], vec![value]);
        }
        Step::PlainDelete(key) => {
            let options = WRITE.reporting_existed();
            let existed = engine.delete(KS, &[key], &options).wait().unwrap().existed;
            assert_eq!(existed, Some(state.remove(&[key][..]).is_some()));
        }
        Step::Batch(a, b, value) => {
            let mut batch = WriteBatch::new();
            batch.delete(KS, &[a]).put(KS, &[b], &[value], None);
            engine.write(&batch, &WRITE).wait().unwrap();
            state.remove(&[a][..]);
            state.insert(vec![b], vec![value]);
        }
        Step::Collect => drop(engine.collect(2).wait().unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Histories of small transactions: under `Serializable`, those that committed read and wrote
    /// as if each had run whole at its commit; under `Snapshot`, as of its beginning.
    #[test]
    fn committed_histories_are_what_their_isolation_says(steps in steps(), pick in 0..4usize) {
        let isolation = [Isolation::Snapshot, Isolation::Serializable][pick % 2];
        let Bench { engine, .. } =
            if pick < 2 { over_memory(MvccOptions::default()) } else { over_hybridlog() };
        let mut state = State::new();
        let mut running = [None, None, None];
        for next in steps {
            step(&engine, isolation, &mut state, &mut running, next);
            prop_assert_eq!(&sweep(&*engine, KS), &state);
        }
        drop(running);
        while engine.collect(100).wait().unwrap() > 0 {}
        prop_assert_eq!(&sweep(&*engine, KS), &state);
        prop_assert_eq!(stat(&engine, "mvcc_versions_kept"), 0);
    }
}
