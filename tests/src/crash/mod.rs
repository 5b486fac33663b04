//! Crashes at every I/O of a workload: the recovered state is a prefix of the log that holds every
//! acknowledged write, no batch is half there, no value is there that nobody wrote.

mod workload;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ferrokit_engine::{Durability, KeyspaceId, WriteBatch, WriteOptions};
use ferrokit_storage::sim::CrashMode;

use crate::case::group;
use crate::lab::Lab;
use crate::world::{KS, World, key, value, value_number};

use workload::{Acknowledged, Workload};

group! { crash, __suite_crash:
    a_power_cut_at_every_io: Synced | Simulated,
    a_power_cut_during_recovery: Synced | Simulated,
    a_death_of_the_process_at_every_io: Durable | Simulated,
    a_power_cut_under_concurrent_writers: Synced | Simulated,
    a_power_cut_while_closing: Synced | Simulated,
}

/// How many places of a workload are cut unless every one is asked for.
const CUTS: u64 = 400;

/// The places to cut.
fn cuts(lab: &Lab, from: u64, to: u64, number: u64) -> Vec<u64> {
    let step = if lab.is_soak() { 1 } else { ((to - from) / number).max(1) };
    (from..to).step_by(step as usize).collect()
}

/// The power cuts tried at each place.
fn power_cuts(place: u64) -> [CrashMode; 4] {
    [
        CrashMode::DropUnsynced,
        CrashMode::KeepAll,
        CrashMode::Random(place),
        CrashMode::Random(place ^ 0xffff_0000),
    ]
}

/// Runs the workload up to the cut.
fn cut_at(lab: &Lab, workload: &Workload, place: u64) -> (World, Acknowledged) {
    let world = lab.open();
    world.sim().crash_at(place);
    let acknowledged = workload.run(&world);
    (world, acknowledged)
}

fn check_cuts(lab: &Lab, modes: impl Fn(u64) -> Vec<CrashMode>, level: Durability) {
    let workload = Workload::new(lab.seed(), &lab.capabilities());
    let world = lab.open();
    let first = world.sim().io_count();
    workload.run(&world);
    let last = world.sim().io_count();
    drop(world);
    assert!(last > first, "a durable engine does I/O");
    for place in cuts(lab, first, last + 1, CUTS) {
        let (mut world, acknowledged) = cut_at(lab, &workload, place);
        world.drop_engine();
        for mode in modes(place) {
            let what = format!("cut at I/O {place} of {first}..{last}, {mode:?}");
            let mut after = world.after_crash(lab, mode);
            after.open_again();
            workload.check(&after, &acknowledged, level, &what);
            go_on(&mut after, &what);
        }
    }
}

/// A recovered engine takes writes, keeps them, and keeps what it had.
fn go_on(world: &mut World, what: &str) {
    for n in 0..5 {
        let options = WriteOptions::with_durability(world.strongest());
        let new_key = format!("after-{n}").into_bytes();
        let new = value(n, 30);
        let op = world.engine().put(KS, &new_key, &new, None, &options);
        world.wait(op).unwrap_or_else(|error| panic!("{what}: a write after recovery: {error}"));
    }
    let before = world.contents(KS);
    world.reopen();
    assert_eq!(world.contents(KS), before, "{what}: reopened after recovery");
    for n in 0..5 {
        let new_key = format!("after-{n}").into_bytes();
        assert_eq!(world.get(&new_key), Some(value(n, 30)), "{what}");
    }
}

fn a_power_cut_at_every_io(lab: &Lab) {
    check_cuts(lab, |place| power_cuts(place).to_vec(), Durability::Synced);
}

fn a_death_of_the_process_at_every_io(lab: &Lab) {
    check_cuts(lab, |_| vec![CrashMode::ProcessKill], Durability::Os);
}

