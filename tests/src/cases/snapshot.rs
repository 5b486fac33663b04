//! Snapshots: nothing that happens later changes what they read.

use std::sync::Arc;

use ferrokit_engine::Snapshot;

use super::prelude::*;

group! { snapshot, __suite_snapshot:
    later_writes_are_not_seen: Snapshots,
    later_writes_are_not_seen_after_maintenance: Snapshots,
    batches_are_whole_in_it: Snapshots,
    clear_and_swap_are_not_seen: Snapshots | Keyspaces,
    it_reads_many_sweeps_and_scans: Snapshots,
    expiry_is_that_of_its_opening: Snapshots,
    the_expired_stay_expired_in_it: Snapshots,
    each_has_its_own_view: Snapshots,
    deleted_keys_stay_in_it: Snapshots,
    its_sequence_tells_what_is_in_it: Snapshots | SequenceNumbers,
    dropping_one_frees_the_others_from_nothing: Snapshots,
    an_empty_one: Snapshots,
    limits_hold_in_it: Snapshots,
}

fn snapshot(world: &World) -> Arc<dyn Snapshot> {
    let snapshots = world.engine().as_snapshots().expect("a capability");
    world.wait(snapshots.snapshot()).unwrap_or_else(|error| panic!("snapshot: {error}"))
}

fn fill(world: &World, keys: usize, tag: usize) -> Contents {
    for n in 0..keys {
        world.put(&key(n), &value(tag, 20));
    }
    (0..keys).map(|n| (key(n), value(tag, 20))).collect()
}

/// The snapshot holds exactly `expected`, by every kind of read.
fn assert_holds(world: &World, snapshot: &dyn Snapshot, expected: &Contents) {
    assert_eq!(&sweep_all(world, snapshot, KS, 9), expected, "by sweep");
    let keys: Vec<Vec<u8>> = (0..80).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let found = read_many(world, snapshot, KS, &keys);
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.as_ref(), expected.get(*key), "by get_many: {key:?}");
        let entry = read_entry(world, snapshot, KS, key);
        assert_eq!(entry.map(|entry| entry.value).as_ref(), expected.get(*key), "{key:?}");
    }
    if snapshot.as_ordered().is_some() {
        let mut expected: Vec<_> = expected.clone().into_iter().collect();
        let found = scan_all(world, snapshot, KS, &KeyRange::ALL, Direction::Forward, 7);
        assert_eq!(found, expected, "by scan");
        expected.reverse();
        let found = scan_all(world, snapshot, KS, &KeyRange::ALL, Direction::Backward, 7);
        assert_eq!(found, expected, "by scan backwards");
    }
}

fn later_writes_are_not_seen(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 50, 1);
    let view = snapshot(&world);
    world.put(&key(3), b"overwritten");
    world.put(&key(77), b"new");
    world.delete(&key(4));
    world.update(&key(5), |_, _| Update::Delete);
    assert_holds(&world, &*view, &expected);
    assert_eq!(world.get(&key(3)).as_deref(), Some(&b"overwritten"[..]));
}

fn later_writes_are_not_seen_after_maintenance(lab: &Lab) {
    let world = lab.open();
    fill(&world, 60, 1);
    world.churn(KS);
    let expected = fill(&world, 50, 2);
    let expected: Contents = (50..60).map(|n| (key(n), value(1, 20))).chain(expected).collect();
    let view = snapshot(&world);
    for round in 3..8 {
        fill(&world, 70, round);
        for n in (0..70).step_by(3) {
            world.delete(&key(n));
        }
        world.churn(KS);
        assert_holds(&world, &*view, &expected);
    }
}

fn batches_are_whole_in_it(lab: &Lab) {
    let world = lab.open();
    for round in 0..20 {
        let mut batch = WriteBatch::new();
        for n in 0..20 {
            batch.put(KS, &key(n), &value(round, 10), None);
        }
        world.write(&batch);
        let view = snapshot(&world);
        let expected = (0..20).map(|n| (key(n), value(round, 10))).collect();
        assert_holds(&world, &*view, &expected);
    }
}

