//! Transactions: own writes over one view, first committer wins.

use ferrokit_engine::{Isolation, Transaction, TransactionOptions, Written};

use super::prelude::*;

group! { transactions, __suite_transactions:
    a_commit_applies_all: Transactions,
    dropping_rolls_back: Transactions,
    it_reads_its_own_writes: Transactions,
    it_scans_its_own_writes: Transactions | Ordered,
    it_reads_the_state_of_its_beginning: Transactions,
    two_writers_of_one_key_conflict: Transactions,
    a_plain_write_wins_over_an_open_transaction: Transactions,
    writers_of_different_keys_do_not_conflict: Transactions,
    a_key_written_and_deleted_meanwhile_conflicts: Transactions,
    a_reader_never_conflicts: Transactions,
    write_skew_is_refused: Serializable,
    write_skew_is_allowed_under_snapshot_isolation: Transactions,
    a_phantom_is_refused: Serializable | Ordered,
    a_chunk_observes_only_what_it_read: Serializable | Ordered,
    an_absent_key_read_is_validated: Serializable,
    clear_conflicts: Serializable,
    savepoints_undo: Transactions,
    a_passed_savepoint_is_refused: Transactions,
    expiry_is_that_of_its_beginning: Transactions,
    limits_hold_in_it: Transactions,
    serializable_is_refused_where_it_is_not_given: Transactions | NotSerializable,
    transfers_keep_the_sum: Transactions,
    increments_are_not_lost: Transactions,
    a_commit_is_whole_for_readers: Transactions | Snapshots,
}

fn begin(world: &World, isolation: Isolation) -> Box<dyn Transaction> {
    let transactions = world.engine().as_transactions().expect("a capability");
    let options = TransactionOptions { isolation };
    world.wait(transactions.begin(&options)).unwrap_or_else(|error| panic!("begin: {error}"))
}

/// The strongest isolation there is.
fn begin_strongest(world: &World) -> Box<dyn Transaction> {
    begin(world, world.capabilities().transactions.expect("a capability"))
}

fn commit(world: &World, transaction: Box<dyn Transaction>) -> ferrokit_engine::Result<Written> {
    world.wait(transaction.commit(&world.write_options()))
}

fn get(world: &World, transaction: &dyn Transaction, key: &[u8]) -> Option<Vec<u8>> {
    read_entry(world, transaction, KS, key).map(|entry| entry.value)
}

fn a_commit_applies_all(lab: &Lab) {
    let world = lab.open();
    world.put(b"gone", b"v");
    let mut transaction = begin_strongest(&world);
    transaction.put(KS, b"a", b"1", None).unwrap();
    transaction.put(KS, b"a", b"2", None).unwrap();
    transaction.delete(KS, b"gone").unwrap();
    assert_eq!(world.get(b"a"), None, "nothing is visible before the commit");
    commit(&world, transaction).unwrap();
    assert_eq!(world.contents(KS), Contents::from([(b"a".to_vec(), b"2".to_vec())]));
}

fn dropping_rolls_back(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let mut transaction = begin_strongest(&world);
    transaction.put(KS, b"a", b"1", None).unwrap();
    transaction.delete(KS, b"k").unwrap();
    drop(transaction);
    assert_eq!(world.contents(KS), Contents::from([(b"k".to_vec(), b"v".to_vec())]));
}

fn it_reads_its_own_writes(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"old");
    world.put(b"b", b"old");
    let mut transaction = begin_strongest(&world);
    transaction.put(KS, b"a", b"new", None).unwrap();
    transaction.delete(KS, b"b").unwrap();
    transaction.put(KS, b"c", b"new", None).unwrap();
    assert_eq!(get(&world, &*transaction, b"a").as_deref(), Some(&b"new"[..]));
    assert_eq!(get(&world, &*transaction, b"b"), None);
    let found = read_many(&world, &*transaction, KS, &[b"c", b"b", b"a"]);
    assert_eq!(found, [Some(b"new".to_vec()), None, Some(b"new".to_vec())]);
    let expected: Contents =
        [(b"a".to_vec(), b"new".to_vec()), (b"c".to_vec(), b"new".to_vec())].into();
    assert_eq!(sweep_all(&world, &*transaction, KS, 10), expected);
}

