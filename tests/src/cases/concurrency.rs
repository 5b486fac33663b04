//! Several threads: atomic batches and updates, no torn or stale value, nothing lost. Recorded
//! histories go through a checker in `linearizability`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::prelude::*;
use crate::world::value_number;

group! { concurrency, __suite_concurrency:
    disjoint_writers_lose_nothing,
    overwriting_writers_leave_one_of_their_values,
    a_value_is_never_torn,
    a_key_never_goes_back,
    a_key_never_goes_back_under_maintenance,
    a_batch_is_seen_whole_by_get,
    a_batch_is_seen_whole_by_get_many,
    a_batch_is_seen_whole_by_update,
    a_batch_is_seen_whole_by_snapshots: Snapshots,
    a_batch_is_seen_whole_by_scans: Ordered,
    crossing_batches_are_whole,
    counters_lose_nothing,
    only_one_creates_a_key,
    existence_is_told_to_one_alone,
    updates_and_batches_exclude_each_other,
    what_stays_is_swept_under_writers,
    clear_takes_all_that_was_before,
    swaps_show_one_side_or_the_other: Keyspaces,
    closing_under_load_ends_cleanly,
    expiry_under_load,
}

/// Sets its flag when dropped: readers must end even if a writer panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `write` once on a thread of its own, and each of `readers` again and again until it ends.
fn while_writing(write: impl FnOnce() + Send, readers: &[&(dyn Fn(usize) + Sync)]) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        for reader in readers {
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::Acquire) {
                    reader(round);
                    round += 1;
                }
                reader(round);
            });
        }
        let _done = Done(done);
        write();
    });
}

fn disjoint_writers_lose_nothing(lab: &Lab) {
    let world = lab.open_threaded();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..400 {
                    world.put(&key(n * 4 + thread), &value(n, 30));
                    if n % 5 == 4 {
                        world.delete(&key((n - 2) * 4 + thread));
                    }
                }
            });
        }
    });
    let contents = world.contents(KS);
    for n in 0..400 {
        for thread in 0..4 {
            let expected = (n % 5 != 2).then(|| value(n, 30));
            assert_eq!(contents.get(&key(n * 4 + thread)), expected.as_ref());
            assert_eq!(world.get(&key(n * 4 + thread)), expected);
        }
    }
}

fn overwriting_writers_leave_one_of_their_values(lab: &Lab) {
    let world = lab.open_threaded();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..500 {
                    world.put(&key(n % 3), &value(n * 4 + thread, 20 + (n % 9) * 10));
                }
            });
        }
    });
    for n in 0..3 {
        let last = value_number(&world.get(&key(n)).expect("it was written"));
        // The last write of one of the threads to this key.
        let last_rounds: Vec<usize> = (0..500).filter(|round| round % 3 == n).collect();
        assert_eq!(Some(&(last / 4)), last_rounds.last(), "an overwritten value came back");
    }
    assert_eq!(world.contents(KS).len(), 3);
}

fn a_value_is_never_torn(lab: &Lab) {
    let world = lab.open_threaded();
    let max = 900.min(world.capabilities().max_value_bytes);
    world.put(b"k", &value(0, 10));
    let write = || {
        let mut rng = crate::random::Rng::new(1);
        for n in 0..1500 {
            world.put(b"k", &value(n, rng.below(max)));
        }
    };
    let get = |_: usize| {
        value_number(&world.get(b"k").expect("it is always there"));
    };
    let get_many = |_: usize| {
        for found in world.get_many(&[b"k", b"k"]) {
            value_number(&found.expect("it is always there"));
        }
    };
    let sweep = |_: usize| {
        let start = SweepCursor::start();
        let mut visit = |_: &[u8], entry: Entry<'_>| {
            value_number(entry.value);
        };
        let op = world.engine().sweep(KS, &start, 10, &ReadOptions::default(), &mut visit);
        world.wait(op).unwrap();
    };
    while_writing(write, &[&get, &get_many, &sweep]);
}

