//! Range scans.

use super::prelude::*;

group! { scan, __suite_scan:
    there_is_none_without_the_capability: NotOrdered,
    keys_come_in_order: Ordered,
    keys_come_in_reverse_order: Ordered,
    chunks_of_every_size_give_the_same: Ordered,
    bounds_are_kept: Ordered,
    empty_ranges_are_empty: Ordered,
    prefixes: Ordered,
    bytes_are_compared_unsigned: Ordered,
    the_byte_limit_ends_a_chunk: Ordered,
    entries_come_with_value_expiry_and_sequence: Ordered,
    only_the_newest_version_is_seen: Ordered,
    deleted_keys_are_not_seen: Ordered,
    a_cleared_keyspace_is_empty: Ordered,
    other_keyspaces_are_not_seen: Ordered | Keyspaces,
    writes_between_chunks_are_no_harm: Ordered,
    many_tombstones_do_not_hide_the_rest: Ordered,
    a_limit_of_one: Ordered,
    the_scan_of_the_sugar: Ordered,
}

/// Even keys hold a value, after maintenance, overwrites and deletes of the odd ones.
fn fill(world: &World, keys: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    for n in 0..keys {
        let n = (n * 7919) % keys;
        world.put(&key(n), b"older");
    }
    world.churn(KS);
    for n in 0..keys {
        if n % 2 == 0 {
            world.put(&key(n), &value(n, 12));
        } else {
            world.delete(&key(n));
        }
    }
    (0..keys).step_by(2).map(|n| (key(n), value(n, 12))).collect()
}

fn reversed(mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.reverse();
    entries
}

fn there_is_none_without_the_capability(lab: &Lab) {
    let world = lab.open();
    assert!(world.engine().as_ordered().is_none());
    let op = world.engine().scan(KS, &KeyRange::ALL, Direction::Forward);
    expect_error(world.wait(op), ErrorKind::Unsupported);
}

fn keys_come_in_order(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 400);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 1000), expected);
    world.churn(KS);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 1000), expected);
}

fn keys_come_in_reverse_order(lab: &Lab) {
    let world = lab.open();
    let expected = reversed(fill(&world, 400));
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 1000), expected);
    world.churn(KS);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 1000), expected);
}

fn chunks_of_every_size_give_the_same(lab: &Lab) {
    let world = lab.open();
    let forward = fill(&world, 120);
    let backward = reversed(forward.clone());
    for entries in [1, 2, 3, 7, 30, 59, 60, 61, 500] {
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, entries), forward);
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, entries), backward);
    }
}

fn bounds_are_kept(lab: &Lab) {
    let world = lab.open();
    let all = fill(&world, 60);
    let bounds = |n: usize| [Bound::Included(key(n)), Bound::Excluded(key(n)), Bound::Unbounded];
    // Bounds on present (even) and on deleted (odd) keys.
    for (low, high) in [(10, 40), (11, 41), (10, 10), (11, 11), (40, 10), (0, 59), (58, 59)] {
        for start in bounds(low) {
            for end in bounds(high) {
                let range = KeyRange { start: start.clone(), end };
                let expected: Vec<_> =
                    all.iter().filter(|(key, _)| range.contains(key)).cloned().collect();
                for entries in [1, 4, 100] {
                    let found = world.scan(&range, Direction::Forward, entries);
                    assert_eq!(found, expected, "{range:?}");
                    let found = world.scan(&range, Direction::Backward, entries);
                    assert_eq!(found, reversed(expected.clone()), "{range:?}");
                }
            }
        }
    }
}

fn empty_ranges_are_empty(lab: &Lab) {
    let world = lab.open();
    let nothing = |range: &KeyRange| {
        for direction in [Direction::Forward, Direction::Backward] {
            assert!(world.scan(range, direction, 10).is_empty(), "{range:?}");
        }
    };
    nothing(&KeyRange::ALL);
    fill(&world, 40);
    let (a, z) = (key(5), key(20));
    nothing(&KeyRange::half_open(&z, &a));
    nothing(&KeyRange::half_open(&a, &a));
    nothing(&KeyRange::half_open(b"", b""));
    nothing(&KeyRange { start: Bound::Excluded(a.clone()), end: Bound::Excluded(a.clone()) });
    nothing(&KeyRange { start: Bound::Excluded(z.clone()), end: Bound::Included(a.clone()) });
    nothing(&KeyRange { start: Bound::Excluded(a.clone()), end: Bound::Included(a) });
    nothing(&KeyRange::prefix(b"zzz"));
    nothing(&KeyRange { start: Bound::Excluded(key(38)), end: Bound::Unbounded });
}