fn a_power_cut_during_recovery(lab: &Lab) {
    let workload = Workload::new(lab.seed() ^ 1, &lab.capabilities());
    let world = lab.open();
    let first = world.sim().io_count();
    workload.run(&world);
    let last = world.sim().io_count();
    drop(world);
    for place in cuts(lab, first, last + 1, 12) {
        let (mut world, acknowledged) = cut_at(lab, &workload, place);
        world.drop_engine();
        for mode in power_cuts(place) {
            // How much I/O recovery does after this crash.
            let whole = world.after_crash(lab, mode);
            let before = whole.sim().io_count();
            let engine = whole.try_open();
            let ios = whole.sim().io_count() - before;
            drop(engine);
            for cut in cuts(lab, 0, ios + 1, 12) {
                let what = format!("cut at I/O {place}, {mode:?}, then at {cut} of its recovery");
                let mut broken = world.after_crash(lab, mode);
                broken.sim().crash_at(broken.sim().io_count() + cut);
                drop(broken.try_open());
                for again in [CrashMode::DropUnsynced, CrashMode::Random(cut)] {
                    let mut after = broken.after_crash(lab, again);
                    after.open_again();
                    let what = format!("{what}, {again:?}");
                    workload.check(&after, &acknowledged, Durability::Synced, &what);
                }
                broken.drop_engine();
            }
        }
    }
}

fn a_power_cut_while_closing(lab: &Lab) {
    let workload = Workload::new(lab.seed() ^ 2, &lab.capabilities());
    for cut in 0..30 {
        let mut world = lab.open();
        let acknowledged = workload.run(&world);
        world.sim().crash_at(world.sim().io_count() + cut);
        let closed = world.wait(world.engine().close());
        let is_complete = closed.is_ok() && !world.sim().is_frozen();
        world.drop_engine();
        for mode in power_cuts(cut) {
            let what = format!("cut at I/O {cut} of closing, {mode:?}");
            let mut after = world.after_crash(lab, mode);
            after.open_again();
            let level = if is_complete { Durability::Os } else { Durability::Synced };
            workload.check(&after, &acknowledged, level, &what);
        }
        if is_complete {
            return;
        }
    }
}

/// Writers on threads, each with keys of its own and a batch over all of them; the disk freezes
/// under them.
fn a_power_cut_under_concurrent_writers(lab: &Lab) {
    const WRITERS: usize = 3;
    const KEYS: usize = 4;
    let rounds = if lab.is_soak() { 60 } else { 12 };
    for round in 0..rounds {
        let mut world = lab.open_threaded();
        let acknowledged: Vec<AtomicUsize> = (0..WRITERS).map(|_| AtomicUsize::new(0)).collect();
        let attempted: Vec<AtomicUsize> = (0..WRITERS).map(|_| AtomicUsize::new(0)).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (world, stop) = (&world, &stop);
                let (acknowledged, attempted) = (&acknowledged[writer], &attempted[writer]);
                scope.spawn(move || {
                    let options = WriteOptions::with_durability(Durability::Synced);
                    for n in 1.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let mut batch = WriteBatch::new();
                        for k in 0..KEYS {
                            batch.put(KS, &key(writer * 100 + k), &value(n, 40), None);
                        }
                        attempted.store(n, Ordering::SeqCst);
                        if world.wait(world.engine().write(&batch, &options)).is_err() {
                            return;
                        }
                        acknowledged.store(n, Ordering::SeqCst);
                    }
                });
            }
            let cut = world.sim().io_count() + 20 + 17 * round;
            while world.sim().io_count() < cut {
                std::thread::yield_now();
            }
            world.sim().freeze();
            stop.store(true, Ordering::SeqCst);
        });
        let mode = [CrashMode::DropUnsynced, CrashMode::Random(round)][round as usize % 2];
        world.crash(mode);
        for writer in 0..WRITERS {
            let found: Vec<usize> = (0..KEYS)
                .map(|k| world.get(&key(writer * 100 + k)).map_or(0, |v| value_number(&v)))
                .collect();
            assert!(found.iter().all(|n| *n == found[0]), "half a batch: {found:?}, {mode:?}");
            let least = acknowledged[writer].load(Ordering::SeqCst);
            let most = attempted[writer].load(Ordering::SeqCst);
            assert!(
                (least..=most).contains(&found[0]),
                "writer {writer}: {} of {least}..={most} after {mode:?}",
                found[0]
            );
        }
        assert!(world.contents(KeyspaceId(0)).len() <= WRITERS * KEYS);
    }
}
