//! Dropping an operation at any point: it happened or not, and everything goes on.

use std::sync::Arc;

use ferrokit_engine::{KvEngine, Op};

use super::prelude::*;

group! { cancellation, __suite_cancellation:
    a_dropped_put_happened_or_not,
    a_dropped_delete_happened_or_not,
    a_dropped_batch_is_whole,
    a_dropped_update_counts_once_or_not,
    dropped_reads_are_harmless,
    the_followers_of_a_dropped_leader_commit,
    many_dropped_writes_and_then_a_sync,
    a_dropped_sync_and_a_dropped_ticket,
    a_dropped_close_can_be_repeated,
    dropped_writes_are_what_recovery_finds: Durable,
    dropped_under_threads,
}

/// How far an operation is driven before it is dropped.
const POLLS_MAX: usize = 10;

/// Polls `op` up to `polls` times, letting jobs run in between, and drops it.
fn abandon<T>(world: &World, mut op: Op<'_, T>, polls: usize) {
    for _ in 0..polls {
        if poll_once(&mut op).is_ready() {
            break;
        }
        world.host().background.step();
    }
}

/// The engine still answers and commits.
fn assert_alive(world: &World, round: usize) {
    world.put(b"alive", &value(round, 20));
    assert_eq!(world.get(b"alive"), Some(value(round, 20)));
    world.settle();
}

fn a_dropped_put_happened_or_not(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    for polls in 0..POLLS_MAX {
        world.put(b"k", b"old");
        abandon(&world, world.engine().put(KS, b"k", b"new", None, &options), polls);
        assert_alive(&world, polls);
        let found = world.get(b"k").expect("one of the two is there");
        assert!(found == b"old" || found == b"new");
        world.churn(KS);
        assert_eq!(world.get(b"k"), Some(found), "it has happened or not, once and for all");
    }
}

fn a_dropped_delete_happened_or_not(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options().reporting_existed();
    for polls in 0..POLLS_MAX {
        world.put(b"k", b"v");
        abandon(&world, world.engine().delete(KS, b"k", &options), polls);
        assert_alive(&world, polls);
        let found = world.get(b"k");
        world.churn(KS);
        assert_eq!(world.get(b"k"), found);
    }
}

fn a_dropped_batch_is_whole(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    for polls in 0..POLLS_MAX {
        let mut batch = WriteBatch::new();
        for n in 0..30 {
            batch.put(KS, &key(n), &value(polls, 40), None);
        }
        abandon(&world, world.engine().write(&batch, &options), polls);
        assert_alive(&world, polls);
        let found: BTreeSet<_> = (0..30).map(|n| world.get(&key(n))).collect();
        assert_eq!(found.len(), 1, "half a batch after {polls} polls: {found:?}");
    }
}

fn a_dropped_update_counts_once_or_not(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    let mut last = 0u64;
    for polls in 0..3 * POLLS_MAX {
        let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
            let number = current.map_or(0, |entry| {
                u64::from_le_bytes(entry.value.try_into().expect("a counter has 8 bytes"))
            });
            out.extend_from_slice(&(number + 1).to_le_bytes());
            Update::Put { expire_at: None }
        };
        let op = world.engine().update(KS, b"counter", &options, &mut change);
        abandon(&world, op, polls % POLLS_MAX);
        assert_alive(&world, polls);
        let found = world.get(b"counter");
        let number = found.map_or(0, |v| u64::from_le_bytes(v.try_into().expect("8 bytes")));
        assert!(number == last || number == last + 1, "from {last} to {number}");
        last = number;
        if polls % 10 == 9 {
            world.churn(KS);
        }
    }
}

fn dropped_reads_are_harmless(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..200 {
        world.put(&key(n), &value(n, 60));
    }
    world.churn(KS);
    world.reopen_if_durable();
    if !world.factory().durable() {
        assert_eq!(world.contents(KS).len(), 200);
    }
    let keys: Vec<Vec<u8>> = (0..200).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for polls in 0..POLLS_MAX {
        let mut visit = |_: Entry<'_>| {};
        let read_key = key(polls);
        let options = ReadOptions::default();
        let op = world.engine().get_with(KS, &read_key, &options, &mut visit);
        abandon(&world, op, polls);
        let mut visit = |_: usize, _: Entry<'_>| {};
        abandon(&world, world.engine().get_many_with(KS, &keys, &options, &mut visit), polls);
        let mut visit = |_: &[u8], _: Entry<'_>| {};
        let start = SweepCursor::start();
        abandon(&world, world.engine().sweep(KS, &start, 50, &options, &mut visit), polls);
        if let Some(ordered) = world.engine().as_ordered() {
            let limits = ScanLimits::entries(100);
            let all = KeyRange::ALL;
            let op = ordered.scan_with(KS, &all, Direction::Backward, limits, &options, &mut visit);
            abandon(&world, op, polls);
        }
        if let Some(snapshots) = world.engine().as_snapshots() {
            abandon(&world, snapshots.snapshot(), polls);
        }
    }
    for n in 0..200 {
        assert_eq!(world.get(&key(n)), Some(value(n, 60)));
    }
}