fn it_scans_its_own_writes(lab: &Lab) {
    let world = lab.open();
    let mut expected = BTreeMap::new();
    for n in 0..40 {
        world.put(&key(n), b"old");
        expected.insert(key(n), b"old".to_vec());
    }
    let mut transaction = begin_strongest(&world);
    for n in (0..60).step_by(3) {
        transaction.put(KS, &key(n), b"new", None).unwrap();
        expected.insert(key(n), b"new".to_vec());
    }
    for n in (0..60).step_by(4) {
        transaction.delete(KS, &key(n)).unwrap();
        expected.remove(&key(n));
    }
    let mut expected: Vec<_> = expected.into_iter().collect();
    let all = KeyRange::ALL;
    for entries in [1, 6, 100] {
        let found = scan_all(&world, &*transaction, KS, &all, Direction::Forward, entries);
        assert_eq!(found, expected);
    }
    expected.reverse();
    for entries in [1, 6, 100] {
        let found = scan_all(&world, &*transaction, KS, &all, Direction::Backward, entries);
        assert_eq!(found, expected);
    }
}

fn it_reads_the_state_of_its_beginning(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"old");
    let transaction = begin_strongest(&world);
    world.put(b"k", b"new");
    world.put(b"other", b"new");
    world.churn(KS);
    assert_eq!(get(&world, &*transaction, b"k").as_deref(), Some(&b"old"[..]));
    assert_eq!(get(&world, &*transaction, b"other"), None);
}

fn two_writers_of_one_key_conflict(lab: &Lab) {
    let world = lab.open();
    let mut first = begin(&world, Isolation::Snapshot);
    let mut second = begin(&world, Isolation::Snapshot);
    first.put(KS, b"k", b"first", None).unwrap();
    second.put(KS, b"k", b"second", None).unwrap();
    commit(&world, second).unwrap();
    let error = expect_error(commit(&world, first), ErrorKind::Conflict);
    assert_eq!(error.kind().advice(), ferrokit_engine::Advice::Retry);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"second"[..]));
}

fn a_plain_write_wins_over_an_open_transaction(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin(&world, Isolation::Snapshot);
    transaction.put(KS, b"k", b"transaction", None).unwrap();
    transaction.put(KS, b"other", b"transaction", None).unwrap();
    world.put(b"k", b"plain");
    expect_error(commit(&world, transaction), ErrorKind::Conflict);
    assert_eq!(world.contents(KS), Contents::from([(b"k".to_vec(), b"plain".to_vec())]));
}

fn writers_of_different_keys_do_not_conflict(lab: &Lab) {
    let world = lab.open();
    let mut transactions: Vec<_> = (0..10).map(|_| begin_strongest(&world)).collect();
    for (n, transaction) in transactions.iter_mut().enumerate() {
        transaction.put(KS, &key(n), b"v", None).unwrap();
    }
    for transaction in transactions {
        commit(&world, transaction).unwrap();
    }
    assert_eq!(world.contents(KS).len(), 10);
}

fn a_key_written_and_deleted_meanwhile_conflicts(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin(&world, Isolation::Snapshot);
    world.put(b"k", b"v");
    world.delete(b"k");
    transaction.put(KS, b"k", b"transaction", None).unwrap();
    expect_error(commit(&world, transaction), ErrorKind::Conflict);
    assert_eq!(world.get(b"k"), None);
}

fn a_reader_never_conflicts(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"old");
    let reader = begin_strongest(&world);
    assert_eq!(get(&world, &*reader, b"k").as_deref(), Some(&b"old"[..]));
    world.put(b"k", b"new");
    commit(&world, reader).unwrap();
    assert_eq!(world.get(b"k").as_deref(), Some(&b"new"[..]));
}

/// Each of two transactions reads what the other writes. Answers how many committed.
fn skew(world: &World, isolation: Isolation) -> usize {
    world.put(b"a", b"1");
    world.put(b"b", b"1");
    let (mut first, mut second) = (begin(world, isolation), begin(world, isolation));
    assert!(get(world, &*first, b"b").is_some());
    assert!(get(world, &*second, b"a").is_some());
    first.delete(KS, b"a").unwrap();
    second.delete(KS, b"b").unwrap();
    [commit(world, first), commit(world, second)].iter().filter(|result| result.is_ok()).count()
}

fn write_skew_is_refused(lab: &Lab) {
    let world = lab.open();
    assert_eq!(skew(&world, Isolation::Serializable), 1);
    assert_eq!(world.contents(KS).len(), 1);
}

fn write_skew_is_allowed_under_snapshot_isolation(lab: &Lab) {
    let world = lab.open();
    assert_eq!(skew(&world, Isolation::Snapshot), 2);
    assert!(world.contents(KS).is_empty());
}

