//! Batches on one thread; what other threads see of them is in `concurrency`, what crashes leave
//! in `durability` and `crash`.

use super::prelude::*;

group! { batch, __suite_batch:
    all_writes_take_effect: Batches,
    of_two_writes_the_later_wins: Batches,
    put_then_delete_is_a_delete: Batches,
    delete_then_put_is_a_put: Batches,
    an_empty_batch_changes_nothing: Batches,
    a_batch_can_be_written_again: Batches,
    a_batch_spans_keyspaces: Batches | Keyspaces,
    a_batch_of_a_thousand: Batches,
    a_batch_carries_expiries: Batches,
    a_refused_batch_changes_nothing: Batches,
    a_batch_has_one_place_in_the_sequence: Batches | SequenceNumbers,
    batches_survive_maintenance: Batches,
}

fn all_writes_take_effect(lab: &Lab) {
    let world = lab.open();
    world.put(b"gone", b"v");
    world.put(b"changed", b"old");
    let mut batch = WriteBatch::new();
    batch.put(KS, b"new", b"n", None).put(KS, b"changed", b"new", None).delete(KS, b"gone");
    batch.delete(KS, b"never-there");
    world.write(&batch);
    assert_eq!(world.get(b"new").as_deref(), Some(&b"n"[..]));
    assert_eq!(world.get(b"changed").as_deref(), Some(&b"new"[..]));
    assert_eq!(world.get(b"gone"), None);
    assert_eq!(world.contents(KS).len(), 2);
}

fn of_two_writes_the_later_wins(lab: &Lab) {
    let world = lab.open();
    let mut batch = WriteBatch::new();
    for n in 0..10 {
        batch.put(KS, b"k", &value(n, 3 * n), None);
    }
    world.write(&batch);
    assert_eq!(world.get(b"k"), Some(value(9, 27)));
    assert_eq!(world.contents(KS).len(), 1);
}

fn put_then_delete_is_a_delete(lab: &Lab) {
    let world = lab.open();
    for before in [false, true] {
        if before {
            world.put(b"k", b"before");
        }
        let mut batch = WriteBatch::new();
        batch.put(KS, b"k", b"v", None).delete(KS, b"k");
        world.write(&batch);
        assert_eq!(world.get(b"k"), None);
        assert!(world.contents(KS).is_empty());
    }
}

fn delete_then_put_is_a_put(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"before");
    let mut batch = WriteBatch::new();
    batch.delete(KS, b"k").put(KS, b"k", b"after", None);
    world.write(&batch);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"after"[..]));
}

fn an_empty_batch_changes_nothing(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    world.write(&WriteBatch::new());
    assert_eq!(world.contents(KS).len(), 1);
}

fn a_batch_can_be_written_again(lab: &Lab) {
    let world = lab.open();
    let mut batch = WriteBatch::new();
    batch.put(KS, b"a", b"1", None).delete(KS, b"b");
    world.write(&batch);
    world.put(b"a", b"2");
    world.put(b"b", b"2");
    world.write(&batch);
    assert_eq!(world.get(b"a").as_deref(), Some(&b"1"[..]));
    assert_eq!(world.get(b"b"), None);
}

fn a_batch_spans_keyspaces(lab: &Lab) {
    let world = lab.open();
    let mut batch = WriteBatch::new();
    for id in 0..3 {
        batch.put(KeyspaceId(id), b"k", &value(id as usize, 4), None);
    }
    world.write(&batch);
    for id in 0..3 {
        assert_eq!(world.get_in(KeyspaceId(id), b"k"), Some(value(id as usize, 4)));
    }
    let mut batch = WriteBatch::new();
    batch.delete(KeyspaceId(1), b"k").put(KeyspaceId(2), b"k", b"new", None);
    world.write(&batch);
    assert_eq!(world.get_in(KeyspaceId(0), b"k"), Some(value(0, 4)));
    assert_eq!(world.get_in(KeyspaceId(1), b"k"), None);
    assert_eq!(world.get_in(KeyspaceId(2), b"k").as_deref(), Some(&b"new"[..]));
}