fn the_followers_of_a_dropped_leader_commit(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    for polls in 1..POLLS_MAX {
        let engine = world.engine();
        let new = value(polls, 10);
        let mut leader = engine.put(KS, b"leader", &new, None, &options);
        let mut follower = engine.put(KS, b"follower", &new, None, &options);
        let mut last = engine.put(KS, b"last", &new, None, &options);
        let _ = poll_once(&mut leader);
        let follower_is_done = poll_once(&mut follower).is_ready();
        let last_is_done = poll_once(&mut last).is_ready();
        for _ in 0..polls {
            world.host().background.step();
        }
        drop(leader);
        if !follower_is_done {
            world.wait(follower).unwrap();
        }
        if !last_is_done {
            world.wait(last).unwrap();
        }
        assert_eq!(world.get(b"follower").as_ref(), Some(&new));
        assert_eq!(world.get(b"last").as_ref(), Some(&new));
    }
}

fn many_dropped_writes_and_then_a_sync(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options();
    for round in 0..20 {
        let keys: Vec<Vec<u8>> = (0..50).map(key).collect();
        let new = value(round, 30);
        let mut ops: Vec<_> =
            keys.iter().map(|key| world.engine().put(KS, key, &new, None, &options)).collect();
        for op in &mut ops {
            let _ = poll_once(op);
        }
        if round % 2 == 0 {
            world.host().background.step();
        }
        drop(ops);
        world.wait(world.engine().sync(options.durability)).unwrap();
        assert_alive(&world, round);
    }
}

fn a_dropped_sync_and_a_dropped_ticket(lab: &Lab) {
    let world = lab.open();
    let options = world.write_options().applied();
    for polls in 0..POLLS_MAX {
        let written = world.wait(world.engine().put(KS, b"k", b"v", None, &options)).unwrap();
        abandon(&world, world.engine().committed(written.ticket), polls);
        abandon(&world, world.engine().sync(options.durability), polls);
        world.wait(world.engine().committed(written.ticket)).unwrap();
        assert_alive(&world, polls);
    }
}

fn a_dropped_close_can_be_repeated(lab: &Lab) {
    for polls in 0..POLLS_MAX {
        let mut world = lab.open();
        world.put(b"k", b"v");
        abandon(&world, world.engine().close(), polls);
        world.close();
        if world.factory().durable() {
            world.open_again();
            assert_eq!(world.get(b"k").as_deref(), Some(&b"v"[..]));
        }
    }
}

fn dropped_writes_are_what_recovery_finds(lab: &Lab) {
    for polls in 0..POLLS_MAX {
        let mut world = lab.open();
        let options = world.write_options();
        let mut batch = WriteBatch::new();
        batch.put(KS, b"a", b"1", None).put(KS, b"b", b"1", None);
        abandon(&world, world.engine().write(&batch, &options), polls);
        abandon(&world, world.engine().put(KS, b"c", b"1", None, &options), polls);
        assert_alive(&world, polls);
        let before = world.contents(KS);
        assert_eq!(before.contains_key(&b"a"[..]), before.contains_key(&b"b"[..]));
        world.reopen();
        assert_eq!(world.contents(KS), before);
    }
}

fn dropped_under_threads(lab: &Lab) {
    let world = lab.open_threaded();
    let engine: Arc<dyn KvEngine> = world.handle();
    let options = world.write_options();
    std::thread::scope(|scope| {
        for thread in 0..3usize {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..300 {
                    let op_key = key(round % 20);
                    let new = value(thread * 1000 + round, 50);
                    let mut op = engine.put(KS, &op_key, &new, None, &options);
                    for _ in 0..round % 4 {
                        if poll_once(&mut op).is_ready() {
                            break;
                        }
                    }
                }
            });
        }
        let (engine, world) = (&engine, &world);
        scope.spawn(move || {
            for round in 0..200 {
                let op_key = key(100 + round);
                world.wait(engine.put(KS, &op_key, b"kept", None, &options)).unwrap();
            }
        });
    });
    drop(engine);
    assert_alive(&world, 0);
    for round in 0..200 {
        assert_eq!(world.get(&key(100 + round)).as_deref(), Some(&b"kept"[..]));
    }
}
