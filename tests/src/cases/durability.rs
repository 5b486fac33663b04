//! What survives which crash, and when an operation may complete. The exhaustive form, a cut at
//! every I/O, is in `crash`.

use ferrokit_engine::{Durability, ReadOptions, ScanLimits, WriteOptions};
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind};

use super::prelude::*;

group! { durability, __suite_durability:
    levels_beyond_the_strongest_are_refused: NotSynced,
    a_synced_write_survives_a_power_cut: Synced | Simulated,
    every_kind_of_write_survives_a_power_cut: Synced | Simulated,
    an_os_write_survives_the_process: Durable | Simulated,
    sync_makes_earlier_writes_durable: Synced | Simulated,
    a_durable_write_implies_the_earlier_ones: Synced | Simulated,
    a_ticket_is_durable_once_committed: Synced | Simulated,
    closing_makes_os_writes_synced: Synced | Simulated,
    a_memory_write_is_there_or_not: Synced | Simulated,
    a_read_shows_only_what_is_durable: Synced | Simulated,
    an_applied_read_tells_what_to_wait_for: Synced | Simulated,
    a_batch_is_whole_wherever_it_is_cut: Synced | Simulated,
    deleted_keys_stay_away: Durable,
    deleted_keys_stay_away_after_crashes: Synced | Simulated,
    a_failed_sync_poisons: Synced | Simulated,
    a_failed_sync_is_not_forgiven_by_a_later_one: Synced | Simulated,
    many_crashes_in_a_row: Synced | Simulated,
}

const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);

fn levels_beyond_the_strongest_are_refused(lab: &Lab) {
    let world = lab.open();
    world.put(b"k", b"old");
    let engine = world.engine();
    for level in [Durability::Memory, Durability::Os, Durability::Synced] {
        if level <= world.strongest() {
            world.wait(engine.sync(level)).unwrap();
            continue;
        }
        let options = WriteOptions::with_durability(level);
        let refused = ErrorKind::Unsupported;
        expect_error(world.wait(engine.put(KS, b"k", b"new", None, &options)), refused);
        expect_error(world.wait(engine.delete(KS, b"k", &options)), refused);
        let mut change = |_: Option<Entry<'_>>, _: &mut Vec<u8>| Update::Delete;
        expect_error(world.wait(engine.update(KS, b"k", &options, &mut change)), refused);
        let mut batch = WriteBatch::new();
        batch.delete(KS, b"k");
        expect_error(world.wait(engine.write(&batch, &options)), refused);
        expect_error(world.wait(engine.clear_keyspace(KS, &options)), refused);
        expect_error(world.wait(engine.swap_keyspaces(KS, KS, &options)), refused);
        expect_error(world.wait(engine.sync(level)), refused);
        assert_eq!(world.get(b"k").as_deref(), Some(&b"old"[..]));
    }
}

fn a_synced_write_survives_a_power_cut(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..20 {
        world.put_at(Durability::Synced, &key(n), &value(n, 50));
        world.crash(CrashMode::DropUnsynced);
        for n in 0..=n {
            assert_eq!(world.get(&key(n)), Some(value(n, 50)), "key {n}");
        }
    }
}

fn every_kind_of_write_survives_a_power_cut(lab: &Lab) {
    let mut world = lab.open();
    let later = world.now().plus(1 << 40);
    for n in 0..10 {
        world.put(&key(n), b"v");
    }
    // On a stepped machine cases write as durably as the engine can.
    world.delete(&key(0));
    world.put_until(&key(1), b"ttl", later);
    world.update(&key(2), |_, out| {
        out.extend_from_slice(b"updated");
        Update::Put { expire_at: None }
    });
    world.update(&key(3), |_, _| Update::Delete);
    let mut batch = WriteBatch::new();
    batch.put(KS, &key(4), b"batched", None).delete(KS, &key(5));
    world.write(&batch);
    let check = |world: &World| {
        assert_eq!(world.get(&key(0)), None);
        assert_eq!(world.entry(KS, &key(1)).unwrap().expire_at, Some(later));
        assert_eq!(world.get(&key(2)).as_deref(), Some(&b"updated"[..]));
        assert_eq!(world.get(&key(3)), None);
        assert_eq!(world.get(&key(4)).as_deref(), Some(&b"batched"[..]));
        assert_eq!(world.get(&key(5)), None);
        assert_eq!(world.contents(KS).len(), 7);
    };
    world.crash(CrashMode::DropUnsynced);
    check(&world);
    if world.capabilities().max_keyspaces >= 3 {
        world.swap(KS, KeyspaceId(1));
        world.crash(CrashMode::DropUnsynced);
        assert!(world.contents(KS).is_empty());
        world.swap(KS, KeyspaceId(1));
        world.crash(CrashMode::DropUnsynced);
        check(&world);
    }
    world.clear(KS);
    world.crash(CrashMode::DropUnsynced);
    assert!(world.contents(KS).is_empty());
}

