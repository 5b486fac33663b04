//! Unordered sweeps: at least once for what stays, bounded steps, an end.

use super::prelude::*;

group! { sweep, __suite_sweep:
    an_empty_keyspace_ends,
    everything_is_visited,
    everything_is_visited_after_maintenance,
    steps_are_about_as_large_as_asked,
    a_budget_of_zero_still_ends,
    entries_come_with_value_and_expiry,
    other_keyspaces_are_not_visited: Keyspaces,
    deleted_keys_are_not_visited,
    what_stays_is_visited_while_others_come_and_go,
    what_stays_is_visited_while_the_engine_grows,
    what_is_overwritten_meanwhile_is_visited,
    it_ends_while_keys_are_appended,
    a_sweep_can_delete_what_it_visits,
    a_cursor_can_be_stored,
    a_cursor_survives_a_clear,
    foreign_cursors_are_refused_or_harmless,
    two_sweeps_do_not_disturb_each_other,
}

fn fill(world: &World, keys: usize) -> Contents {
    let mut expected = Contents::new();
    for chunk in (0..keys).collect::<Vec<_>>().chunks(50) {
        let mut batch = WriteBatch::new();
        for &n in chunk {
            batch.put(KS, &key(n), &value(n, 16), None);
            expected.insert(key(n), value(n, 16));
        }
        world.write(&batch);
    }
    expected
}

/// One step: the next cursor and the keys visited.
fn step(world: &World, cursor: &SweepCursor, budget: usize) -> (Option<SweepCursor>, Vec<Vec<u8>>) {
    let mut keys = Vec::new();
    let mut visit = |key: &[u8], _: Entry<'_>| keys.push(key.to_vec());
    let op = world.engine().sweep(KS, cursor, budget, &ReadOptions::default(), &mut visit);
    let swept = world.wait(op).unwrap_or_else(|error| panic!("sweep: {error}"));
    assert_eq!(swept.visited, keys.len());
    (swept.next, keys)
}

fn an_empty_keyspace_ends(lab: &Lab) {
    let world = lab.open();
    assert!(world.contents(KS).is_empty());
    world.put(b"k", b"v");
    world.delete(b"k");
    assert!(world.contents(KS).is_empty());
}

fn everything_is_visited(lab: &Lab) {
    let world = lab.open();
    for keys in [1, 2, 10, 300] {
        let expected = fill(&world, keys);
        for budget in [1, 2, 7, 64, 100_000] {
            let found = sweep_all(&world, world.engine(), KS, budget);
            assert_eq!(found, expected, "{keys} keys, budget {budget}");
        }
    }
}

fn everything_is_visited_after_maintenance(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = fill(&world, 400);
    world.churn(KS);
    for n in (0..400).step_by(2) {
        world.put(&key(n), b"newer");
        expected.insert(key(n), b"newer".to_vec());
    }
    for n in (0..400).step_by(7) {
        world.delete(&key(n));
        expected.remove(&key(n));
    }
    assert_eq!(world.contents(KS), expected);
    world.churn(KS);
    assert_eq!(world.contents(KS), expected);
    if world.factory().durable() {
        world.reopen();
        assert_eq!(world.contents(KS), expected);
    }
}

fn steps_are_about_as_large_as_asked(lab: &Lab) {
    let world = lab.open();
    fill(&world, 1000);
    for budget in [1, 10, 50] {
        let mut cursor = Some(SweepCursor::start());
        let mut steps = 0;
        while let Some(at) = cursor {
            let (next, keys) = step(&world, &at, budget);
            // A bucket or block may be visited as a whole.
            assert!(keys.len() <= budget + 256, "budget {budget}, visited {}", keys.len());
            cursor = next;
            steps += 1;
            assert!(steps <= 100_000, "a sweep of 1000 keys does not end");
        }
    }
}

fn a_budget_of_zero_still_ends(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 20);
    assert_eq!(sweep_all(&world, world.engine(), KS, 0), expected);
}

fn entries_come_with_value_and_expiry(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(60_000);
    world.put_until(b"a", b"1", later);
    world.put(b"b", b"2");
    let mut found = BTreeMap::new();
    let mut cursor = Some(SweepCursor::start());
    while let Some(at) = cursor {
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            found.insert(key.to_vec(), (entry.value.to_vec(), entry.expire_at));
        };
        let op = world.engine().sweep(KS, &at, 10, &ReadOptions::default(), &mut visit);
        cursor = world.wait(op).unwrap().next;
    }
    assert_eq!(found.get(&b"a"[..]), Some(&(b"1".to_vec(), Some(later))));
    assert_eq!(found.get(&b"b"[..]), Some(&(b"2".to_vec(), None)));
}

fn other_keyspaces_are_not_visited(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 50);
    for n in 0..200 {
        world.put_in(KeyspaceId(1), &key(n), b"other");
    }
    assert_eq!(world.contents(KS), expected);
    assert_eq!(world.contents(KeyspaceId(1)).len(), 200);
    assert!(world.contents(KeyspaceId(2)).is_empty());
}

fn deleted_keys_are_not_visited(lab: &Lab) {
    let world = lab.open();
    fill(&world, 100);
    let (mut cursor, _) = step(&world, &SweepCursor::start(), 5);
    for n in 0..100 {
        world.delete(&key(n));
    }
    while let Some(at) = cursor {
        let (next, keys) = step(&world, &at, 5);
        assert!(keys.is_empty(), "visited {keys:?} after it was deleted");
        cursor = next;
    }
}

