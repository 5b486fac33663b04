//! Expiry: absent at once everywhere, never uncovering what was below, on a clock that never goes
//! backwards.

use super::prelude::*;

group! { ttl, __suite_ttl:
    an_expired_entry_is_absent_at_once,
    it_is_there_until_the_last_millisecond,
    an_expiry_in_the_past_deletes,
    a_put_without_expiry_stays,
    a_later_put_replaces_the_expiry,
    get_many_skips_the_expired,
    sweeps_skip_the_expired,
    scans_skip_the_expired: Ordered,
    scans_of_flushed_entries_skip_the_expired: Ordered,
    deleting_the_expired_finds_nothing,
    a_put_over_the_expired_finds_nothing,
    the_expired_does_not_uncover_an_older_version,
    the_expired_does_not_uncover_it_after_reopening: Durable,
    the_expired_does_not_uncover_a_deleted_one,
    many_expiries_interleaved,
    the_expired_may_count_but_nothing_else_does: ExactLen,
    expiries_survive_reopening: Durable,
    a_clock_that_steps_back_revives_nothing,
    a_clock_that_steps_back_at_reopening_revives_nothing: Durable,
    an_expiry_at_the_end_of_time,
    keyspaces_expire_alike: Keyspaces,
}

const NOTHING: [Option<Vec<u8>>; 0] = [];

fn an_expired_entry_is_absent_at_once(lab: &Lab) {
    let world = lab.open();
    for n in 0..100 {
        world.put_until(&key(n), b"v", world.now().plus(10 + n as u64));
    }
    for millis in 1..=120 {
        world.pass_millis(1);
        for n in [0, 1, 50, 99] {
            let is_there = millis < 10 + n as u64;
            assert_eq!(world.get(&key(n)).is_some(), is_there, "key {n} after {millis} ms");
        }
    }
    assert!(world.contents(KS).is_empty());
}

fn it_is_there_until_the_last_millisecond(lab: &Lab) {
    let world = lab.open();
    world.put_until(b"k", b"v", world.now().plus(1000));
    world.pass_millis(999);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"v"[..]));
    world.pass_millis(1);
    assert_eq!(world.get(b"k"), None, "absent from the expiry on");
}

fn an_expiry_in_the_past_deletes(lab: &Lab) {
    let world = lab.open();
    for expire_at in [UnixMillis(0), UnixMillis(1), world.now()] {
        world.put(b"k", b"old");
        world.put_until(b"k", b"new", expire_at);
        assert_eq!(world.get(b"k"), None, "{expire_at}");
        world.churn(KS);
        assert_eq!(world.get(b"k"), None, "{expire_at}");
    }
    assert!(world.contents(KS).is_empty());
}

fn a_put_without_expiry_stays(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    world.pass_millis(1 << 40);
    assert_eq!(world.get(b"k").as_deref(), Some(&b"v"[..]));
}

fn a_later_put_replaces_the_expiry(lab: &Lab) {
    let world = lab.open();
    let soon = world.now().plus(100);
    world.put_until(b"longer", b"v", soon);
    world.put_until(b"longer", b"v", soon.plus(1000));
    world.put_until(b"forever", b"v", soon);
    world.put(b"forever", b"v");
    world.put(b"shorter", b"v");
    world.put_until(b"shorter", b"v", soon);
    world.pass_millis(100);
    assert!(world.get(b"longer").is_some());
    assert!(world.get(b"forever").is_some());
    assert!(world.get(b"shorter").is_none());
    world.churn(KS);
    assert_eq!(world.contents(KS).len(), 2);
}

/// Keys 0..n; each third one expires after 100 ms, each third one after 200 ms.
fn fill(world: &World, keys: usize) {
    let now = world.now();
    for n in 0..keys {
        match n % 3 {
            0 => world.put(&key(n), &value(n, 10)),
            1 => world.put_until(&key(n), &value(n, 10), now.plus(100)),
            _ => world.put_until(&key(n), &value(n, 10), now.plus(200)),
        };
    }
}

fn left(keys: usize, millis: u64) -> Contents {
    (0..keys)
        .filter(|n| n % 3 == 0 || (n % 3 == 2 && millis < 200) || millis < 100)
        .map(|n| (key(n), value(n, 10)))
        .collect()
}

fn get_many_skips_the_expired(lab: &Lab) {
    let world = lab.open();
    fill(&world, 60);
    world.pass_millis(100);
    let keys: Vec<Vec<u8>> = (0..60).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let found = read_many(&world, world.engine(), KS, &keys);
    let expected = left(60, 100);
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.as_ref(), expected.get(*key));
    }
}