/// One writer counts up; what a reader has seen never goes back.
fn never_goes_back(world: &World, churn: bool) {
    world.put(b"k", &value(0, 10));
    let write = || {
        for n in 1..1000 {
            world.put(b"k", &value(n, 20 + n % 50));
            if churn && n % 100 == 0 {
                world.churn(KS);
            }
        }
    };
    let latest = AtomicUsize::new(0);
    let read = |_: usize| {
        // Linearizable: whoever reads later, on whatever thread, sees no older value.
        let floor = latest.load(Ordering::SeqCst);
        let found = value_number(&world.get(b"k").expect("it is always there"));
        assert!(found >= floor, "{floor} was seen, then {found}");
        latest.fetch_max(found, Ordering::SeqCst);
        let floor = latest.load(Ordering::SeqCst);
        let found = value_number(&world.get_many(&[b"k"])[0].clone().expect("always there"));
        assert!(found >= floor, "{floor} was seen, then {found} by get_many");
        latest.fetch_max(found, Ordering::SeqCst);
    };
    while_writing(write, &[&read, &read]);
}

fn a_key_never_goes_back(lab: &Lab) {
    never_goes_back(&lab.open_threaded(), false);
}

fn a_key_never_goes_back_under_maintenance(lab: &Lab) {
    never_goes_back(&lab.open_threaded(), true);
}

/// Keys of one batch, spread over the key space and the hash space.
const BATCH_KEYS: [&[u8]; 5] = [b"a", b"key-000500", b"m", b"zzz", b"\xff"];

fn write_batches(world: &World, rounds: usize) {
    for n in 0..rounds {
        write_batch(world, n);
    }
}

fn write_batch(world: &World, n: usize) {
    let mut batch = WriteBatch::new();
    for key in BATCH_KEYS {
        batch.put(KS, key, &value(n, 10 + n % 40), None);
    }
    world.write(&batch);
}

fn a_batch_is_seen_whole_by_get(lab: &Lab) {
    let world = lab.open_threaded();
    write_batch(&world, 0);
    let read = |round: usize| {
        let mut floor = 0;
        for n in 0..BATCH_KEYS.len() {
            let key = BATCH_KEYS[(n * 3 + round) % BATCH_KEYS.len()];
            let found = value_number(&world.get(key).expect("it is always there"));
            assert!(found >= floor, "one key new ({floor}), then {key:?} old ({found})");
            floor = found;
        }
    };
    while_writing(|| write_batches(&world, 1000), &[&read, &read]);
}

fn a_batch_is_seen_whole_by_get_many(lab: &Lab) {
    let world = lab.open_threaded();
    write_batch(&world, 0);
    let read = |round: usize| {
        let mut keys = BATCH_KEYS;
        keys.rotate_left(round % BATCH_KEYS.len());
        let found: BTreeSet<_> = world.get_many(&keys).into_iter().collect();
        assert_eq!(found.len(), 1, "a part of a batch: {found:?}");
    };
    while_writing(|| write_batches(&world, 1000), &[&read, &read]);
}

fn a_batch_is_seen_whole_by_update(lab: &Lab) {
    let world = lab.open_threaded();
    write_batch(&world, 0);
    let read = |round: usize| {
        let mut floor = 0;
        for n in 0..BATCH_KEYS.len() {
            let key = BATCH_KEYS[(n * 2 + round) % BATCH_KEYS.len()];
            let mut found = 0;
            world.update(key, |current, _| {
                found = value_number(current.expect("it is always there").value);
                Update::Keep
            });
            assert!(found >= floor, "one key new ({floor}), then {key:?} old ({found})");
            floor = found;
        }
    };
    while_writing(|| write_batches(&world, 600), &[&read]);
}

fn a_batch_is_seen_whole_by_snapshots(lab: &Lab) {
    let world = lab.open_threaded();
    write_batch(&world, 0);
    let read = |_: usize| {
        let snapshots = world.engine().as_snapshots().expect("a capability");
        let view = world.wait(snapshots.snapshot()).unwrap();
        let found: BTreeSet<_> = read_many(&world, &*view, KS, &BATCH_KEYS).into_iter().collect();
        assert_eq!(found.len(), 1, "a part of a batch: {found:?}");
    };
    while_writing(|| write_batches(&world, 600), &[&read, &read]);
}

fn a_batch_is_seen_whole_by_scans(lab: &Lab) {
    let world = lab.open_threaded();
    write_batch(&world, 0);
    let read = |round: usize| {
        let direction = [Direction::Forward, Direction::Backward][round % 2];
        let found = world.scan(&KeyRange::ALL, direction, 100);
        assert_eq!(found.len(), BATCH_KEYS.len());
        let values: BTreeSet<_> = found.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), 1, "one chunk is one view: {values:?}");
    };
    while_writing(|| write_batches(&world, 600), &[&read, &read]);
}