/// Sweeps with a small budget, calls `meddle` between the steps, and demands every key of `stay`.
fn sweep_while(world: &World, stay: &BTreeSet<Vec<u8>>, mut meddle: impl FnMut(usize)) {
    let mut missing = stay.clone();
    let mut cursor = Some(SweepCursor::start());
    let mut steps = 0;
    while let Some(at) = cursor {
        let (next, keys) = step(world, &at, 8);
        for key in &keys {
            missing.remove(key);
        }
        meddle(steps);
        cursor = next;
        steps += 1;
        assert!(steps < 20_000, "a sweep does not end under constant writes");
    }
    assert!(missing.is_empty(), "{} keys were never visited: {missing:?}", missing.len());
}

fn what_stays_is_visited_while_others_come_and_go(lab: &Lab) {
    let world = lab.open();
    fill(&world, 300);
    let stay: BTreeSet<_> = (0..300).filter(|n| n % 3 != 0).map(key).collect();
    let mut rng = lab.rng();
    sweep_while(&world, &stay, |_| {
        for _ in 0..4 {
            let n = rng.below(100) * 3;
            if rng.one_in(2) {
                world.delete(&key(n));
            } else {
                world.put(&key(n), &value(n, rng.below(60)));
            }
        }
    });
}

fn what_stays_is_visited_while_the_engine_grows(lab: &Lab) {
    let world = lab.open();
    let stay: BTreeSet<_> = fill(&world, 200).into_keys().collect();
    let mut rng = lab.rng();
    let mut added = 0;
    sweep_while(&world, &stay, |_| {
        // Grows fast at first (tables split or double under the sweep), then stops.
        if added < 6000 {
            let mut batch = WriteBatch::new();
            for _ in 0..100 {
                batch.put(KS, &rng.next_u64().to_be_bytes(), b"grown", None);
                added += 1;
            }
            world.write(&batch);
        }
    });
}

fn what_is_overwritten_meanwhile_is_visited(lab: &Lab) {
    let world = lab.open();
    let stay: BTreeSet<_> = fill(&world, 200).into_keys().collect();
    let mut rng = lab.rng();
    sweep_while(&world, &stay, |round| {
        for _ in 0..10 {
            let n = rng.below(200);
            world.put(&key(n), &value(round, rng.below(100)));
        }
        if round % 10 == 9 {
            world.churn(KS);
        }
    });
}

fn it_ends_while_keys_are_appended(lab: &Lab) {
    let world = lab.open();
    let stay: BTreeSet<_> = fill(&world, 50).into_keys().collect();
    let mut next = 50;
    // As many new keys per step as the step may visit, always behind the last one.
    sweep_while(&world, &stay, |_| {
        for _ in 0..8 {
            world.put(&key(next), b"appended");
            next += 1;
        }
    });
}

fn a_sweep_can_delete_what_it_visits(lab: &Lab) {
    let world = lab.open();
    fill(&world, 500);
    let mut cursor = Some(SweepCursor::start());
    let mut visited = BTreeSet::new();
    while let Some(at) = cursor {
        let (next, keys) = step(&world, &at, 16);
        for key in keys {
            world.delete(&key);
            visited.insert(key);
        }
        cursor = next;
    }
    assert_eq!(visited.len(), 500);
    assert!(world.contents(KS).is_empty());
}

fn a_cursor_can_be_stored(lab: &Lab) {
    let world = lab.open();
    let expected: BTreeSet<_> = fill(&world, 120).into_keys().collect();
    let mut visited = BTreeSet::new();
    let mut cursor = Some(SweepCursor::start());
    while let Some(at) = cursor {
        let at = SweepCursor::from_bytes(at.as_bytes());
        let (next, keys) = step(&world, &at, 10);
        let (_, again) = step(&world, &at, 10);
        assert_eq!(keys, again, "the same cursor is the same place");
        visited.extend(keys);
        cursor = next;
    }
    assert_eq!(visited, expected);
}

fn a_cursor_survives_a_clear(lab: &Lab) {
    let world = lab.open();
    fill(&world, 100);
    let (mut cursor, _) = step(&world, &SweepCursor::start(), 10);
    world.clear(KS);
    let mut steps = 0;
    while let Some(at) = cursor {
        let (next, keys) = step(&world, &at, 10);
        assert!(keys.is_empty(), "visited {keys:?} after the clear");
        cursor = next;
        steps += 1;
        assert!(steps < 10_000);
    }
}

fn foreign_cursors_are_refused_or_harmless(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 60);
    let mut rng = lab.rng();
    let (real, _) = step(&world, &SweepCursor::start(), 5);
    let real = real.map(|cursor| cursor.as_bytes().to_vec()).unwrap_or_else(|| vec![1]);
    for round in 0..400 {
        let bytes = if round % 2 == 0 {
            rng.bytes(40)
        } else {
            let mut bytes = real.clone();
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            bytes.truncate(bytes.len() - rng.below(2));
            bytes
        };
        let cursor = SweepCursor::from_bytes(&bytes);
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            assert_eq!(expected.get(key).map(Vec::as_slice), Some(entry.value));
        };
        let op = world.engine().sweep(KS, &cursor, 10, &ReadOptions::default(), &mut visit);
        if let Err(error) = world.wait(op) {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "cursor {bytes:?}: {error}");
        }
    }
}

fn two_sweeps_do_not_disturb_each_other(lab: &Lab) {
    let world = lab.open();
    let expected: BTreeSet<_> = fill(&world, 150).into_keys().collect();
    let mut cursors = [Some(SweepCursor::start()), Some(SweepCursor::start())];
    let mut visited = [BTreeSet::new(), BTreeSet::new()];
    while cursors.iter().any(Option::is_some) {
        for (index, budget) in [(0, 3), (1, 11)] {
            if let Some(at) = cursors[index].take() {
                let (next, keys) = step(&world, &at, budget);
                visited[index].extend(keys);
                cursors[index] = next;
            }
        }
    }
    assert_eq!(visited, [expected.clone(), expected]);
}
