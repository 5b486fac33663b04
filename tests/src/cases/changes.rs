//! The change feed: every change once, in order, enough to rebuild the state.

use ferrokit_engine::{Change, ChangeBatch, ChangeFeed, ChangePosition, Durability};

use super::prelude::*;

group! { changes, __suite_changes:
    replaying_the_feed_gives_the_state: Changes,
    a_batch_is_one_batch: Changes,
    clear_and_swap_are_changes: Changes | Keyspaces,
    it_waits_for_a_change: Changes,
    positions_rise: Changes,
    a_feed_resumes_where_it_stood: Changes,
    a_position_ahead_is_refused: Changes,
    a_dropped_wait_loses_nothing: Changes,
    a_small_budget_gives_all_in_the_end: Changes,
    two_feeds_see_the_same: Changes,
    memory_writes_are_in_it: Changes,
    an_expiry_is_emitted_once: Changes,
    an_expiry_is_emitted_once_under_concurrent_reads: Changes,
    a_closed_engine_ends_the_feed: Changes,
    a_feed_goes_on_after_reopening: Changes | Synced,
}

/// The state that a feed describes.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Replica {
    keyspaces: BTreeMap<u32, Contents>,
    expired: Vec<(KeyspaceId, Vec<u8>)>,
    batches: usize,
}

impl Replica {
    fn apply(&mut self, batch: &ChangeBatch<'_>) {
        self.batches += 1;
        assert!(!batch.changes.is_empty(), "an empty batch is no change");
        for change in batch.changes {
            match *change {
                Change::Put { keyspace, key, value, .. } => {
                    let entries = self.keyspaces.entry(keyspace.0).or_default();
                    entries.insert(key.to_vec(), value.to_vec());
                }
                Change::Delete { keyspace, key } => {
                    self.keyspaces.entry(keyspace.0).or_default().remove(key);
                }
                Change::Expired { keyspace, key } => {
                    self.keyspaces.entry(keyspace.0).or_default().remove(key);
                    self.expired.push((keyspace, key.to_vec()));
                }
                Change::Clear { keyspace } => {
                    self.keyspaces.remove(&keyspace.0);
                }
                Change::Swap { a, b } if a == b => {}
                Change::Swap { a, b } => {
                    let in_a = self.keyspaces.remove(&a.0).unwrap_or_default();
                    let in_b = self.keyspaces.remove(&b.0).unwrap_or_default();
                    self.keyspaces.insert(b.0, in_a);
                    self.keyspaces.insert(a.0, in_b);
                }
            }
        }
    }

    fn keyspace(&self, keyspace: KeyspaceId) -> Contents {
        self.keyspaces.get(&keyspace.0).cloned().unwrap_or_default()
    }
}

fn subscribe(world: &World, from: Option<ChangePosition>) -> Box<dyn ChangeFeed> {
    let changes = world.engine().as_changes().expect("a capability");
    world.wait(changes.subscribe(from)).unwrap_or_else(|error| panic!("subscribe: {error}"))
}

/// Reads the feed up to everything that has taken effect.
fn drain(world: &World, feed: &mut dyn ChangeFeed, replica: &mut Replica, budget: usize) {
    let end = world.engine().as_changes().expect("a capability").position();
    while feed.position() < end {
        let before = feed.position();
        let mut last = before;
        let mut visit = |batch: &ChangeBatch<'_>| {
            assert!(batch.next > last, "positions rise within a feed");
            last = batch.next;
            replica.apply(batch);
        };
        let at = world.wait(feed.next_with(budget, &mut visit)).unwrap();
        assert_eq!((at, at), (last, feed.position()));
        assert!(at > before, "a wait ends with a change");
    }
}

/// Reads the feed until it has told of so many expiries. Collecting is a job's work: where jobs have
/// threads of their own, further writes give it the time.
fn drain_expiries(world: &World, feed: &mut dyn ChangeFeed, replica: &mut Replica, count: usize) {
    for round in 0..2000_u32 {
        world.put(b"tick", &round.to_le_bytes());
        world.settle();
        drain(world, feed, replica, 1000);
        if replica.expired.len() >= count {
            return;
        }
    }
}

fn mixed_writes(world: &World, seed: u64, rounds: usize) {
    let mut rng = crate::random::Rng::new(seed);
    let keyspaces = world.capabilities().max_keyspaces.min(3);
    for round in 0..rounds {
        let keyspace = KeyspaceId(rng.below(keyspaces as usize) as u32);
        let key = key(rng.below(25));
        let options = world.write_options();
        match rng.below(12) {
            0 => {
                world.wait(world.engine().delete(keyspace, &key, &options)).unwrap();
            }
            1 => {
                let mut batch = WriteBatch::new();
                for n in 0..5 {
                    batch.put(keyspace, &crate::world::key(n), &value(round, 9), None);
                }
                batch.delete(keyspace, &key);
                world.write(&batch);
            }
            2 if rng.one_in(5) => {
                world.clear(keyspace);
            }
            3 => {
                world.swap(keyspace, KeyspaceId(rng.below(keyspaces as usize) as u32));
            }
            4 => {
                let mut change = |_: Option<Entry<'_>>, out: &mut Vec<u8>| {
                    out.extend_from_slice(&value(round, 3));
                    Update::Put { expire_at: None }
                };
                let op = world.engine().update(keyspace, &key, &options, &mut change);
                world.wait(op).unwrap();
            }
            _ => {
                world.put_in(keyspace, &key, &value(round, 20));
            }
        }
    }
}

