//! Opening, closing, reopening, and whether an engine is what its capabilities say.

use ferrokit_engine::{Isolation, TransactionOptions, WriteOptions};

use super::prelude::*;
use crate::world::{DIRECTORY, try_sweep_all};

group! { lifecycle, __suite_lifecycle:
    a_new_engine_is_empty,
    data_survive_reopening: Durable,
    many_reopens: Durable,
    reopening_without_a_write: Durable,
    dropping_without_closing_is_a_crash_of_the_process: Durable,
    closing_twice_is_no_error,
    a_closed_engine_says_so,
    a_second_open_is_locked_out: Durable,
    two_directories_are_two_engines: Durable,
    capabilities_and_extensions_agree,
    capabilities_are_sane,
    stats_have_names,
    missing_snapshots_are_none: NotSnapshots,
    missing_checkpoints_are_none: NotCheckpoint,
    missing_change_feeds_are_none: NotChanges,
    missing_transactions_are_none: NotTransactions,
}

fn a_new_engine_is_empty(lab: &Lab) {
    let world = lab.open();
    assert_eq!(world.get(b"k"), None);
    assert!(world.contents(KS).is_empty());
    assert_eq!(world.len(KS), 0);
}

fn data_survive_reopening(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = Contents::new();
    for n in 0..300 {
        world.put(&key(n), &value(n, 40));
        expected.insert(key(n), value(n, 40));
    }
    world.reopen();
    assert_eq!(world.contents(KS), expected);
    for n in 0..300 {
        assert_eq!(world.get(&key(n)).as_ref(), expected.get(&key(n)));
    }
}

fn many_reopens(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = Contents::new();
    for round in 0..30 {
        world.put(&key(round % 7), &value(round, 30));
        expected.insert(key(round % 7), value(round, 30));
        world.put(&key(100 + round), b"v");
        expected.insert(key(100 + round), b"v".to_vec());
        world.reopen();
        assert_eq!(world.contents(KS), expected, "round {round}");
    }
}

fn reopening_without_a_write(lab: &Lab) {
    let mut world = lab.open();
    for _ in 0..5 {
        world.reopen();
        assert!(world.contents(KS).is_empty());
    }
    world.put(b"k", b"v");
    for _ in 0..5 {
        world.reopen();
        assert_eq!(world.contents(KS).len(), 1);
    }
}

fn dropping_without_closing_is_a_crash_of_the_process(lab: &Lab) {
    let mut world = lab.open();
    for round in 0..5 {
        for n in 0..40 {
            world.put(&key(n), &value(round, 30));
        }
        world.drop_engine();
        world.open_again();
        for n in 0..40 {
            assert_eq!(world.get(&key(n)), Some(value(round, 30)));
        }
    }
}

fn closing_twice_is_no_error(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    for _ in 0..3 {
        world.wait(world.engine().close()).unwrap();
    }
}

fn a_closed_engine_says_so(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let options = world.write_options();
    let engine = world.engine();
    world.wait(engine.close()).unwrap();
    let closed = ErrorKind::Closed;
    expect_error(world.wait(engine.put(KS, b"k", b"w", None, &options)), closed);
    expect_error(world.wait(engine.delete(KS, b"k", &options)), closed);
    let mut keep = |_: Option<Entry<'_>>, _: &mut Vec<u8>| Update::Keep;
    expect_error(world.wait(engine.update(KS, b"k", &options, &mut keep)), closed);
    let mut batch = WriteBatch::new();
    batch.delete(KS, b"k");
    expect_error(world.wait(engine.write(&batch, &options)), closed);
    expect_error(world.wait(engine.clear_keyspace(KS, &options)), closed);
    expect_error(world.wait(engine.swap_keyspaces(KS, KS, &options)), closed);
    expect_error(world.wait(engine.sync(options.durability)), closed);
    expect_error(try_read_entry(&world, engine, KS, b"k"), closed);
    expect_error(world.wait(engine.get_many(KS, &[b"k"])), closed);
    expect_error(try_sweep_all(&world, engine, KS, 5), closed);
    expect_error(world.wait(engine.keyspace_len(KS)), closed);
    if engine.as_ordered().is_some() {
        let op = engine.scan(KS, &KeyRange::ALL, Direction::Forward);
        expect_error(world.wait(op), closed);
    }
    if let Some(snapshots) = engine.as_snapshots() {
        expect_error(world.wait(snapshots.snapshot()), closed);
    }
    if let Some(changes) = engine.as_changes() {
        expect_error(world.wait(changes.subscribe(None)), closed);
    }
    if let Some(transactions) = engine.as_transactions() {
        let options = TransactionOptions { isolation: Isolation::Snapshot };
        expect_error(world.wait(transactions.begin(&options)), closed);
    }
    if let Some(checkpoint) = engine.as_checkpoint() {
        expect_error(world.wait(checkpoint.checkpoint(&world.path("backup"))), closed);
    }
    // Facts and figures are still there.
    assert!(!engine.capabilities().engine.is_empty());
    let _ = engine.stats();
}