fn sweeps_skip_the_expired(lab: &Lab) {
    let world = lab.open();
    fill(&world, 90);
    world.churn(KS);
    for millis in [0, 100, 200] {
        assert_eq!(world.contents(KS), left(90, millis), "after {millis} ms");
        world.pass_millis(100);
    }
}

fn check_scans(world: &World, keys: usize, millis: u64) {
    let mut expected: Vec<_> = left(keys, millis).into_iter().collect();
    for entries in [1, 7, 1000] {
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Forward, entries), expected);
    }
    expected.reverse();
    for entries in [1, 7, 1000] {
        assert_eq!(world.scan(&KeyRange::ALL, Direction::Backward, entries), expected);
    }
}

fn scans_skip_the_expired(lab: &Lab) {
    let world = lab.open();
    fill(&world, 60);
    for millis in [0, 100, 200] {
        check_scans(&world, 60, millis);
        world.pass_millis(100);
    }
}

fn scans_of_flushed_entries_skip_the_expired(lab: &Lab) {
    let mut world = lab.open();
    fill(&world, 60);
    world.churn(KS);
    world.reopen_if_durable();
    for millis in [0, 100, 200] {
        check_scans(&world, 60, millis);
        world.pass_millis(100);
    }
    world.churn(KS);
    check_scans(&world, 60, 200);
}

fn deleting_the_expired_finds_nothing(lab: &Lab) {
    let world = lab.open();
    world.put_until(b"k", b"v", world.now().plus(10));
    world.pass_millis(10);
    assert!(!world.delete(b"k"));
}

fn a_put_over_the_expired_finds_nothing(lab: &Lab) {
    let world = lab.open();
    world.put_until(b"k", b"v", world.now().plus(10));
    world.pass_millis(10);
    let options = world.write_options().reporting_existed();
    let written = world.wait(world.engine().put(KS, b"k", b"w", None, &options)).unwrap();
    assert_eq!(written.existed, Some(false));
    assert_eq!(world.get(b"k").as_deref(), Some(&b"w"[..]));
}

/// An old version without expiry, flushed; a new one with expiry, flushed; then it expires.
fn cover(world: &World) {
    for n in 0..30 {
        world.put(&key(n), b"older version");
    }
    world.churn(KS);
    for n in 0..30 {
        world.put_until(&key(n), b"newer version", world.now().plus(100));
    }
    world.churn(KS);
    world.pass_millis(100);
}

fn assert_nothing(world: &World) {
    for n in 0..30 {
        assert_eq!(world.get(&key(n)), None, "an older version of key {n} came back");
    }
    assert!(world.contents(KS).is_empty());
    if world.engine().as_ordered().is_some() {
        assert!(world.scan(&KeyRange::ALL, Direction::Forward, 5).is_empty());
        assert!(world.scan(&KeyRange::ALL, Direction::Backward, 5).is_empty());
    }
}

fn the_expired_does_not_uncover_an_older_version(lab: &Lab) {
    let world = lab.open();
    cover(&world);
    assert_nothing(&world);
    for _ in 0..4 {
        // Each churn may compact the expired version away; the older one must not appear.
        world.churn(KS);
        assert_nothing(&world);
    }
}

fn the_expired_does_not_uncover_it_after_reopening(lab: &Lab) {
    let mut world = lab.open();
    cover(&world);
    for _ in 0..4 {
        world.reopen();
        assert_nothing(&world);
        world.churn(KS);
    }
    world.reopen();
    assert_nothing(&world);
}

fn the_expired_does_not_uncover_a_deleted_one(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..30 {
        world.put(&key(n), b"oldest version");
    }
    world.churn(KS);
    for n in 0..30 {
        world.delete(&key(n));
    }
    world.churn(KS);
    for n in 0..30 {
        world.put_until(&key(n), b"newest version", world.now().plus(100));
    }
    world.churn(KS);
    world.pass_millis(100);
    for _ in 0..3 {
        assert_nothing(&world);
        world.churn(KS);
        world.reopen_if_durable();
    }
}