fn an_os_write_survives_the_process(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..20 {
        world.put_at(Durability::Os, &key(n), &value(n, 50));
        world.crash(CrashMode::ProcessKill);
        assert_eq!(world.contents(KS).len(), n + 1);
        assert_eq!(world.get(&key(n)), Some(value(n, 50)));
    }
}

fn sync_makes_earlier_writes_durable(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..50 {
        world.put_at(Durability::Os, &key(n), b"v");
    }
    world.wait(world.engine().sync(Durability::Synced)).unwrap();
    world.crash(CrashMode::DropUnsynced);
    assert_eq!(world.contents(KS).len(), 50);
}

fn a_durable_write_implies_the_earlier_ones(lab: &Lab) {
    for level in [Durability::Os, Durability::Synced] {
        let mut world = lab.open();
        for n in 0..30 {
            world.put_at(Durability::Os, &key(n), b"v");
        }
        world.put_at(Durability::Synced, b"last", b"v");
        world.put_at(level, b"after", b"v");
        world.crash(CrashMode::DropUnsynced);
        let contents = world.contents(KS);
        assert!(contents.contains_key(&b"last"[..]));
        for n in 0..30 {
            assert!(contents.contains_key(&key(n)), "write {n} before the synced one is lost");
        }
    }
}

fn a_ticket_is_durable_once_committed(lab: &Lab) {
    let mut world = lab.open();
    let mut ticket = CommitTicket::NONE;
    for n in 0..30 {
        let options = SYNCED.applied();
        let op_key = key(n);
        let op = world.engine().put(KS, &op_key, b"v", None, &options);
        let written = world.wait(op).unwrap();
        assert!(written.ticket.synced > 0, "an applied synced write has something to wait for");
        ticket = ticket.join(written.ticket);
    }
    world.wait(world.engine().committed(ticket)).unwrap();
    world.crash(CrashMode::DropUnsynced);
    assert_eq!(world.contents(KS).len(), 30);
}

fn closing_makes_os_writes_synced(lab: &Lab) {
    let mut world = lab.open();
    for n in 0..30 {
        world.put_at(Durability::Os, &key(n), b"v");
    }
    world.close();
    world.crash(CrashMode::DropUnsynced);
    assert_eq!(world.contents(KS).len(), 30);
}

fn a_memory_write_is_there_or_not(lab: &Lab) {
    for mode in [CrashMode::DropUnsynced, CrashMode::KeepAll, CrashMode::ProcessKill] {
        let mut world = lab.open();
        for n in 0..300 {
            let level = [Durability::Memory, Durability::Os, Durability::Synced][n % 3];
            world.put_at(level, &key(n), &value(n, 30));
        }
        world.crash(mode);
        let contents = world.contents(KS);
        for (found_key, found) in &contents {
            let n = (0..300).find(|n| key(*n) == *found_key).expect("a key that was written");
            assert_eq!(*found, value(n, 30));
        }
        for n in (2..300).step_by(3) {
            assert!(contents.contains_key(&key(n)), "synced key {n} is lost");
        }
    }
}

/// A way to read key `k`.
type Reader = fn(&World) -> Option<Vec<u8>>;

fn by_get_many(world: &World) -> Option<Vec<u8>> {
    world.get_many(&[b"absent", b"k"]).remove(1)
}

fn by_sweep(world: &World) -> Option<Vec<u8>> {
    world.contents(KS).remove(&b"k"[..])
}

fn by_update(world: &World) -> Option<Vec<u8>> {
    let mut found = None;
    world.update(b"k", |current, _| {
        found = current.map(|entry| entry.value.to_vec());
        Update::Keep
    });
    found
}

fn by_scan(world: &World) -> Option<Vec<u8>> {
    let Some(ordered) = world.engine().as_ordered() else { return world.get(b"k") };
    let mut found = None;
    let mut visit = |key: &[u8], entry: Entry<'_>| {
        if key == b"k" {
            found = Some(entry.value.to_vec());
        }
    };
    let (limits, options) = (ScanLimits::entries(10), ReadOptions::default());
    let all = KeyRange::ALL;
    let op = ordered.scan_with(KS, &all, Direction::Forward, limits, &options, &mut visit);
    world.wait(op).unwrap();
    found
}