fn a_second_open_is_locked_out(lab: &Lab) {
    let mut world = lab.open();
    world.put(b"k", b"v");
    expect_error(world.try_open().map(|_| ()), ErrorKind::Locked);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"v"[..]), "the first one is unharmed");
    world.put(b"k", b"w");
    world.reopen();
    assert_eq!(world.get(b"k").as_deref(), Some(&b"w"[..]));
    expect_error(world.try_open().map(|_| ()), ErrorKind::Locked);
}

fn two_directories_are_two_engines(lab: &Lab) {
    let world = lab.open();
    let path = world.path("other");
    assert_ne!(path, world.path(DIRECTORY));
    let options = world.write_options();
    let other = world.factory().open(world.host(), &path, world.engine_options()).unwrap();
    world.put(b"k", b"first");
    world.wait(other.put(KS, b"k", b"second", None, &options)).unwrap();
    assert_eq!(world.get(b"k").as_deref(), Some(&b"first"[..]));
    assert_eq!(world.wait(other.get(KS, b"k")).unwrap().as_deref(), Some(&b"second"[..]));
    world.wait(other.close()).unwrap();
    assert_eq!(world.get(b"k").as_deref(), Some(&b"first"[..]));
}

fn capabilities_and_extensions_agree(lab: &Lab) {
    let world = lab.open();
    let (engine, facts) = (world.engine(), world.capabilities());
    assert_eq!(engine.as_ordered().is_some(), facts.ordered, "ordered");
    assert_eq!(engine.as_snapshots().is_some(), facts.snapshots, "snapshots");
    assert_eq!(engine.as_checkpoint().is_some(), facts.checkpoint, "checkpoint");
    assert_eq!(engine.as_changes().is_some(), facts.changes, "changes");
    assert_eq!(engine.as_transactions().is_some(), facts.transactions.is_some(), "transactions");
    if let Some(snapshots) = engine.as_snapshots() {
        let snapshot = world.wait(snapshots.snapshot()).unwrap();
        assert_eq!(snapshot.as_ordered().is_some(), facts.ordered, "a snapshot's order");
        assert_eq!(snapshot.sequence().is_some(), facts.sequence_numbers);
    }
}

fn capabilities_are_sane(lab: &Lab) {
    let world = lab.open();
    let facts = world.capabilities();
    assert!(!facts.engine.is_empty() && !facts.tiers.is_empty());
    assert!(facts.max_key_bytes >= 16 && facts.max_value_bytes >= 1024);
    assert!(facts.max_batch_ops >= 2 && facts.max_keyspaces >= 1);
    assert!(facts.max_batch_bytes >= facts.max_value_bytes, "one value fits a batch");
}

fn stats_have_names(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let stats = world.engine().stats();
    let mut names = BTreeSet::new();
    for stat in stats.iter() {
        let is_snake_case =
            stat.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(is_snake_case && !stat.name.is_empty(), "{:?} is not in snake case", stat.name);
        assert!(names.insert(stat.name), "{} is there twice", stat.name);
    }
}

fn missing_snapshots_are_none(lab: &Lab) {
    assert!(lab.open().engine().as_snapshots().is_none());
}

fn missing_checkpoints_are_none(lab: &Lab) {
    assert!(lab.open().engine().as_checkpoint().is_none());
}

fn missing_change_feeds_are_none(lab: &Lab) {
    assert!(lab.open().engine().as_changes().is_none());
}

fn missing_transactions_are_none(lab: &Lab) {
    let world = lab.open();
    assert!(world.engine().as_transactions().is_none());
    // What a frontend does instead: a plain write.
    let options = WriteOptions::with_durability(world.strongest());
    world.wait(world.engine().put(KS, b"k", b"v", None, &options)).unwrap();
}
