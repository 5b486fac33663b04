//! Online backup: complete or refused, consistent, and independent of its engine.

use std::sync::Arc;

use ferrokit_engine::{CheckpointInfo, KvEngine, Result};
use ferrokit_storage::OpenMode;
use ferrokit_storage::sim::CrashMode;

use super::prelude::*;

group! { checkpoint, __suite_checkpoint:
    it_holds_what_was_there: Checkpoint,
    later_writes_are_not_in_it: Checkpoint,
    the_engine_goes_on: Checkpoint,
    keyspaces_and_expiries_are_in_it: Checkpoint | Keyspaces,
    it_outlives_its_engine: Checkpoint,
    a_directory_in_use_is_refused: Checkpoint,
    it_is_on_the_device_on_completion: Checkpoint | Simulated,
    an_unfinished_one_is_refused: Checkpoint | Simulated,
    a_dropped_one_is_refused_or_complete: Checkpoint,
    several_of_one_engine: Checkpoint,
    a_restored_one_can_be_written: Checkpoint,
}

fn take(world: &World, name: &str) -> Result<CheckpointInfo> {
    let checkpoint = world.engine().as_checkpoint().expect("a capability");
    let directory = world.path(name);
    world.wait(checkpoint.checkpoint(&directory))
}

fn restore(world: &World, name: &str) -> Result<Arc<dyn KvEngine>> {
    world.factory().restore(world.host(), &world.path(name), world.engine_options())
}

fn restored_contents(world: &World, name: &str) -> Contents {
    let engine = restore(world, name).unwrap_or_else(|error| panic!("restore: {error}"));
    let contents = sweep_all(world, &*engine, KS, 20);
    world.wait(engine.close()).unwrap();
    contents
}

fn fill(world: &World, keys: usize) -> Contents {
    for n in 0..keys {
        world.put(&key(n), &value(n, 30));
    }
    (0..keys).map(|n| (key(n), value(n, 30))).collect()
}

fn it_holds_what_was_there(lab: &Lab) {
    let world = lab.open();
    let mut expected = fill(&world, 300);
    world.churn(KS);
    for n in (0..300).step_by(3) {
        world.delete(&key(n));
        expected.remove(&key(n));
    }
    let info = take(&world, "backup").unwrap();
    assert!(info.files > 0 && info.bytes > 0);
    assert_eq!(info.sequence.is_some(), world.capabilities().sequence_numbers);
    assert_eq!(restored_contents(&world, "backup"), expected);
    assert_eq!(restored_contents(&world, "backup"), expected, "and a second time");
}

fn later_writes_are_not_in_it(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 100);
    take(&world, "backup").unwrap();
    for n in 0..100 {
        world.put(&key(n), b"later");
    }
    world.put(b"new", b"later");
    world.churn(KS);
    assert_eq!(restored_contents(&world, "backup"), expected);
}

fn the_engine_goes_on(lab: &Lab) {
    let world = lab.open();
    fill(&world, 100);
    let checkpoint = world.engine().as_checkpoint().expect("a capability");
    let directory = world.path("backup");
    let mut running = checkpoint.checkpoint(&directory);
    let mut done = false;
    // Each write falls between two steps of the checkpoint.
    for n in 0..50 {
        done = done || poll_once(&mut running).is_ready();
        world.put(&key(n), b"during");
        assert_eq!(world.get(&key(n)).as_deref(), Some(&b"during"[..]));
    }
    if !done {
        world.wait(running).unwrap();
    }
    // Consistent: a prefix of the writes made meanwhile.
    let found = restored_contents(&world, "backup");
    assert_eq!(found.len(), 100);
    let during = (0..100).take_while(|n| found[&key(*n)] == b"during").count();
    for n in during..100 {
        assert_eq!(found[&key(n)], value(n, 30), "{during} writes are in it, then {n} too");
    }
}

fn keyspaces_and_expiries_are_in_it(lab: &Lab) {
    let world = lab.open();
    let later = world.now().plus(1000);
    world.put_until(b"k", b"v", later);
    world.put_in(KeyspaceId(1), b"k", b"one");
    world.put_in(KeyspaceId(2), b"k", b"two");
    world.swap(KeyspaceId(1), KeyspaceId(2));
    take(&world, "backup").unwrap();
    let engine = restore(&world, "backup").unwrap();
    assert_eq!(read_entry(&world, &*engine, KS, b"k").unwrap().expire_at, Some(later));
    let found = read_entry(&world, &*engine, KeyspaceId(1), b"k").unwrap();
    assert_eq!(found.value, b"two");
    world.pass_millis(1000);
    assert!(read_entry(&world, &*engine, KS, b"k").is_none());
    world.wait(engine.close()).unwrap();
}