fn many_expiries_interleaved(lab: &Lab) {
    let world = lab.open();
    let mut rng = lab.rng();
    let mut expected: BTreeMap<Vec<u8>, (Vec<u8>, Option<UnixMillis>)> = BTreeMap::new();
    for round in 0..800 {
        let key = key(rng.below(60));
        match rng.below(5) {
            0 => {
                world.delete(&key);
                expected.remove(&key);
            }
            1 => {
                world.put(&key, &value(round, 12));
                expected.insert(key, (value(round, 12), None));
            }
            _ => {
                let at = world.now().plus(1 + rng.below(80) as u64);
                world.put_until(&key, &value(round, 12), at);
                expected.insert(key, (value(round, 12), Some(at)));
            }
        }
        world.pass_millis(rng.below(4) as u64);
        let now = world.now();
        expected.retain(|_, (_, at)| !Entry::is_expired_at(*at, now));
        if round % 20 == 0 {
            let expected: Contents =
                expected.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
            assert_eq!(world.contents(KS), expected, "round {round}");
        }
        if round % 100 == 99 {
            world.churn(KS);
        }
    }
}

fn the_expired_may_count_but_nothing_else_does(lab: &Lab) {
    let world = lab.open();
    fill(&world, 30);
    assert_eq!(world.len(KS), 30);
    world.pass_millis(100);
    assert!((20..=30).contains(&world.len(KS)));
    for n in 0..30 {
        world.get(&key(n));
    }
    world.churn(KS);
    assert!((20..=30).contains(&world.len(KS)));
    for n in 0..30 {
        world.delete(&key(n));
    }
    world.churn(KS);
    assert!(world.len(KS) <= 10, "only the expired may still count");
    world.clear(KS);
    assert_eq!(world.len(KS), 0);
}

fn expiries_survive_reopening(lab: &Lab) {
    let mut world = lab.open();
    let soon = world.now().plus(500);
    world.put_until(b"k", b"v", soon);
    world.put(b"forever", b"v");
    for churned in [false, true] {
        if churned {
            world.churn(KS);
        }
        world.reopen();
        assert_eq!(world.entry(KS, b"k").unwrap().expire_at, Some(soon));
        assert_eq!(world.entry(KS, b"forever").unwrap().expire_at, None);
    }
    world.pass_millis(500);
    assert_eq!(world.get(b"k"), None);
    world.reopen();
    assert_eq!(world.get(b"k"), None);
    assert_eq!(world.contents(KS).len(), 1);
}

fn a_clock_that_steps_back_revives_nothing(lab: &Lab) {
    let world = lab.open();
    let start = world.now();
    world.put_until(b"k", b"v", start.plus(100));
    world.pass_millis(100);
    assert_eq!(world.get(b"k"), None);
    world.set_clock(start);
    assert_eq!(world.get(b"k"), None);
    assert_eq!(world.get_many(&[b"k"]), [None]);
    assert!(world.contents(KS).is_empty());
    assert!(!world.delete(b"k"));
    // What is put on the clock that stepped back counts from the time already reached.
    world.put_until(b"k", b"v", start.plus(50));
    assert_eq!(world.get(b"k"), None);
    assert_eq!(world.get_many(&[]), NOTHING);
}

fn a_clock_that_steps_back_at_reopening_revives_nothing(lab: &Lab) {
    for churned in [false, true] {
        let mut world = lab.open();
        let start = world.now();
        world.put_until(b"k", b"v", start.plus(100));
        world.put_until(b"later", b"v", start.plus(1_000_000));
        if churned {
            world.churn(KS);
        }
        world.pass_millis(100);
        assert_eq!(world.get(b"k"), None);
        // A durable write after it was seen absent.
        world.put_at(world.strongest(), b"other", b"v");
        world.close();
        world.set_clock(start);
        world.open_again();
        assert_eq!(world.get(b"k"), None, "time went backwards across the restart");
        assert!(world.get(b"later").is_some());
        assert_eq!(world.contents(KS).len(), 2);
    }
}

fn an_expiry_at_the_end_of_time(lab: &Lab) {
    let mut world = lab.open();
    let end = UnixMillis(u64::MAX);
    world.put_until(b"k", b"v", end);
    world.churn(KS);
    world.reopen_if_durable();
    if world.factory().durable() {
        assert_eq!(world.entry(KS, b"k").unwrap().expire_at, Some(end));
    }
}

fn keyspaces_expire_alike(lab: &Lab) {
    let world = lab.open();
    let (a, b) = (KeyspaceId(1), KeyspaceId(2));
    let soon = world.now().plus(100);
    let mut batch = WriteBatch::new();
    batch.put(a, b"k", b"v", Some(soon)).put(b, b"k", b"v", None);
    world.write(&batch);
    world.swap(a, b);
    world.pass_millis(100);
    assert_eq!(world.get_in(b, b"k"), None);
    assert_eq!(world.get_in(a, b"k").as_deref(), Some(&b"v"[..]));
    assert!(world.contents(b).is_empty());
}