fn by_snapshot(world: &World) -> Option<Vec<u8>> {
    let Some(snapshots) = world.engine().as_snapshots() else { return world.get(b"k") };
    let snapshot = world.wait(snapshots.snapshot()).unwrap();
    read_entry(world, &*snapshot, KS, b"k").map(|entry| entry.value)
}

/// Starts a synced write and lets it get `steps` far, so that it may be visible but not durable.
/// Then `act` looks, the power is cut, and `check` gets what `act` answered.
fn look_during_a_write<T>(
    lab: &Lab,
    steps: usize,
    act: impl Fn(&World) -> T,
    check: impl Fn(&World, T),
) {
    let mut world = lab.open();
    world.put_at(Durability::Synced, b"k", b"old");
    let engine = world.handle();
    let mut op = engine.put(KS, b"k", b"new", None, &SYNCED);
    for _ in 0..steps {
        if poll_once(&mut op).is_ready() {
            break;
        }
        world.host().background.step();
    }
    let seen = act(&world);
    drop(op);
    drop(engine);
    world.crash(CrashMode::DropUnsynced);
    check(&world, seen);
}

fn a_read_shows_only_what_is_durable(lab: &Lab) {
    let readers: [Reader; 6] =
        [|world| world.get(b"k"), by_get_many, by_sweep, by_update, by_scan, by_snapshot];
    for (index, reader) in readers.into_iter().enumerate() {
        for steps in 0..8 {
            look_during_a_write(lab, steps, reader, |world, seen| {
                let seen = seen.expect("one of the two was always there");
                assert!(seen == b"old" || seen == b"new");
                if seen == b"new" {
                    let found = world.get(b"k");
                    assert_eq!(found.as_deref(), Some(&b"new"[..]), "reader {index}, step {steps}");
                }
            });
        }
    }
}

fn an_applied_read_tells_what_to_wait_for(lab: &Lab) {
    for steps in 0..8 {
        let read = |world: &World| {
            let mut found = Vec::new();
            let mut visit = |entry: Entry<'_>| found = entry.value.to_vec();
            let op = world.engine().get_with(KS, b"k", &ReadOptions::APPLIED, &mut visit);
            let seen = world.wait(op).unwrap();
            world.wait(world.engine().committed(seen.ticket)).unwrap();
            found
        };
        look_during_a_write(lab, steps, read, |world, seen| {
            if seen == b"new" {
                assert_eq!(world.get(b"k").as_deref(), Some(&b"new"[..]), "step {steps}");
            }
        });
    }
}

fn a_batch_is_whole_wherever_it_is_cut(lab: &Lab) {
    let modes = [
        CrashMode::DropUnsynced,
        CrashMode::KeepAll,
        CrashMode::ProcessKill,
        CrashMode::Random(1),
        CrashMode::Random(2),
        CrashMode::Random(3),
    ];
    let number = 120.min(lab.capabilities().max_batch_ops);
    let mut batch = WriteBatch::new();
    for n in 0..number {
        batch.put(KS, &key(n), &value(n, 100), None);
    }
    for cut in 0.. {
        let mut is_complete = false;
        for mode in modes {
            let mut world = lab.open();
            world.put_at(Durability::Synced, b"before", b"v");
            world.sim().crash_at(world.sim().io_count() + cut);
            let result = world.wait(world.engine().write(&batch, &SYNCED));
            is_complete = result.is_ok() && !world.sim().is_frozen();
            world.crash(mode);
            let contents = world.contents(KS);
            assert!(contents.contains_key(&b"before"[..]), "an acknowledged write is lost");
            let found = contents.len() - 1;
            assert!(
                found == number || (found == 0 && result.is_err()),
                "{found} of {number} writes of a batch cut at I/O {cut}, {mode:?}, {result:?}"
            );
        }
        if is_complete {
            break;
        }
    }
}

/// Rounds of overwrites and deletes; `disturb` runs between them.
fn overwrite_and_delete(world: &mut World, mut disturb: impl FnMut(&mut World, usize)) {
    let mut expected = Contents::new();
    for round in 0..8 {
        for n in 0..40 {
            if (n + round) % 3 == 0 {
                world.delete(&key(n));
                expected.remove(&key(n));
            } else if (n + round) % 3 == 1 {
                world.put(&key(n), &value(round, 60));
                expected.insert(key(n), value(round, 60));
            }
        }
        disturb(world, round);
        for n in 0..40 {
            assert_eq!(world.get(&key(n)).as_ref(), expected.get(&key(n)), "{round}, key {n}");
        }
        assert_eq!(world.contents(KS), expected, "round {round}");
    }
    // Everything goes; nothing may come back, however the engine tidies up.
    for n in 0..40 {
        world.delete(&key(n));
    }
    for round in 0..4 {
        disturb(world, round);
        assert!(world.contents(KS).is_empty(), "a deleted key came back");
        for n in 0..40 {
            assert_eq!(world.get(&key(n)), None, "key {n} came back");
        }
    }
}