fn assert_same(world: &World, replica: &Replica) {
    for id in 0..world.capabilities().max_keyspaces.min(3) {
        let keyspace = KeyspaceId(id);
        assert_eq!(replica.keyspace(keyspace), world.contents(keyspace), "keyspace {id}");
    }
}

fn replaying_the_feed_gives_the_state(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    let mut replica = Replica::default();
    for round in 0..8 {
        mixed_writes(&world, lab.seed() + round, 60);
        drain(&world, &mut *feed, &mut replica, 1000);
        assert_same(&world, &replica);
        if round % 3 == 2 {
            world.churn(KS);
        }
    }
}

fn a_batch_is_one_batch(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    let mut batch = WriteBatch::new();
    for n in 0..10 {
        batch.put(KS, &key(n), b"v", None);
    }
    world.write(&batch);
    let mut sizes = Vec::new();
    let mut visit = |batch: &ChangeBatch<'_>| sizes.push(batch.changes.len());
    world.wait(feed.next_with(1, &mut visit)).unwrap();
    assert_eq!(sizes, [10], "what took effect together is delivered together");
}

fn clear_and_swap_are_changes(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    let (a, b) = (KeyspaceId(1), KeyspaceId(2));
    world.put_in(a, b"k", b"v");
    world.swap(a, b);
    world.clear(b);
    let mut found = Vec::new();
    let mut visit = |batch: &ChangeBatch<'_>| {
        for change in batch.changes {
            match change {
                Change::Swap { a, b } => found.push(format!("swap {} {}", a.0, b.0)),
                Change::Clear { keyspace } => found.push(format!("clear {}", keyspace.0)),
                Change::Put { keyspace, .. } => found.push(format!("put {}", keyspace.0)),
                _ => found.push("other".to_owned()),
            }
        }
    };
    let end = world.engine().as_changes().expect("a capability").position();
    while feed.position() < end {
        world.wait(feed.next_with(usize::MAX, &mut visit)).unwrap();
    }
    assert_eq!(found, ["put 1", "swap 1 2", "clear 2"]);
}

fn it_waits_for_a_change(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    let mut batches = 0;
    let mut visit = |_: &ChangeBatch<'_>| batches += 1;
    let mut waiting = feed.next_with(1000, &mut visit);
    for _ in 0..5 {
        assert!(poll_once(&mut waiting).is_pending(), "there is no change yet");
        world.host().background.step();
    }
    world.put(b"k", b"v");
    world.wait(waiting).unwrap();
    assert!(batches >= 1);
}

fn positions_rise(lab: &Lab) {
    let world = lab.open();
    let changes = world.engine().as_changes().expect("a capability");
    let feed = subscribe(&world, None);
    assert_eq!(feed.position(), changes.position());
    let mut last = changes.position();
    for n in 0..10 {
        world.put(&key(n), b"v");
        assert!(changes.position() > last);
        last = changes.position();
    }
    world.get(&key(1));
    assert_eq!(changes.position(), last, "a read is no change");
}

fn a_feed_resumes_where_it_stood(lab: &Lab) {
    let world = lab.open();
    let mut first = subscribe(&world, None);
    // A second feed holds the log while the first one comes and goes.
    let _holder = subscribe(&world, None);
    let mut replica = Replica::default();
    for round in 0..10 {
        mixed_writes(&world, lab.seed() ^ round, 20);
        let mut batches = 0;
        let mut visit = |batch: &ChangeBatch<'_>| {
            replica.apply(batch);
            batches += 1;
        };
        world.wait(first.next_with(200, &mut visit)).unwrap();
        let position = first.position();
        drop(first);
        first = subscribe(&world, Some(position));
        assert_eq!(first.position(), position);
    }
    drain(&world, &mut *first, &mut replica, 1000);
    assert_same(&world, &replica);
}

fn a_position_ahead_is_refused(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"v");
    let changes = world.engine().as_changes().expect("a capability");
    let ahead = ChangePosition(changes.position().0 + 1_000_000);
    let result = world.wait(changes.subscribe(Some(ahead)));
    expect_error(result.map(|_| ()), ErrorKind::InvalidArgument);
}

fn a_dropped_wait_loses_nothing(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    let mut replica = Replica::default();
    for round in 0..30 {
        if round % 2 == 1 {
            mixed_writes(&world, round, 5);
        }
        let mut visit = |batch: &ChangeBatch<'_>| replica.apply(batch);
        let mut op = feed.next_with(50, &mut visit);
        for _ in 0..round % 4 {
            if poll_once(&mut op).is_ready() {
                break;
            }
            world.host().background.step();
        }
        drop(op);
    }
    drain(&world, &mut *feed, &mut replica, 100);
    assert_same(&world, &replica);
}