fn a_phantom_is_refused(lab: &Lab) {
    let world = lab.open();
    for meddle in 0..3 {
        world.clear(KS);
        world.put(b"m3", b"v");
        let mut transaction = begin(&world, Isolation::Serializable);
        let range = KeyRange::half_open(b"m", b"n");
        let found = scan_all(&world, &*transaction, KS, &range, Direction::Forward, 10);
        assert_eq!(found.len(), 1);
        transaction.put(KS, b"sum", b"1", None).unwrap();
        match meddle {
            0 => drop(world.put(b"m5", b"a phantom")),
            1 => assert!(world.delete(b"m3")),
            _ => drop(world.put(b"z", b"outside")),
        }
        let result = commit(&world, transaction);
        if meddle == 2 {
            result.unwrap();
        } else {
            expect_error(result, ErrorKind::Conflict);
        }
    }
}

fn a_chunk_observes_only_what_it_read(lab: &Lab) {
    let world = lab.open();
    for n in 0..20 {
        world.put(&key(n), b"v");
    }
    for (direction, far) in [(Direction::Forward, 19), (Direction::Backward, 0)] {
        for (touched, is_observed) in [(far, false), (if far == 0 { 18 } else { 1 }, true)] {
            let mut transaction = begin(&world, Isolation::Serializable);
            let mut visit = |_: &[u8], _: Entry<'_>| {};
            let (limits, options) = (ScanLimits::entries(3), ReadOptions::default());
            let ordered = transaction.as_ordered().unwrap();
            let all = KeyRange::ALL;
            let op = ordered.scan_with(KS, &all, direction, limits, &options, &mut visit);
            assert_eq!(world.wait(op).unwrap().visited, 3);
            transaction.put(KS, b"result", b"v", None).unwrap();
            world.put(&key(touched), b"w");
            world.delete(b"result-not-touched");
            assert_eq!(commit(&world, transaction).is_err(), is_observed, "{direction:?}");
            world.delete(b"result");
        }
    }
}

fn an_absent_key_read_is_validated(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin(&world, Isolation::Serializable);
    assert_eq!(get(&world, &*transaction, b"absent"), None);
    transaction.put(KS, b"k", b"it was absent", None).unwrap();
    world.put(b"absent", b"no longer");
    expect_error(commit(&world, transaction), ErrorKind::Conflict);
    assert_eq!(world.get(b"k"), None);
}

fn clear_conflicts(lab: &Lab) {
    let world = lab.open();
    world.put(b"read", b"v");
    let mut transaction = begin(&world, Isolation::Serializable);
    assert!(get(&world, &*transaction, b"read").is_some());
    transaction.put(KS, b"k", b"v", None).unwrap();
    world.clear(KS);
    expect_error(commit(&world, transaction), ErrorKind::Conflict);
    assert!(world.contents(KS).is_empty());
}

fn savepoints_undo(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin_strongest(&world);
    transaction.put(KS, b"a", b"1", None).unwrap();
    let outer = transaction.savepoint();
    transaction.put(KS, b"a", b"2", None).unwrap();
    transaction.put(KS, b"b", b"2", None).unwrap();
    let inner = transaction.savepoint();
    transaction.delete(KS, b"a").unwrap();
    transaction.rollback_to(inner).unwrap();
    assert_eq!(get(&world, &*transaction, b"a").as_deref(), Some(&b"2"[..]));
    transaction.put(KS, b"c", b"3", None).unwrap();
    transaction.rollback_to(outer).unwrap();
    assert_eq!(get(&world, &*transaction, b"a").as_deref(), Some(&b"1"[..]));
    transaction.rollback_to(outer).unwrap();
    transaction.put(KS, b"d", b"4", None).unwrap();
    commit(&world, transaction).unwrap();
    let expected = [(b"a".to_vec(), b"1".to_vec()), (b"d".to_vec(), b"4".to_vec())];
    assert_eq!(world.contents(KS), Contents::from(expected));
}

fn a_passed_savepoint_is_refused(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin_strongest(&world);
    let outer = transaction.savepoint();
    transaction.put(KS, b"a", b"1", None).unwrap();
    let inner = transaction.savepoint();
    transaction.put(KS, b"b", b"1", None).unwrap();
    transaction.rollback_to(outer).unwrap();
    transaction.put(KS, b"c", b"1", None).unwrap();
    transaction.put(KS, b"d", b"1", None).unwrap();
    expect_error(transaction.rollback_to(inner), ErrorKind::InvalidArgument);
    commit(&world, transaction).unwrap();
    assert_eq!(world.contents(KS).len(), 2);
}

fn expiry_is_that_of_its_beginning(lab: &Lab) {
    let world = lab.open();
    world.put_until(b"k", b"v", world.now().plus(100));
    let mut transaction = begin_strongest(&world);
    world.pass_millis(100);
    assert_eq!(world.get(b"k"), None);
    assert_eq!(get(&world, &*transaction, b"k").as_deref(), Some(&b"v"[..]));
    let later = world.now().plus(1000);
    transaction.put(KS, b"ttl", b"v", Some(later)).unwrap();
    commit(&world, transaction).unwrap();
    assert_eq!(world.entry(KS, b"ttl").unwrap().expire_at, Some(later));
    assert_eq!(world.get(b"k"), None);
}

