//! Keyspaces: isolation, clear, swap, length.

use super::prelude::*;

group! { keyspace, __suite_keyspace:
    keyspaces_are_apart: Keyspaces,
    clear_empties_one_keyspace: Keyspaces,
    clear_of_the_empty_is_no_error,
    what_was_cleared_stays_away,
    a_cleared_keyspace_is_usable_at_once,
    many_clears,
    swap_exchanges: Keyspaces,
    swap_with_an_empty_one: Keyspaces,
    swap_with_itself,
    swap_twice_is_nothing: Keyspaces,
    swap_and_clear_mixed: Keyspaces,
    swaps_survive_maintenance: Keyspaces,
    len_counts: ExactLen,
    len_follows_clear_and_swap: ExactLen | Keyspaces,
    len_survives_reopening: ExactLen | Durable,
    len_is_said_to_be_an_estimate: NotExactLen,
    ids_beyond_the_limit_are_refused,
}

const A: KeyspaceId = KeyspaceId(0);
const B: KeyspaceId = KeyspaceId(1);
const C: KeyspaceId = KeyspaceId(2);

fn fill(world: &World, keyspace: KeyspaceId, tag: usize, keys: usize) -> Contents {
    let mut expected = Contents::new();
    for n in 0..keys {
        world.put_in(keyspace, &key(n), &value(tag, 10 + n % 7));
        expected.insert(key(n), value(tag, 10 + n % 7));
    }
    expected
}

fn keyspaces_are_apart(lab: &Lab) {
    let world = lab.open();
    world.put_in(A, b"k", b"a");
    world.put_in(B, b"k", b"b");
    assert_eq!(world.get_in(C, b"k"), None);
    let options = world.write_options();
    world.wait(world.engine().delete(A, b"k", &options)).unwrap();
    assert_eq!(world.get_in(A, b"k"), None);
    assert_eq!(world.get_in(B, b"k").as_deref(), Some(&b"b"[..]));
    world.churn(A);
    world.churn(C);
    assert_eq!(world.get_in(B, b"k").as_deref(), Some(&b"b"[..]));
    assert!(world.contents(A).is_empty() && world.contents(C).is_empty());
}

fn clear_empties_one_keyspace(lab: &Lab) {
    let world = lab.open();
    fill(&world, A, 1, 60);
    let kept = fill(&world, B, 2, 60);
    world.clear(A);
    assert!(world.contents(A).is_empty());
    assert_eq!(world.get_in(A, &key(3)), None);
    assert_eq!(world.contents(B), kept);
}

fn clear_of_the_empty_is_no_error(lab: &Lab) {
    let world = lab.open();
    world.clear(KS);
    world.clear(KS);
    world.put(b"k", b"v");
    assert_eq!(world.contents(KS).len(), 1);
}

fn what_was_cleared_stays_away(lab: &Lab) {
    let mut world = lab.open();
    fill(&world, KS, 1, 100);
    world.churn(KS);
    fill(&world, KS, 2, 50);
    world.clear(KS);
    let mut expected = Contents::new();
    for n in (0..100).step_by(10) {
        world.put(&key(n), b"new");
        expected.insert(key(n), b"new".to_vec());
    }
    let check = |world: &World| {
        assert_eq!(world.contents(KS), expected);
        for n in 0..100 {
            assert_eq!(world.get(&key(n)).is_some(), n % 10 == 0, "key {n}");
        }
    };
    check(&world);
    world.churn(KS);
    check(&world);
    if world.factory().durable() {
        world.reopen();
        check(&world);
        world.churn(KS);
        check(&world);
    }
}

fn a_cleared_keyspace_is_usable_at_once(lab: &Lab) {
    let world = lab.open();
    fill(&world, KS, 1, 30);
    world.clear(KS);
    let written = world.update(&key(1), |current, out| {
        assert_eq!(current, None, "updates see no cleared entry");
        out.push(1);
        Update::Put { expire_at: None }
    });
    assert_eq!(written.existed, Some(false));
    assert!(!world.delete(&key(2)), "deletes find no cleared entry");
    assert_eq!(world.contents(KS).len(), 1);
}

fn many_clears(lab: &Lab) {
    let mut world = lab.open();
    for round in 0..100 {
        world.put(&key(round), b"v");
        world.put(b"always", &value(round, 4));
        world.clear(KS);
        assert_eq!(world.get(b"always"), None);
    }
    world.put(b"always", b"last");
    world.churn(KS);
    assert_eq!(world.contents(KS).len(), 1);
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.contents(KS).len(), 1);
    }
}

fn swap_exchanges(lab: &Lab) {
    let world = lab.open();
    let a = fill(&world, A, 1, 40);
    let b = fill(&world, B, 2, 25);
    world.swap(A, B);
    assert_eq!(world.contents(A), b);
    assert_eq!(world.contents(B), a);
    world.put_in(A, b"new", b"in a");
    assert_eq!(world.get_in(B, b"new"), None);
    assert_eq!(world.get_in(A, &key(30)), None);
    assert_eq!(world.get_in(B, &key(30)).as_ref(), a.get(&key(30)));
}

fn swap_with_an_empty_one(lab: &Lab) {
    let world = lab.open();
    let a = fill(&world, A, 1, 40);
    world.swap(A, C);
    assert!(world.contents(A).is_empty());
    assert_eq!(world.contents(C), a);
    world.swap(C, A);
    assert_eq!(world.contents(A), a);
}

fn swap_with_itself(lab: &Lab) {
    let world = lab.open();
    let a = fill(&world, KS, 1, 20);
    world.swap(KS, KS);
    assert_eq!(world.contents(KS), a);
}