fn clear_and_swap_are_not_seen(lab: &Lab) {
    let world = lab.open();
    let other = KeyspaceId(1);
    let expected = fill(&world, 40, 1);
    world.put_in(other, b"other", b"v");
    let view = snapshot(&world);
    world.swap(KS, other);
    assert_holds(&world, &*view, &expected);
    world.clear(other);
    world.clear(KS);
    fill(&world, 10, 9);
    world.churn(KS);
    world.churn(other);
    assert_holds(&world, &*view, &expected);
    assert_eq!(sweep_all(&world, &*view, other, 5).len(), 1);
}

fn it_reads_many_sweeps_and_scans(lab: &Lab) {
    let world = lab.open();
    let mut expected = fill(&world, 80, 1);
    for n in (0..80).step_by(2) {
        world.delete(&key(n));
        expected.remove(&key(n));
    }
    assert_holds(&world, &*snapshot(&world), &expected);
}

fn expiry_is_that_of_its_opening(lab: &Lab) {
    let world = lab.open();
    let soon = world.now().plus(100);
    for n in 0..30 {
        world.put_until(&key(n), b"v", soon);
    }
    let view = snapshot(&world);
    assert!(view.opened_at() >= world.now());
    world.pass_millis(1000);
    assert!(world.contents(KS).is_empty());
    let expected: Contents = (0..30).map(|n| (key(n), b"v".to_vec())).collect();
    for _ in 0..3 {
        // The engine collects what has expired; the snapshot still needs it.
        assert_holds(&world, &*view, &expected);
        assert_eq!(read_entry(&world, &*view, KS, &key(1)).unwrap().expire_at, Some(soon));
        world.churn(KS);
    }
}

fn the_expired_stay_expired_in_it(lab: &Lab) {
    let world = lab.open();
    let start = world.now();
    for n in 0..30 {
        world.put(&key(n), b"older");
        world.put_until(&key(n), b"v", start.plus(100));
    }
    world.pass_millis(100);
    let view = snapshot(&world);
    world.set_clock(start);
    assert_holds(&world, &*view, &Contents::new());
    world.churn(KS);
    assert_holds(&world, &*view, &Contents::new());
}

fn each_has_its_own_view(lab: &Lab) {
    let world = lab.open();
    let mut views = Vec::new();
    for round in 0..12 {
        let expected = fill(&world, 30, round);
        views.push((snapshot(&world), expected));
        if round % 4 == 3 {
            world.churn(KS);
        }
    }
    // Dropped in an order of their own, the others go on.
    while !views.is_empty() {
        for (view, expected) in &views {
            assert_holds(&world, &**view, expected);
        }
        views.swap_remove(views.len() / 2);
        world.put(&key(0), b"later");
        world.churn(KS);
    }
}

fn deleted_keys_stay_in_it(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 60, 1);
    let view = snapshot(&world);
    for n in 0..60 {
        world.delete(&key(n));
    }
    for _ in 0..3 {
        world.churn(KS);
        assert!(world.contents(KS).is_empty());
        assert_holds(&world, &*view, &expected);
    }
    drop(view);
    world.churn(KS);
    assert!(world.contents(KS).is_empty());
}

fn its_sequence_tells_what_is_in_it(lab: &Lab) {
    let world = lab.open();
    let before = world.put(b"a", b"1").sequence;
    let view = snapshot(&world);
    let after = world.put(b"a", b"2").sequence;
    assert!(view.sequence() >= before && view.sequence() < after);
    assert_eq!(read_entry(&world, &*view, KS, b"a").unwrap().sequence, before);
    let later = snapshot(&world);
    assert!(later.sequence() >= after);
}

fn dropping_one_frees_the_others_from_nothing(lab: &Lab) {
    let world = lab.open();
    for round in 0..200 {
        world.put(b"k", &value(round, 30));
        let view = snapshot(&world);
        assert_eq!(read_entry(&world, &*view, KS, b"k").unwrap().value, value(round, 30));
    }
    world.churn(KS);
    assert_eq!(world.get(b"k"), Some(value(199, 30)));
}

fn an_empty_one(lab: &Lab) {
    let world = lab.open();
    let view = snapshot(&world);
    fill(&world, 20, 1);
    assert_holds(&world, &*view, &Contents::new());
}

fn limits_hold_in_it(lab: &Lab) {
    let world = lab.open();
    let view = snapshot(&world);
    let beyond = KeyspaceId(world.capabilities().max_keyspaces);
    expect_error(try_read_entry(&world, &*view, beyond, b"k"), ErrorKind::InvalidArgument);
}