fn a_batch_of_a_thousand(lab: &Lab) {
    let world = lab.open();
    let facts = world.capabilities();
    let number = 1000.min(facts.max_batch_ops).min(facts.max_batch_bytes / 40);
    let mut batch = WriteBatch::new();
    for n in 0..number {
        batch.put(KS, &key(n), &value(n, 12), None);
    }
    world.write(&batch);
    let expected: Contents = (0..number).map(|n| (key(n), value(n, 12))).collect();
    assert_eq!(world.contents(KS), expected);
    batch.clear();
    for n in 0..number {
        batch.delete(KS, &key(n));
    }
    world.write(&batch);
    assert!(world.contents(KS).is_empty());
}

fn a_batch_carries_expiries(lab: &Lab) {
    let world = lab.open();
    let soon = world.now().plus(100);
    world.put(b"past", b"old");
    let mut batch = WriteBatch::new();
    batch
        .put(KS, b"soon", b"1", Some(soon))
        .put(KS, b"later", b"2", Some(soon.plus(1000)))
        .put(KS, b"past", b"3", Some(UnixMillis(1)))
        .put(KS, b"never", b"4", None);
    world.write(&batch);
    assert_eq!(world.entry(KS, b"soon").unwrap().expire_at, Some(soon));
    assert_eq!(world.get(b"past"), None, "what has expired when it is put is absent");
    world.pass_millis(100);
    assert_eq!(world.get(b"soon"), None);
    assert_eq!(world.get(b"later").as_deref(), Some(&b"2"[..]));
    assert_eq!(world.contents(KS).len(), 2);
}

fn a_refused_batch_changes_nothing(lab: &Lab) {
    let world = lab.open();
    world.put(b"kept", b"old");
    let max = world.capabilities().max_key_bytes;
    if max < 1 << 20 {
        let too_long = vec![b'x'; max + 1];
        let mut batch = WriteBatch::new();
        batch.put(KS, b"a", b"1", None).put(KS, b"kept", b"new", None);
        batch.put(KS, &too_long, b"2", None);
        let result = world.wait(world.engine().write(&batch, &world.write_options()));
        expect_error(result, ErrorKind::InvalidArgument);
    }
    let mut batch = WriteBatch::new();
    batch.delete(KS, b"kept").put(KeyspaceId(u32::MAX), b"a", b"1", None);
    let result = world.wait(world.engine().write(&batch, &world.write_options()));
    expect_error(result, ErrorKind::InvalidArgument);
    assert_eq!(world.get(b"kept").as_deref(), Some(&b"old"[..]));
    assert_eq!(world.contents(KS).len(), 1);
}

fn a_batch_has_one_place_in_the_sequence(lab: &Lab) {
    let world = lab.open();
    let before = world.put(b"x", b"").sequence;
    let mut batch = WriteBatch::new();
    batch.put(KS, b"a", b"1", None).put(KS, b"b", b"2", None);
    let during = world.write(&batch).sequence;
    let after = world.put(b"x", b"").sequence;
    assert!(before < during && during < after);
    for key in [b"a", b"b"] {
        let sequence = world.entry(KS, key).unwrap().sequence;
        assert!(sequence > before && sequence <= during);
    }
}

fn batches_survive_maintenance(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = Contents::new();
    let mut rng = lab.rng();
    for round in 0..60 {
        let mut batch = WriteBatch::new();
        for _ in 0..20 {
            let n = rng.below(100);
            if rng.one_in(3) {
                batch.delete(KS, &key(n));
                expected.remove(&key(n));
            } else {
                batch.put(KS, &key(n), &value(round, 30), None);
                expected.insert(key(n), value(round, 30));
            }
        }
        world.write(&batch);
    }
    assert_eq!(world.contents(KS), expected);
    world.churn(KS);
    assert_eq!(world.contents(KS), expected);
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.contents(KS), expected);
    }
}