fn deleted_keys_stay_away(lab: &Lab) {
    let mut world = lab.open();
    overwrite_and_delete(&mut world, |world, round| {
        if round % 2 == 0 {
            world.churn(KS);
        }
        world.reopen();
        if round % 3 == 0 {
            world.churn(KS);
        }
    });
}

fn deleted_keys_stay_away_after_crashes(lab: &Lab) {
    let mut world = lab.open();
    overwrite_and_delete(&mut world, |world, round| {
        if round % 2 == 1 {
            world.churn(KS);
        }
        let mode = [CrashMode::DropUnsynced, CrashMode::Random(round as u64)][round % 2];
        world.crash(mode);
        if round % 3 == 1 {
            world.churn(KS);
        }
    });
}

fn fail_all_syncs(world: &World, what: FaultKind) {
    let plan = FaultPlan::new().on(OpKind::Sync, "", what, u64::MAX);
    world.sim().set_faults(plan);
}

fn a_failed_sync_poisons(lab: &Lab) {
    for what in [FaultKind::Error, FaultKind::SyncLosesWrites] {
        let mut world = lab.open();
        world.put_at(Durability::Synced, b"k", b"old");
        fail_all_syncs(&world, what);
        let engine = world.engine();
        let first = world.wait(engine.put(KS, b"k", b"new", None, &SYNCED));
        assert!(first.is_err(), "a synced write succeeded though no sync did");
        for n in 0..3 {
            let op_key = key(n);
            let result = world.wait(engine.put(KS, &op_key, b"v", None, &SYNCED));
            expect_error(result, ErrorKind::Poisoned);
        }
        let mut batch = WriteBatch::new();
        batch.put(KS, b"b", b"v", None);
        expect_error(world.wait(engine.write(&batch, &SYNCED)), ErrorKind::Poisoned);
        expect_error(world.wait(engine.sync(Durability::Synced)), ErrorKind::Poisoned);
        // A read that would show what never became durable fails; it never shows it.
        match try_read_entry(&world, engine, KS, b"k") {
            Ok(found) => assert_eq!(found.unwrap().value, b"old"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}"),
        }
        // Closing reports the failure or not, but ends.
        let _ = world.wait(engine.close());
        world.crash(CrashMode::DropUnsynced);
        assert_eq!(world.get(b"k").as_deref(), Some(&b"old"[..]));
        world.put_at(Durability::Synced, b"k", b"newer");
        assert_eq!(world.get(b"k").as_deref(), Some(&b"newer"[..]));
    }
}

fn a_failed_sync_is_not_forgiven_by_a_later_one(lab: &Lab) {
    let mut world = lab.open();
    world.put_at(Durability::Synced, b"k", b"old");
    fail_all_syncs(&world, FaultKind::SyncLosesWrites);
    let op = world.engine().put(KS, b"k", b"new", None, &SYNCED);
    assert!(world.wait(op).is_err());
    // The device is well again, but what it lost it lost.
    world.sim().set_faults(FaultPlan::new());
    let op = world.engine().put(KS, b"later", b"v", None, &SYNCED);
    expect_error(world.wait(op), ErrorKind::Poisoned);
    expect_error(world.wait(world.engine().sync(Durability::Synced)), ErrorKind::Poisoned);
    world.crash(CrashMode::KeepAll);
    assert_eq!(world.get(b"later"), None, "nobody acknowledged it after the failure");
    let found = world.get(b"k").expect("the old value was synced");
    assert!(found == b"old" || found == b"new");
}

fn many_crashes_in_a_row(lab: &Lab) {
    let mut world = lab.open();
    let mut expected = Contents::new();
    let mut rng = lab.rng();
    for round in 0..25 {
        for _ in 0..15 {
            let n = rng.below(30);
            world.put(&key(n), &value(round, 80));
            expected.insert(key(n), value(round, 80));
        }
        world.crash(CrashMode::Random(rng.next_u64()));
        assert_eq!(world.contents(KS), expected, "round {round}");
        if rng.one_in(3) {
            // Crashing right after recovery, too.
            world.crash(CrashMode::Random(rng.next_u64()));
            assert_eq!(world.contents(KS), expected, "round {round}, again");
        }
    }
}