fn limits_hold_in_it(lab: &Lab) {
    let world = lab.open();
    let mut transaction = begin_strongest(&world);
    let refused = ErrorKind::InvalidArgument;
    let beyond = KeyspaceId(world.capabilities().max_keyspaces);
    expect_error(transaction.put(beyond, b"k", b"v", None), refused);
    expect_error(transaction.delete(beyond, b"k"), refused);
    let max = world.capabilities().max_key_bytes;
    if max < 1 << 20 {
        let long = vec![0; max + 1];
        expect_error(transaction.put(KS, &long, b"v", None), refused);
        expect_error(transaction.delete(KS, &long), refused);
    }
    transaction.put(KS, b"k", b"v", None).unwrap();
    commit(&world, transaction).unwrap();
    assert_eq!(world.contents(KS).len(), 1);
}

fn serializable_is_refused_where_it_is_not_given(lab: &Lab) {
    let world = lab.open();
    let transactions = world.engine().as_transactions().expect("a capability");
    let options = TransactionOptions { isolation: Isolation::Serializable };
    let result = world.wait(transactions.begin(&options));
    expect_error(result.map(|_| ()), ErrorKind::Unsupported);
}

/// Runs `body` in transactions until one commits.
fn transact(world: &World, isolation: Isolation, mut body: impl FnMut(&mut dyn Transaction)) {
    for _ in 0..100_000 {
        let mut transaction = begin(world, isolation);
        body(&mut *transaction);
        match commit(world, transaction) {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    panic!("a transaction never commits");
}

fn number(bytes: Option<Vec<u8>>) -> i64 {
    bytes.map_or(0, |bytes| i64::from_le_bytes(bytes.try_into().expect("8 bytes")))
}

fn transfers_keep_the_sum(lab: &Lab) {
    let world = lab.open_threaded();
    const ACCOUNTS: usize = 6;
    for n in 0..ACCOUNTS {
        world.put(&key(n), &100i64.to_le_bytes());
    }
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let world = &world;
            scope.spawn(move || {
                let mut rng = crate::random::Rng::new(thread);
                for _ in 0..80 {
                    let (from, to) = (key(rng.below(ACCOUNTS)), key(rng.below(ACCOUNTS)));
                    if from == to {
                        continue;
                    }
                    transact(world, Isolation::Snapshot, |transaction| {
                        let in_from = number(get(world, transaction, &from));
                        let in_to = number(get(world, transaction, &to));
                        transaction.put(KS, &from, &(in_from - 1).to_le_bytes(), None).unwrap();
                        transaction.put(KS, &to, &(in_to + 1).to_le_bytes(), None).unwrap();
                    });
                }
            });
        }
        let world = &world;
        scope.spawn(move || {
            for _ in 0..100 {
                let view = begin(world, Isolation::Snapshot);
                let sum: i64 = (0..ACCOUNTS).map(|n| number(get(world, &*view, &key(n)))).sum();
                assert_eq!(sum, 100 * ACCOUNTS as i64, "a view saw half a transfer");
            }
        });
    });
    let sum: i64 = (0..ACCOUNTS).map(|n| number(world.get(&key(n)))).sum();
    assert_eq!(sum, 100 * ACCOUNTS as i64);
}

fn increments_are_not_lost(lab: &Lab) {
    let world = lab.open_threaded();
    let isolation = world.capabilities().transactions.expect("a capability");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..100 {
                    transact(world, isolation, |transaction| {
                        let sum = number(get(world, transaction, b"n")) + 1;
                        transaction.put(KS, b"n", &sum.to_le_bytes(), None).unwrap();
                    });
                }
            });
        }
    });
    assert_eq!(number(world.get(b"n")), 300);
}

fn a_commit_is_whole_for_readers(lab: &Lab) {
    let world = lab.open_threaded();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                transact(&world, Isolation::Snapshot, |transaction| {
                    for n in 0..8 {
                        transaction.put(KS, &key(n), &value(round, 5), None).unwrap();
                    }
                });
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let snapshots = world.engine().as_snapshots().unwrap();
                let view = world.wait(snapshots.snapshot()).unwrap();
                let found: BTreeSet<_> = sweep_all(&world, &*view, KS, 3).into_values().collect();
                assert!(found.len() <= 1, "half a commit is visible: {found:?}");
            }
        });
    });
}