fn crossing_batches_are_whole(lab: &Lab) {
    // Two writers take the keys in opposite orders: neither a deadlock nor a mixture.
    let world = lab.open_threaded();
    write_batch(&world, 0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..500 {
                    let mut keys = BATCH_KEYS;
                    if thread == 1 {
                        keys.reverse();
                    }
                    let mut batch = WriteBatch::new();
                    for key in keys {
                        batch.put(KS, key, &value(n * 2 + thread, 30), None);
                    }
                    world.write(&batch);
                }
            });
        }
    });
    let found: BTreeSet<_> = world.get_many(&BATCH_KEYS).into_iter().collect();
    assert_eq!(found.len(), 1, "a mixture of two batches: {found:?}");
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

fn counter(world: &World, key: &[u8]) -> u64 {
    world.get(key).map_or(0, |value| u64::from_le_bytes(value.try_into().expect("8 bytes")))
}

fn counters_lose_nothing(lab: &Lab) {
    let world = lab.open_threaded();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..500 {
                    increment(world, &key(n % 4));
                    if thread == 0 && n % 120 == 119 {
                        world.churn(KS);
                    }
                }
            });
        }
    });
    for n in 0..4 {
        assert_eq!(counter(&world, &key(n)), 500, "increments of key {n} were lost");
    }
}

fn only_one_creates_a_key(lab: &Lab) {
    let world = lab.open_threaded();
    let created: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, created) = (&world, &created);
            scope.spawn(move || {
                for (n, created) in created.iter().enumerate() {
                    let written = world.update(&key(n), |current, out| {
                        if current.is_some() {
                            return Update::Keep;
                        }
                        out.extend_from_slice(&value(thread, 10));
                        Update::Put { expire_at: None }
                    });
                    if written.existed == Some(false) {
                        created.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for (n, created) in created.iter().enumerate() {
        assert_eq!(created.load(Ordering::Relaxed), 1, "key {n}");
    }
}

fn existence_is_told_to_one_alone(lab: &Lab) {
    let world = lab.open_threaded();
    // For each key: creations minus removals is 1 if it is there, else 0.
    let balance: Vec<AtomicUsize> = (0..5).map(|_| AtomicUsize::new(1000)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, balance) = (&world, &balance);
            scope.spawn(move || {
                let mut rng = crate::random::Rng::new(thread);
                let options = world.write_options().reporting_existed();
                for round in 0..400 {
                    let n = rng.below(5);
                    if rng.one_in(2) {
                        let (op_key, new) = (key(n), value(round, 20));
                        let op = world.engine().put(KS, &op_key, &new, None, &options);
                        if world.wait(op).unwrap().existed == Some(false) {
                            balance[n].fetch_add(1, Ordering::SeqCst);
                        }
                    } else if world.delete(&key(n)) {
                        balance[n].fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    for (n, balance) in balance.iter().enumerate() {
        let is_there = usize::from(world.get(&key(n)).is_some());
        assert_eq!(balance.load(Ordering::SeqCst), 1000 + is_there, "key {n}");
    }
}

fn updates_and_batches_exclude_each_other(lab: &Lab) {
    let world = lab.open_threaded();
    let resets = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    increment(&world, b"left");
                    increment(&world, b"right");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                // Both to the same huge number: an update between the two writes of the batch, or
                // one that lost against it, would leave a sum that is too small.
                let number = 1_000_000_000 + resets.load(Ordering::SeqCst) as u64 * 1_000_000;
                let mut batch = WriteBatch::new();
                batch.put(KS, b"left", &number.to_le_bytes(), None);
                batch.put(KS, b"right", &number.to_le_bytes(), None);
                world.write(&batch);
                resets.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    let base = 1_000_000_000 + 199 * 1_000_000;
    for key in [b"left".as_slice(), b"right"] {
        let found = counter(&world, key);
        assert!((base..=base + 1000).contains(&found), "{found} is not {base} plus increments");
    }
}

fn what_stays_is_swept_under_writers(lab: &Lab) {
    let world = lab.open_threaded();
    for n in 0..300 {
        world.put(&key(n * 2), b"stays");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (world, done) = (&world, &done);
            scope.spawn(move || {
                let mut rng = crate::random::Rng::new(thread);
                let mut added = 0u64;
                while !done.load(Ordering::Acquire) {
                    let n = rng.below(300) * 2;
                    match rng.below(4) {
                        0 => drop(world.put(&key(n), &value(n, rng.below(90)))),
                        1 => drop(world.put(&key(n + 1), b"comes and goes")),
                        2 => drop(world.delete(&key(n + 1))),
                        _ if added < 4000 => {
                            added += 1;
                            world.put(&rng.next_u64().to_be_bytes(), b"growth");
                        }
                        _ => std::thread::yield_now(),
                    }
                }
            });
        }
        let _done = Done(&done);
        for _ in 0..10 {
            let mut missing: BTreeSet<_> = (0..300).map(|n| key(n * 2)).collect();
            let mut cursor = Some(SweepCursor::start());
            let mut steps = 0;
            while let Some(at) = cursor {
                let mut visit = |key: &[u8], _: Entry<'_>| {
                    missing.remove(key);
                };
                let op = world.engine().sweep(KS, &at, 32, &ReadOptions::default(), &mut visit);
                cursor = world.wait(op).unwrap().next;
                steps += 1;
                assert!(steps < 200_000, "a sweep does not end under constant writes");
            }
            assert!(missing.is_empty(), "never visited: {missing:?}");
        }
    });
}

fn clear_takes_all_that_was_before(lab: &Lab) {
    let world = lab.open_threaded();
    let written = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Acquire) {
                world.put(&key(n), b"v");
                n += 1;
                written.store(n, Ordering::SeqCst);
            }
        });
        let _done = Done(&done);
        for _ in 0..40 {
            while written.load(Ordering::SeqCst).is_multiple_of(7) {
                std::thread::yield_now();
            }
            let before = written.load(Ordering::SeqCst);
            world.clear(KS);
            for n in before.saturating_sub(20)..before {
                assert_eq!(world.get(&key(n)), None, "key {n} was written before the clear");
            }
        }
    });
}