fn prefixes(lab: &Lab) {
    let world = lab.open();
    let keys: [&[u8]; 9] =
        [b"", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"ab", b"b", b"\xff", b"\xff\xffz"];
    for key in keys {
        world.put(key, b"v");
    }
    for prefix in [&b""[..], b"a", b"a\xff", b"\xff", b"\xff\xff", b"c"] {
        let mut expected: Vec<_> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| (key.to_vec(), b"v".to_vec()))
            .collect();
        expected.sort();
        for entries in [1, 2, 50] {
            let found = world.scan(&KeyRange::prefix(prefix), Direction::Forward, entries);
            assert_eq!(found, expected, "prefix {prefix:?}");
            let found = world.scan(&KeyRange::prefix(prefix), Direction::Backward, entries);
            assert_eq!(found, reversed(expected.clone()), "prefix {prefix:?}");
        }
    }
}

fn bytes_are_compared_unsigned(lab: &Lab) {
    let world = lab.open();
    let mut rng = lab.rng();
    let mut expected = BTreeMap::new();
    for byte in 0..=255u8 {
        for key in [vec![byte], vec![byte, 0], vec![0, byte], vec![byte; 3]] {
            world.put(&key, &[byte]);
            expected.insert(key, vec![byte]);
        }
    }
    for _ in 0..200 {
        let key = rng.bytes(20);
        world.put(&key, b"random");
        expected.insert(key, b"random".to_vec());
    }
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 97), expected);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 97), reversed(expected));
}

fn the_byte_limit_ends_a_chunk(lab: &Lab) {
    let world = lab.open();
    for n in 0..50 {
        world.put(&key(n), &[7; 90]);
    }
    // 10 bytes of key and 90 of value each: the third entry reaches the limit.
    let limits = ScanLimits { entries: 1000, bytes: 250 };
    let mut visited = 0;
    let mut visit = |_: &[u8], _: Entry<'_>| visited += 1;
    let ordered = world.engine().as_ordered().unwrap();
    let options = ReadOptions::default();
    let op =
        ordered.scan_with(KS, &KeyRange::ALL, Direction::Forward, limits, &options, &mut visit);
    let scanned = world.wait(op).unwrap();
    assert_eq!((scanned.visited, visited), (3, 3));
    let rest = scanned.rest.expect("47 entries are left");
    assert_eq!(world.scan(&rest, Direction::Forward, 1000).len(), 47);
    // A single entry beyond the limit is still visited.
    let limits = ScanLimits { entries: 1000, bytes: 1 };
    let mut visit = |_: &[u8], _: Entry<'_>| {};
    let op =
        ordered.scan_with(KS, &KeyRange::ALL, Direction::Backward, limits, &options, &mut visit);
    assert_eq!(world.wait(op).unwrap().visited, 1);
}

fn entries_come_with_value_expiry_and_sequence(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(60_000);
    let first = world.put_until(b"a", b"1", later).sequence;
    let second = world.put(b"b", b"2").sequence;
    for _ in 0..2 {
        let mut found = Vec::new();
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            found.push((key.to_vec(), entry.value.to_vec(), entry.expire_at, entry.sequence));
        };
        let ordered = world.engine().as_ordered().unwrap();
        let (limits, options) = (ScanLimits::entries(10), ReadOptions::default());
        let op =
            ordered.scan_with(KS, &KeyRange::ALL, Direction::Forward, limits, &options, &mut visit);
        world.wait(op).unwrap();
        let expected = [
            (b"a".to_vec(), b"1".to_vec(), Some(later), first),
            (b"b".to_vec(), b"2".to_vec(), None, second),
        ];
        assert_eq!(found, expected);
        world.churn(KS);
    }
}

fn only_the_newest_version_is_seen(lab: &Lab) {
    let world = lab.open();
    for round in 0..6 {
        for n in 0..40 {
            world.put(&key(n), &value(round, 20));
        }
        world.churn(KS);
    }
    let expected: Vec<_> = (0..40).map(|n| (key(n), value(5, 20))).collect();
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 7), expected);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 7), reversed(expected));
}

