//! Damage is found by checksum: an error or a right answer, never a wrong one.

use std::collections::HashSet;

use ferrokit_engine::Result;
use ferrokit_storage::OpenMode;
use ferrokit_storage::sim::{CrashMode, SimMachine};

use super::prelude::*;
use crate::world::{DIRECTORY, try_scan_all, try_sweep_all};

group! { errors, __suite_errors:
    a_flipped_bit_is_never_believed: Durable | Simulated,
    a_cut_file_is_never_believed: Durable | Simulated,
    a_zeroed_sector_is_never_believed: Durable | Simulated,
    a_flipped_bit_under_a_running_engine: Durable | Simulated,
    errors_tell_what_to_do,
}

/// All states the engine passed through, oldest first, and its closed machine.
struct Closed {
    machine: SimMachine,
    states: HashSet<Vec<(Vec<u8>, Vec<u8>)>>,
    files: Vec<(String, u64)>,
}

fn state(contents: &Contents) -> Vec<(Vec<u8>, Vec<u8>)> {
    contents.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An engine with data in every place it has (log, tables, older versions, tombstones), closed.
fn closed_engine(lab: &Lab) -> Closed {
    let mut world = lab.open();
    let mut contents = Contents::new();
    let mut states = HashSet::from([state(&contents)]);
    let mut rng = lab.rng();
    for round in 0..160 {
        let n = rng.below(50);
        if rng.one_in(4) {
            world.delete(&key(n));
            contents.remove(&key(n));
        } else {
            let new = value(round, 40 + rng.below(200));
            world.put(&key(n), &new);
            contents.insert(key(n), new);
        }
        states.insert(state(&contents));
        if round == 100 {
            world.settle();
            world.reopen();
        }
    }
    world.close();
    let machine = world.sim().clone();
    let mut files = Vec::new();
    collect_files(&machine, DIRECTORY, &mut files);
    assert!(!files.is_empty(), "a durable engine has files");
    Closed { machine, states, files }
}

fn collect_files(machine: &SimMachine, directory: &str, files: &mut Vec<(String, u64)>) {
    let fs = machine.host().fs;
    for entry in fs.list(directory).unwrap() {
        let path = format!("{directory}/{}", entry.name);
        if entry.is_dir {
            collect_files(machine, &path, files);
        } else {
            files.push((path, entry.bytes));
        }
    }
}

/// Opens the engine on a damaged copy and reads everything in every way.
fn assert_never_wrong(
    lab: &Lab,
    closed: &Closed,
    what: &str,
    damage: impl FnOnce(&SimMachine) -> Result<()>,
) {
    let machine = closed.machine.crash(CrashMode::KeepAll);
    damage(&machine).unwrap_or_else(|error| panic!("{what}: {error}"));
    let host = machine.host();
    let Ok(engine) = lab.factory().open(&host, DIRECTORY, &lab.default_options()) else {
        return;
    };
    let world = World::around(lab, machine, engine);
    let swept = try_sweep_all(&world, world.engine(), KS, 10);
    if let Ok(contents) = &swept {
        let is_known = closed.states.contains(&state(contents));
        assert!(is_known, "{what}: a sweep answered a state that never was");
    }
    if world.engine().as_ordered().is_some() {
        for direction in [Direction::Forward, Direction::Backward] {
            let all = KeyRange::ALL;
            if let Ok(mut found) = try_scan_all(&world, world.engine(), KS, &all, direction, 9) {
                found.sort();
                assert!(closed.states.contains(&found), "{what}: a scan answered {found:?}");
            }
        }
    }
    let mut point = Contents::new();
    let mut is_whole = true;
    for n in 0..50 {
        match try_read_entry(&world, world.engine(), KS, &key(n)) {
            Ok(Some(entry)) => drop(point.insert(key(n), entry.value)),
            Ok(None) => {}
            Err(error) => {
                is_whole = false;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    if is_whole {
        let is_known = closed.states.contains(&state(&point));
        assert!(is_known, "{what}: gets answered a state that never was");
    } else {
        // What could be read is what some state held.
        let is_part = closed.states.iter().any(|state| {
            let state: Contents = state.iter().cloned().collect();
            point.iter().all(|(key, value)| state.get(key) == Some(value))
        });
        assert!(is_part, "{what}: gets answered a value that was never there with the others");
    }
    let _ = world.wait(world.engine().close());
}

/// Offsets spread over a file: every one of its first and last bytes, and an even sample.
fn offsets(bytes: u64, number: u64, is_soak: bool) -> Vec<u64> {
    if is_soak {
        return (0..bytes).collect();
    }
    let step = (bytes / number).max(1);
    let mut offsets: BTreeSet<u64> = (0..bytes).step_by(step as usize).collect();
    offsets.extend((0..bytes.min(16)).chain(bytes.saturating_sub(16)..bytes));
    offsets.into_iter().collect()
}

fn a_flipped_bit_is_never_believed(lab: &Lab) {
    let closed = closed_engine(lab);
    let number = 300 / closed.files.len() as u64 + 8;
    let mut rng = lab.rng();
    for (path, bytes) in &closed.files {
        for offset in offsets(*bytes, number, lab.is_soak()) {
            let bit = rng.below(8);
            assert_never_wrong(lab, &closed, &format!("{path}@{offset}.{bit}"), |machine| {
                let file = machine.host().fs.open(path, OpenMode::ReadWrite)?;
                let mut byte = file.read_at(offset, 1).wait()?;
                byte[0] ^= 1 << bit;
                file.write_at(offset, byte).wait().map(|_| ())
            });
        }
    }
}

fn a_cut_file_is_never_believed(lab: &Lab) {
    let closed = closed_engine(lab);
    for (path, bytes) in &closed.files {
        for cut in offsets(*bytes, 8, false).into_iter().step_by(3) {
            assert_never_wrong(lab, &closed, &format!("{path} cut at {cut}"), |machine| {
                let file = machine.host().fs.open(path, OpenMode::ReadWrite)?;
                file.set_len(cut).wait()
            });
        }
    }
}

fn a_zeroed_sector_is_never_believed(lab: &Lab) {
    let closed = closed_engine(lab);
    for (path, bytes) in &closed.files {
        let sectors: Vec<u64> = (0..*bytes).step_by(512).collect();
        let step = if lab.is_soak() { 1 } else { (sectors.len() / 30).max(1) };
        for offset in sectors.into_iter().step_by(step) {
            assert_never_wrong(lab, &closed, &format!("{path}, sector at {offset}"), |machine| {
                let file = machine.host().fs.open(path, OpenMode::ReadWrite)?;
                let len = 512.min(bytes - offset) as usize;
                file.write_at(offset, vec![0; len]).wait().map(|_| ())
            });
        }
    }
}

fn a_flipped_bit_under_a_running_engine(lab: &Lab) {
    let closed = closed_engine(lab);
    let mut rng = lab.rng();
    for (path, bytes) in &closed.files {
        for _ in 0..6 {
            if *bytes == 0 {
                continue;
            }
            let machine = closed.machine.crash(CrashMode::KeepAll);
            let host = machine.host();
            let engine = lab.factory().open(&host, DIRECTORY, &lab.default_options()).unwrap();
            let world = World::around(lab, machine, engine);
            let offset = rng.below(*bytes as usize) as u64;
            // The file may be gone: opening may tidy up.
            if let Ok(file) = world.host().fs.open(path, OpenMode::ReadWrite)
                && let Ok(mut byte) = file.read_at(offset, 1).wait()
            {
                byte[0] ^= 1 << rng.below(8);
                file.write_at(offset, byte).wait().unwrap();
            }
            let newest = closed.states.iter().map(|state| state.len()).max();
            let swept = try_sweep_all(&world, world.engine(), KS, 10);
            if let Ok(contents) = swept {
                assert!(closed.states.contains(&state(&contents)), "{path}@{offset}");
                assert!(Some(contents.len()) <= newest);
            }
            for n in 0..50 {
                if let Ok(Some(entry)) = try_read_entry(&world, world.engine(), KS, &key(n)) {
                    let found = (key(n), entry.value);
                    let is_known = closed.states.iter().any(|state| state.contains(&found));
                    assert!(is_known, "{path}@{offset}: a value nobody wrote");
                }
            }
            let _ = world.wait(world.engine().close());
        }
    }
}

fn errors_tell_what_to_do(lab: &Lab) {
    let world = lab.open();
    let beyond = KeyspaceId(world.capabilities().max_keyspaces);
    let options = world.write_options();
    let op = world.engine().put(beyond, b"the key", b"v", None, &options);
    let error = expect_error(world.wait(op), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(text.contains(error.operation()), "{text}");
    assert!(text.contains(&world.capabilities().max_keyspaces.saturating_sub(1).to_string()));
    assert_eq!(error.kind().advice(), ferrokit_engine::Advice::FixInput);
}