fn swap_twice_is_nothing(lab: &Lab) {
    let world = lab.open();
    let a = fill(&world, A, 1, 20);
    let b = fill(&world, B, 2, 30);
    world.swap(A, B);
    world.swap(A, B);
    assert_eq!((world.contents(A), world.contents(B)), (a, b));
}

fn swap_and_clear_mixed(lab: &Lab) {
    let world = lab.open();
    let a = fill(&world, A, 1, 20);
    fill(&world, B, 2, 30);
    world.swap(A, B);
    world.clear(A);
    assert!(world.contents(A).is_empty());
    assert_eq!(world.contents(B), a);
    world.swap(B, C);
    world.clear(B);
    assert_eq!(world.contents(C), a);
    world.swap(A, C);
    assert_eq!(world.contents(A), a);
    assert!(world.contents(C).is_empty());
}

fn swaps_survive_maintenance(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = [fill(&world, A, 1, 60), fill(&world, B, 2, 40), fill(&world, C, 3, 20)];
    let mut rng = lab.rng();
    for round in 0..30 {
        let (a, b) = (rng.below(3), rng.below(3));
        world.swap(KeyspaceId(a as u32), KeyspaceId(b as u32));
        expected.swap(a, b);
        world.put_in(KeyspaceId(a as u32), b"extra", &value(round, 5));
        expected[a].insert(b"extra".to_vec(), value(round, 5));
        if round % 10 == 9 {
            world.churn(KeyspaceId(b as u32));
            world.reopen_if_durable();
        }
        for (id, expected) in expected.iter().enumerate() {
            assert_eq!(&world.contents(KeyspaceId(id as u32)), expected, "round {round}");
        }
    }
}

fn len_counts(lab: &Lab) {
    let world = lab.open();
    assert_eq!(world.len(KS), 0);
    world.put(b"a", b"1");
    world.put(b"b", b"1");
    world.put(b"a", b"22");
    assert_eq!(world.len(KS), 2);
    world.delete(b"a");
    world.delete(b"a");
    assert_eq!(world.len(KS), 1);
    let mut batch = WriteBatch::new();
    batch.put(KS, b"b", b"2", None).put(KS, b"c", b"1", None).put(KS, b"c", b"2", None);
    batch.delete(KS, b"b").delete(KS, b"absent").put(KS, b"d", b"", None);
    world.write(&batch);
    assert_eq!(world.len(KS), 2, "c and d");
    world.update(b"e", |_, _| Update::Put { expire_at: None });
    world.update(b"e", |_, _| Update::Keep);
    world.update(b"d", |_, _| Update::Delete);
    world.update(b"f", |_, _| Update::Delete);
    assert_eq!(world.len(KS), 2, "c and e");
    let len = world.wait(world.engine().keyspace_len(KS)).unwrap();
    assert!(len.exact, "the capability says that it is exact");
    fill(&world, KS, 1, 100);
    world.churn(KS);
    assert_eq!(world.len(KS), 102);
}

fn len_follows_clear_and_swap(lab: &Lab) {
    let world = lab.open();
    fill(&world, A, 1, 12);
    fill(&world, B, 1, 7);
    world.swap(A, B);
    assert_eq!((world.len(A), world.len(B)), (7, 12));
    world.clear(B);
    assert_eq!((world.len(A), world.len(B)), (7, 0));
    world.put_in(B, b"k", b"");
    assert_eq!(world.len(B), 1);
}

fn len_survives_reopening(lab: &Lab) {
    let mut world = lab.open();
    fill(&world, KS, 1, 30);
    for n in 0..10 {
        world.delete(&key(n));
    }
    world.reopen();
    assert_eq!(world.len(KS), 20);
    world.delete(&key(15));
    world.put(&key(16), b"");
    assert_eq!(world.len(KS), 19);
    world.churn(KS);
    world.reopen();
    assert_eq!(world.len(KS), 19);
}

fn len_is_said_to_be_an_estimate(lab: &Lab) {
    let world = lab.open();
    fill(&world, KS, 1, 500);
    let len = world.wait(world.engine().keyspace_len(KS)).unwrap();
    assert!(!len.exact, "the capability says that it is an estimate");
    assert!((50..=5000).contains(&len.entries), "{} of 500", len.entries);
}

fn ids_beyond_the_limit_are_refused(lab: &Lab) {
    let world = lab.open();
    let (engine, options) = (world.engine(), world.write_options());
    let beyond = KeyspaceId(world.capabilities().max_keyspaces);
    let refused = ErrorKind::InvalidArgument;
    expect_error(world.wait(engine.put(beyond, b"k", b"v", None, &options)), refused);
    expect_error(world.wait(engine.delete(beyond, b"k", &options)), refused);
    let mut keep = |_: Option<Entry<'_>>, _: &mut Vec<u8>| Update::Keep;
    expect_error(world.wait(engine.update(beyond, b"k", &options, &mut keep)), refused);
    expect_error(world.wait(engine.clear_keyspace(beyond, &options)), refused);
    expect_error(world.wait(engine.swap_keyspaces(KS, beyond, &options)), refused);
    expect_error(world.wait(engine.swap_keyspaces(beyond, KS, &options)), refused);
    expect_error(world.wait(engine.keyspace_len(beyond)), refused);
    expect_error(try_read_entry(&world, engine, beyond, b"k"), refused);
    expect_error(world.wait(engine.get_many(beyond, &[b"k"])), refused);
    expect_error(crate::world::try_sweep_all(&world, engine, beyond, 5), refused);
    let greatest = KeyspaceId(world.capabilities().max_keyspaces - 1);
    world.put_in(greatest, b"k", b"v");
    assert_eq!(world.get_in(greatest, b"k").as_deref(), Some(&b"v"[..]));
}