fn deleted_keys_are_not_seen(lab: &Lab) {
    let world = lab.open();
    fill(&world, 80);
    for n in (0..80).filter(|n| n % 4 == 0) {
        world.delete(&key(n));
    }
    let expected: Vec<_> = (0..80).filter(|n| n % 4 == 2).map(|n| (key(n), value(n, 12))).collect();
    for _ in 0..2 {
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 5), expected);
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 5), reversed(expected.clone()));
        world.churn(KS);
    }
}

fn a_cleared_keyspace_is_empty(lab: &Lab) {
    let world = lab.open();
    fill(&world, 80);
    world.clear(KS);
    assert!(world.scan(&KeyRange::ALL, Direction::Forward, 5).is_empty());
    world.put(&key(7), b"new");
    world.churn(KS);
    let expected = [(key(7), b"new".to_vec())];
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 5), expected);
}

fn other_keyspaces_are_not_seen(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 40);
    let other = KeyspaceId(1);
    for n in 0..40 {
        world.put_in(other, &key(n), b"other");
    }
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, 6), expected);
    assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, 6), reversed(expected.clone()));
    world.swap(KS, other);
    let found = scan_all(&world, world.engine(), other, &KeyRange::ALL, Direction::Forward, 6);
    assert_eq!(found, expected);
}

fn writes_between_chunks_are_no_harm(lab: &Lab) {
    let world = lab.open();
    fill(&world, 200);
    let mut rng = lab.rng();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut seen = BTreeSet::new();
        let mut rest = Some(KeyRange::ALL);
        while let Some(range) = rest {
            let mut last = None;
            let mut visit = |key: &[u8], _: Entry<'_>| {
                assert!(seen.insert(key.to_vec()), "{key:?} was visited twice");
                last = Some(key.to_vec());
            };
            let ordered = world.engine().as_ordered().unwrap();
            let (limits, options) = (ScanLimits::entries(9), ReadOptions::default());
            let op = ordered.scan_with(KS, &range, direction, limits, &options, &mut visit);
            rest = world.wait(op).unwrap().rest;
            // Odd keys come and go, even ones are overwritten.
            for _ in 0..10 {
                let n = rng.below(200);
                if n.is_multiple_of(2) || rng.one_in(2) {
                    world.put(&key(n), b"overwritten");
                } else {
                    world.delete(&key(n));
                }
            }
            if rng.one_in(5) {
                world.churn(KS);
            }
        }
        for n in (0..200).step_by(2) {
            assert!(seen.contains(&key(n)), "{direction:?} missed key {n}");
        }
    }
}

fn many_tombstones_do_not_hide_the_rest(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"first");
    world.put(b"z", b"last");
    for n in 0..1500 {
        world.put(&key(n), b"v");
    }
    for n in 0..1500 {
        world.delete(&key(n));
    }
    let expected = vec![(b"a".to_vec(), b"first".to_vec()), (b"z".to_vec(), b"last".to_vec())];
    for entries in [1, 2, 10] {
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, entries), expected);
        let backward = world.scan(&KeyRange::ALL, Direction::Backward, entries);
        assert_eq!(backward, reversed(expected.clone()));
    }
}

fn a_limit_of_one(lab: &Lab) {
    let world = lab.open();
    world.put(b"a", b"1");
    world.put(b"b", b"2");
    let mut first = Vec::new();
    let mut visit = |key: &[u8], _: Entry<'_>| first.push(key.to_vec());
    let ordered = world.engine().as_ordered().unwrap();
    let (limits, options) = (ScanLimits::entries(1), ReadOptions::default());
    let op =
        ordered.scan_with(KS, &KeyRange::ALL, Direction::Backward, limits, &options, &mut visit);
    let scanned = world.wait(op).unwrap();
    assert_eq!(scanned.visited, 1);
    assert_eq!(first, [b"b".to_vec()]);
    assert!(scanned.rest.expect("one is left").contains(b"a"));
}

fn the_scan_of_the_sugar(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 100);
    let range = KeyRange::prefix(b"key-00001");
    let found = world.wait(world.engine().scan(KS, &range, Direction::Forward)).unwrap();
    assert_eq!(found, expected[5..10]);
}