fn swaps_show_one_side_or_the_other(lab: &Lab) {
    let world = lab.open_threaded();
    let other = KeyspaceId(1);
    for n in 0..20 {
        world.put_in(KS, &key(n), b"left");
        world.put_in(other, &key(n), b"right");
    }
    let write = || {
        for _ in 0..300 {
            world.swap(KS, other);
        }
    };
    let read = |round: usize| {
        let found = world.get(&key(round % 20)).expect("both sides have it");
        assert!(found == b"left" || found == b"right");
        if world.engine().as_ordered().is_some() {
            let found = world.scan(&KeyRange::ALL, Direction::Forward, 100);
            let values: BTreeSet<_> = found.iter().map(|(_, value)| value).collect();
            assert_eq!((found.len(), values.len()), (20, 1), "half a swap");
        }
    };
    while_writing(write, &[&read, &read]);
    assert_eq!(world.get(&key(0)).as_deref(), Some(&b"left"[..]), "an even number of swaps");
}

fn closing_under_load_ends_cleanly(lab: &Lab) {
    let mut world = lab.open_threaded();
    let engine = world.handle();
    let options = world.write_options();
    let acknowledged = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (engine, world, acknowledged) = (&engine, &world, &acknowledged);
        scope.spawn(move || {
            for n in 0.. {
                let op_key = key(n);
                match world.wait(engine.put(KS, &op_key, b"v", None, &options)) {
                    Ok(_) => acknowledged.store(n + 1, Ordering::SeqCst),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                        return;
                    }
                }
            }
        });
        scope.spawn(move || {
            for n in 0.. {
                if let Err(error) = try_read_entry(world, &**engine, KS, &key(n % 100)) {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    return;
                }
            }
        });
        while acknowledged.load(Ordering::SeqCst) < 200 {
            std::thread::yield_now();
        }
        world.wait(engine.close()).unwrap();
    });
    drop(engine);
    if world.factory().durable() {
        world.drop_engine();
        world.open_again();
        for n in 0..acknowledged.load(Ordering::SeqCst) {
            assert!(world.get(&key(n)).is_some(), "acknowledged key {n} is lost");
        }
    }
}

fn expiry_under_load(lab: &Lab) {
    let world = lab.open_threaded();
    let write = || {
        let mut rng = crate::random::Rng::new(3);
        for n in 0..800 {
            let at = world.now().plus(1 + rng.below(5) as u64);
            world.put_until(&key(n % 20), &value(n, 20), at);
            world.pass_millis(1);
        }
    };
    let read = |round: usize| {
        let before = world.now();
        if let Some(entry) = world.entry(KS, &key(round % 20)) {
            let expire_at = entry.expire_at.expect("all of them expire");
            assert!(expire_at > before, "it expired at {expire_at}, read after {before}");
        }
    };
    while_writing(write, &[&read, &read]);
}