fn a_small_budget_gives_all_in_the_end(lab: &Lab) {
    let world = lab.open();
    let (mut small, mut large) = (subscribe(&world, None), subscribe(&world, None));
    mixed_writes(&world, lab.seed(), 200);
    let (mut by_small, mut by_large) = (Replica::default(), Replica::default());
    drain(&world, &mut *small, &mut by_small, 1);
    drain(&world, &mut *large, &mut by_large, usize::MAX);
    assert_eq!(by_small, by_large);
    assert_same(&world, &by_small);
}

fn two_feeds_see_the_same(lab: &Lab) {
    let world = lab.open();
    let mut early = subscribe(&world, None);
    mixed_writes(&world, 1, 50);
    let mut late = subscribe(&world, Some(early.position()));
    mixed_writes(&world, 2, 50);
    let (mut by_early, mut by_late) = (Replica::default(), Replica::default());
    drain(&world, &mut *early, &mut by_early, 300);
    drain(&world, &mut *late, &mut by_late, 700);
    assert_eq!(by_early, by_late);
}

fn memory_writes_are_in_it(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    for n in 0..20 {
        world.put_at(Durability::Memory, &key(n), b"v");
    }
    // No write of a higher level comes and takes them along.
    world.put_at(Durability::Memory, b"last", b"v");
    let mut replica = Replica::default();
    drain(&world, &mut *feed, &mut replica, 1000);
    assert_same(&world, &replica);
}

fn an_expiry_is_emitted_once(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    for n in 0..20 {
        world.put_until(&key(n), b"v", world.now().plus(100));
    }
    world.put_until(b"kept", b"v", world.now().plus(100_000));
    world.pass_millis(100);
    for _ in 0..3 {
        for n in 0..20 {
            assert_eq!(world.get(&key(n)), None);
        }
        world.contents(KS);
        world.churn(KS);
    }
    // Discovered by a write, too.
    world.put_until(b"again", b"1", world.now().plus(10));
    world.pass_millis(10);
    world.put(b"again", b"2");
    let mut replica = Replica::default();
    drain_expiries(&world, &mut *feed, &mut replica, 21);
    let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (_, key) in &replica.expired {
        *times.entry(key.clone()).or_default() += 1;
    }
    for n in 0..20 {
        assert_eq!(times.remove(&key(n)), Some(1), "key {n}");
    }
    assert_eq!(times.remove(&b"again"[..]), Some(1));
    assert!(times.is_empty(), "{times:?}");
    assert_same(&world, &replica);
}

fn an_expiry_is_emitted_once_under_concurrent_reads(lab: &Lab) {
    let world = lab.open_threaded();
    let mut feed = subscribe(&world, None);
    for n in 0..100 {
        world.put_until(&key(n), b"v", world.now().plus(100));
    }
    world.pass_millis(100);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..300 {
                    assert_eq!(world.get(&key((n * (thread + 1)) % 100)), None);
                }
                assert!(world.contents(KS).is_empty());
            });
        }
    });
    world.churn(KS);
    let mut replica = Replica::default();
    drain_expiries(&world, &mut *feed, &mut replica, 100);
    let keys: BTreeSet<_> = replica.expired.iter().map(|(_, key)| key.clone()).collect();
    assert_eq!(keys.len(), replica.expired.len(), "an expiry was emitted twice");
    assert_eq!(keys.len(), 100);
}

fn a_closed_engine_ends_the_feed(lab: &Lab) {
    let world = lab.open();
    let mut feed = subscribe(&world, None);
    for n in 0..10 {
        world.put(&key(n), b"v");
    }
    let expected = world.contents(KS);
    let end = world.engine().as_changes().expect("a capability").position();
    world.wait(world.engine().close()).unwrap();
    let mut replica = Replica::default();
    let error = loop {
        let mut visit = |batch: &ChangeBatch<'_>| replica.apply(batch);
        match world.wait(feed.next_with(100, &mut visit)) {
            Ok(position) => assert!(position <= end),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_eq!(replica.keyspace(KS), expected, "the last change comes before the end");
}

fn a_feed_goes_on_after_reopening(lab: &Lab) {
    let mut world = lab.open();
    let mut feed = subscribe(&world, None);
    let mut replica = Replica::default();
    mixed_writes(&world, 1, 60);
    drain(&world, &mut *feed, &mut replica, 1000);
    let position = feed.position();
    drop(feed);
    world.reopen();
    mixed_writes(&world, 2, 60);
    let changes = world.engine().as_changes().expect("a capability");
    // A log may have been trimmed while nobody held it: then that is said.
    match world.wait(changes.subscribe(Some(position))) {
        Ok(mut feed) => {
            drain(&world, &mut *feed, &mut replica, 1000);
            assert_same(&world, &replica);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
    }
}
