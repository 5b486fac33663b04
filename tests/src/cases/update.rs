//! Atomic read-modify-write on one thread.

use super::prelude::*;

group! { update, __suite_update:
    an_absent_key_is_offered_as_none,
    the_present_entry_is_offered,
    keep_changes_nothing,
    delete_removes,
    deleting_nothing_is_nothing,
    a_value_grows_and_shrinks,
    an_expiry_is_kept_set_and_dropped,
    an_expiry_that_passed_deletes,
    an_expired_entry_is_offered_as_none,
    existence_is_always_told,
    the_scratch_buffer_is_empty,
    a_counter,
    counters_survive_maintenance,
    a_result_beyond_the_limits_changes_nothing,
    incr_of_the_sugar,
}

fn an_absent_key_is_offered_as_none(lab: &Lab) {
    let world = lab.open();
    world.update(b"k", |current, out| {
        assert_eq!(current, None);
        out.extend_from_slice(b"made");
        Update::Put { expire_at: None }
    });
    assert_eq!(world.get(b"k").as_deref(), Some(&b"made"[..]));
}

fn the_present_entry_is_offered(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(10_000);
    world.put_until(b"k", b"before", later);
    for churned in [false, true] {
        if churned {
            world.churn(KS);
        }
        world.update(b"k", |current, _| {
            let current = current.expect("the key is there");
            assert_eq!((current.value, current.expire_at), (&b"before"[..], Some(later)));
            Update::Keep
        });
    }
}

fn keep_changes_nothing(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    for key in [&b"k"[..], b"absent"] {
        world.update(key, |_, out| {
            out.extend_from_slice(b"ignored");
            Update::Keep
        });
    }
    assert_eq!(world.contents(KS), Contents::from([(b"k".to_vec(), b"v".to_vec())]));
}

fn delete_removes(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    world.put(b"other", b"v");
    world.update(b"k", |_, _| Update::Delete);
    assert_eq!(world.get(b"k"), None);
    assert_eq!(world.contents(KS).len(), 1);
}

fn deleting_nothing_is_nothing(lab: &Lab) {
    let world = lab.open();
    let written = world.update(b"k", |_, _| Update::Delete);
    assert_eq!(written.existed, Some(false));
    assert!(world.contents(KS).is_empty());
}

fn a_value_grows_and_shrinks(lab: &Lab) {
    let world = lab.open();
    let max = 1500.min(world.capabilities().max_value_bytes);
    let mut rng = lab.rng();
    let mut expected = Vec::new();
    world.put(b"neighbour", b"n");
    for round in 0..200u8 {
        let len = rng.below(max);
        world.update(b"k", |current, out| {
            assert_eq!(current.map_or(&[][..], |entry| entry.value), expected, "round {round}");
            out.resize(len, round);
            Update::Put { expire_at: None }
        });
        expected = vec![round; len];
        assert_eq!(world.get(b"k").as_ref(), Some(&expected));
    }
    assert_eq!(world.get(b"neighbour").as_deref(), Some(&b"n"[..]));
}

fn an_expiry_is_kept_set_and_dropped(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(60_000);
    world.put(b"k", b"v");
    for expire_at in [Some(later), Some(later.plus(5)), None, Some(later)] {
        world.update(b"k", |_, out| {
            out.extend_from_slice(b"v");
            Update::Put { expire_at }
        });
        assert_eq!(world.entry(KS, b"k").unwrap().expire_at, expire_at);
    }
    world.update(b"k", |current, out| {
        out.extend_from_slice(b"longer than before");
        Update::Put { expire_at: current.and_then(|entry| entry.expire_at) }
    });
    assert_eq!(world.entry(KS, b"k").unwrap().expire_at, Some(later));
}

fn an_expiry_that_passed_deletes(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let now = world.now();
    world.update(b"k", |_, out| {
        out.extend_from_slice(b"w");
        Update::Put { expire_at: Some(now) }
    });
    assert_eq!(world.get(b"k"), None);
    assert!(world.contents(KS).is_empty());
}