fn it_outlives_its_engine(lab: &Lab) {
    let mut world = lab.open();
    let expected = fill(&world, 200);
    take(&world, "backup").unwrap();
    for n in 0..200 {
        world.delete(&key(n));
    }
    world.churn(KS);
    world.close();
    let original = world.path(crate::world::DIRECTORY);
    world.host().fs.remove_dir_all(&original).unwrap();
    assert_eq!(restored_contents(&world, "backup"), expected);
}

fn a_directory_in_use_is_refused(lab: &Lab) {
    let world = lab.open();
    fill(&world, 10);
    take(&world, "backup").unwrap();
    expect_error(take(&world, "backup"), ErrorKind::InvalidArgument);
    let fs = &world.host().fs;
    fs.create_dir_all(&world.path("used")).unwrap();
    fs.open(&world.path("used/file"), OpenMode::CreateNew).unwrap();
    expect_error(take(&world, "used"), ErrorKind::InvalidArgument);
    fs.create_dir_all(&world.path("empty")).unwrap();
    take(&world, "empty").unwrap();
    assert_eq!(restored_contents(&world, "backup").len(), 10);
    assert_eq!(restored_contents(&world, "empty").len(), 10);
}

fn it_is_on_the_device_on_completion(lab: &Lab) {
    let mut world = lab.open();
    let expected = fill(&world, 100);
    take(&world, "backup").unwrap();
    world.crash(CrashMode::DropUnsynced);
    assert_eq!(restored_contents(&world, "backup"), expected);
}

fn an_unfinished_one_is_refused(lab: &Lab) {
    let mut world = lab.open();
    fill(&world, 100);
    let before = world.sim().io_count();
    take(&world, "backup").unwrap();
    let ios = world.sim().io_count() - before;
    let step = if lab.is_soak() { 1 } else { (ios / 40).max(1) };
    for cut in (0..ios).step_by(step as usize) {
        for mode in [CrashMode::DropUnsynced, CrashMode::KeepAll, CrashMode::Random(cut)] {
            world = lab.open();
            let expected = fill(&world, 100);
            world.sim().crash_at(world.sim().io_count() + cut);
            let _ = take(&world, "backup");
            world.crash_without_open(mode);
            // Either refused, or all of it is there.
            if let Ok(engine) = restore(&world, "backup") {
                let found = sweep_all(&world, &*engine, KS, 20);
                // Where nothing of it reached the device, an engine may begin an empty one.
                assert!(
                    found == expected || found.is_empty(),
                    "cut at I/O {cut}, {mode:?}: {} of 100 entries",
                    found.len()
                );
                let _ = world.wait(engine.close());
            }
        }
    }
}

fn a_dropped_one_is_refused_or_complete(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 100);
    for polls in 0..12 {
        let name = format!("backup-{polls}");
        let directory = world.path(&name);
        {
            let checkpoint = world.engine().as_checkpoint().expect("a capability");
            let mut running = checkpoint.checkpoint(&directory);
            for _ in 0..polls {
                if poll_once(&mut running).is_ready() {
                    break;
                }
                world.host().background.step();
            }
        }
        world.put(b"alive", b"v");
        world.delete(b"alive");
        world.settle();
        if let Ok(engine) = restore(&world, &name) {
            let found = sweep_all(&world, &*engine, KS, 20);
            assert!(found == expected || found.is_empty(), "{} of 100 entries", found.len());
            world.wait(engine.close()).unwrap();
        }
    }
    assert_eq!(world.contents(KS), expected);
}

fn several_of_one_engine(lab: &Lab) {
    let world = lab.open();
    for round in 0..5usize {
        for n in 0..50 {
            world.put(&key(n), &value(round, 20));
        }
        take(&world, &format!("backup-{round}")).unwrap();
        if round == 2 {
            world.churn(KS);
        }
    }
    for round in 0..5usize {
        let expected: Contents = (0..50).map(|n| (key(n), value(round, 20))).collect();
        assert_eq!(restored_contents(&world, &format!("backup-{round}")), expected);
    }
}

fn a_restored_one_can_be_written(lab: &Lab) {
    let world = lab.open();
    let expected = fill(&world, 50);
    let last = world.put(b"last", b"v").sequence;
    take(&world, "backup").unwrap();
    let engine = restore(&world, "backup").unwrap();
    let options = world.write_options();
    let written = world.wait(engine.put(KS, b"new", b"v", None, &options)).unwrap();
    if last.is_some() {
        assert!(written.sequence > last, "sequence numbers go on");
    }
    assert_eq!(sweep_all(&world, &*engine, KS, 20).len(), 52);
    world.wait(engine.close()).unwrap();
    assert_eq!(world.contents(KS).len(), expected.len() + 1, "the original is untouched");
}