fn an_expired_entry_is_offered_as_none(lab: &Lab) {
    let world = lab.open();
    world.put_until(b"k", b"5", world.now().plus(50));
    world.pass_millis(50);
    let written = world.update(b"k", |current, out| {
        assert_eq!(current, None);
        out.extend_from_slice(b"1");
        Update::Put { expire_at: None }
    });
    assert_eq!(written.existed, Some(false));
    assert_eq!(world.get(b"k").as_deref(), Some(&b"1"[..]));
}

fn existence_is_always_told(lab: &Lab) {
    let world = lab.open();
    let put = |_: Option<Entry<'_>>, _: &mut Vec<u8>| Update::Put { expire_at: None };
    assert_eq!(world.update(b"k", put).existed, Some(false));
    assert_eq!(world.update(b"k", put).existed, Some(true));
    assert_eq!(world.update(b"k", |_, _| Update::Keep).existed, Some(true));
    assert_eq!(world.update(b"k", |_, _| Update::Delete).existed, Some(true));
    assert_eq!(world.update(b"k", |_, _| Update::Keep).existed, Some(false));
}

fn the_scratch_buffer_is_empty(lab: &Lab) {
    let world = lab.open();
    for n in 0..50usize {
        world.update(&key(n % 5), |_, out| {
            assert!(out.is_empty());
            out.extend_from_slice(&value(n, n));
            Update::Put { expire_at: None }
        });
    }
}

fn increment(world: &World, key: &[u8]) {
    world.update(key, |current, out| {
        let number = current.map_or(0, |entry| {
            u64::from_le_bytes(entry.value.try_into().expect("a counter has 8 bytes"))
        });
        out.extend_from_slice(&(number + 1).to_le_bytes());
        Update::Put { expire_at: None }
    });
}

fn a_counter(lab: &Lab) {
    let world = lab.open();
    for _ in 0..1000 {
        increment(&world, b"counter");
    }
    assert_eq!(world.get(b"counter"), Some(1000u64.to_le_bytes().to_vec()));
}

fn counters_survive_maintenance(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = 0u64;
    for _ in 0..4 {
        for n in 0..300 {
            increment(&world, &key(n % 30));
        }
        world.churn(KS);
        // A counter that lies in older, flushed places is updated from there.
        for n in 0..30 {
            increment(&world, &key(n));
        }
        expected += 11;
        for n in 0..30 {
            assert_eq!(world.get(&key(n)), Some(expected.to_le_bytes().to_vec()));
        }
        world.reopen_if_durable();
    }
}

fn a_result_beyond_the_limits_changes_nothing(lab: &Lab) {
    let world = lab.open();
    let max = world.capabilities().max_value_bytes;
    world.put(b"k", b"old");
    let mut change = |_: Option<Entry<'_>>, out: &mut Vec<u8>| {
        // Zeroed pages: even a limit of a GiB costs next to nothing here.
        *out = vec![0; max + 1];
        Update::Put { expire_at: None }
    };
    let op = world.engine().update(KS, b"k", &world.write_options(), &mut change);
    expect_error(world.wait(op), ErrorKind::InvalidArgument);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"old"[..]));
}

fn incr_of_the_sugar(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    let incr = |delta| world.wait(world.engine().incr(KS, b"n", delta, &options));
    assert_eq!(incr(5).unwrap(), 5);
    assert_eq!(incr(-7).unwrap(), -2);
    expect_error(incr(i64::MIN), ErrorKind::InvalidArgument);
    assert_eq!(world.get(b"n").as_deref(), Some(&b"-2"[..]));
    world.put(b"n", b"no number");
    expect_error(incr(1), ErrorKind::InvalidArgument);
    assert_eq!(world.get(b"n").as_deref(), Some(&b"no number"[..]));
}
