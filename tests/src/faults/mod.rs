//! A fault at every I/O of a workload: a clear error or a right answer, never a wrong one, never a
//! hang, never a panic.

use std::collections::{BTreeMap, BTreeSet};

use ferrokit_engine::{Durability, ErrorKind, KeyRange, WriteBatch, WriteOptions};
use ferrokit_storage::sim::{CrashMode, FaultKind, FaultPlan, OpKind};

use crate::case::group;
use crate::lab::Lab;
use crate::random::Rng;
use crate::world::{KS, World, key, try_read_entry, try_scan_all, try_sweep_all, value};

group! { faults, __suite_faults:
    an_error_at_every_write: Synced | Simulated,
    a_full_disk_at_every_write: Synced | Simulated,
    a_short_write_at_every_write: Synced | Simulated,
    a_lost_sync_at_every_write: Synced | Simulated,
    slow_io_at_every_write: Synced | Simulated,
    an_error_at_every_read: Synced | Simulated,
    a_flipped_bit_at_every_read: Synced | Simulated,
    slow_io_at_every_read: Synced | Simulated,
    a_disk_that_stays_full: Synced | Simulated,
    io_that_fails_at_random: Synced | Simulated,
}

const SYNCED: WriteOptions = WriteOptions::with_durability(Durability::Synced);
const KEYS: usize = 24;

/// How many I/Os of the workload get a fault unless every one is asked for.
const PLACES: u64 = 150;

/// What a key may hold: its value after the last acknowledged write, or after one that failed
/// since (a failed write happened or did not).
struct Possible {
    values: BTreeMap<Vec<u8>, BTreeSet<Option<Vec<u8>>>>,
    /// Operations that answered an error.
    errors: usize,
}

impl Possible {
    fn new() -> Self {
        let values = (0..KEYS).map(|n| (key(n), BTreeSet::from([None]))).collect();
        Self { values, errors: 0 }
    }

    fn wrote(&mut self, key: &[u8], value: Option<Vec<u8>>, is_acknowledged: bool) {
        let values = self.values.entry(key.to_vec()).or_default();
        if is_acknowledged {
            values.clear();
        }
        values.insert(value);
    }

    #[track_caller]
    fn check(&self, key: &[u8], found: Option<&[u8]>, what: &str) {
        let found = found.map(<[u8]>::to_vec);
        let values = &self.values[key];
        assert!(
            values.contains(&found),
            "{what}: {} holds {:?}, one of {} possible values is right",
            key.escape_ascii(),
            found.map(|v| v[..v.len().min(16)].escape_ascii().to_string()),
            values.len()
        );
    }
}

/// Checks that an error is one a caller can act upon.
fn is_clear(error: &ferrokit_engine::Error, what: &str) {
    let expected = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::OutOfSpace
            | ErrorKind::Poisoned
            | ErrorKind::Corruption
            | ErrorKind::Busy
            | ErrorKind::NotFound
    );
    assert!(expected, "{what}: a fault of the disk answers {error}");
    assert!(!error.to_string().is_empty() && !error.operation().is_empty());
}

/// Writes and reads of all kinds; every answer is checked against what is possible.
fn workload(world: &mut World, possible: &mut Possible, seed: u64, what: &str) {
    let mut rng = Rng::new(seed);
    for round in 0..90 {
        let n = rng.below(KEYS);
        match rng.below(10) {
            0..=3 => put(world, possible, n, round, 20 + rng.below(300), what),
            4 => delete(world, possible, n, what),
            5 => batch(world, possible, &mut rng, round, what),
            6 => read(world, possible, n, what),
            7 => read_all(world, possible, what),
            8 if round % 3 == 0 => {
                if let Err(error) = world.wait(world.engine().sync(Durability::Synced)) {
                    is_clear(&error, what);
                    possible.errors += 1;
                }
                world.host().settle();
            }
            9 if round % 30 == 29 => reopen(world, possible, what),
            _ => put(world, possible, n, round, 30, what),
        }
    }
    read_all(world, possible, what);
}

fn put(world: &World, possible: &mut Possible, n: usize, round: usize, len: usize, what: &str) {
    let (op_key, new) = (key(n), value(round, len));
    let result = world.wait(world.engine().put(KS, &op_key, &new, None, &SYNCED));
    possible.wrote(&op_key, Some(new), result.is_ok());
    if let Err(error) = result {
        is_clear(&error, what);
        possible.errors += 1;
    }
}

fn delete(world: &World, possible: &mut Possible, n: usize, what: &str) {
    let op_key = key(n);
    let result = world.wait(world.engine().delete(KS, &op_key, &SYNCED));
    possible.wrote(&op_key, None, result.is_ok());
    if let Err(error) = result {
        is_clear(&error, what);
        possible.errors += 1;
    }
}

fn batch(world: &World, possible: &mut Possible, rng: &mut Rng, round: usize, what: &str) {
    let mut batch = WriteBatch::new();
    let keys: BTreeSet<usize> = (0..6).map(|_| rng.below(KEYS)).collect();
    for n in &keys {
        batch.put(KS, &key(*n), &value(round, 50), None);
    }
    let result = world.wait(world.engine().write(&batch, &SYNCED));
    for n in keys {
        possible.wrote(&key(n), Some(value(round, 50)), result.is_ok());
    }
    if let Err(error) = result {
        is_clear(&error, what);
        possible.errors += 1;
    }
}

fn read(world: &World, possible: &mut Possible, n: usize, what: &str) {
    match try_read_entry(world, world.engine(), KS, &key(n)) {
        Ok(entry) => possible.check(&key(n), entry.as_ref().map(|e| e.value.as_slice()), what),
        Err(error) => {
            is_clear(&error, what);
            possible.errors += 1;
        }
    }
}

fn read_all(world: &World, possible: &mut Possible, what: &str) {
    let swept = try_sweep_all(world, world.engine(), KS, 7);
    let scanned = world.engine().as_ordered().map(|_| {
        let all = KeyRange::ALL;
        let direction = ferrokit_engine::Direction::Forward;
        let scanned = try_scan_all(world, world.engine(), KS, &all, direction, 5);
        scanned.map(|entries| entries.into_iter().collect())
    });
    for result in [Some(swept), scanned].into_iter().flatten() {
        match result {
            Ok(contents) => {
                for n in 0..KEYS {
                    possible.check(&key(n), contents.get(&key(n)).map(Vec::as_slice), what);
                }
            }
            Err(error) => {
                is_clear(&error, what);
                possible.errors += 1;
            }
        }
    }
}

/// Closes and opens the engine; where a fault prevents that, opens it once more.
fn reopen(world: &mut World, possible: &mut Possible, what: &str) {
    let closed = world.wait(world.engine().close());
    if let Err(error) = closed {
        is_clear(&error, what);
        possible.errors += 1;
    }
    world.drop_engine();
    if let Err(error) = world.try_open().map(|engine| world.adopt(engine)) {
        is_clear(&error, what);
        possible.errors += 1;
        world.open_again();
    }
}

/// Which I/O of a machine gets the fault.
#[derive(Clone, Copy)]
enum Place {
    Changing,
    Reading,
}

/// Runs the workload once for each place, with a fault there; answers how many runs saw an error.
fn at_every(lab: &Lab, place: Place, fault: impl Fn(u64) -> FaultKind) -> usize {
    let mut world = lab.open();
    let count = |world: &World| match place {
        Place::Changing => world.sim().io_count(),
        Place::Reading => world.sim().read_count(),
    };
    let first = count(&world);
    let mut possible = Possible::new();
    workload(&mut world, &mut possible, lab.seed(), "no fault");
    assert_eq!(possible.errors, 0, "errors without a fault");
    let last = count(&world);
    let step = if lab.is_soak() { 1 } else { ((last - first) / PLACES).max(1) };
    let mut seen = 0;
    for number in (first..last).step_by(step as usize) {
        let kind = fault(number);
        let what = format!("{kind:?} at I/O {number} of {first}..{last}");
        let mut world = lab.open();
        let plan = FaultPlan::new();
        world.sim().set_faults(match place {
            Place::Changing => plan.at_io(number, kind),
            Place::Reading => plan.at_read(number, kind),
        });
        let mut possible = Possible::new();
        workload(&mut world, &mut possible, lab.seed(), &what);
        seen += usize::from(possible.errors > 0);
        after_the_fault(lab, &mut world, &mut possible, &what);
    }
    seen
}

/// The fault is over: what was acknowledged is there, after a power cut too.
fn after_the_fault(lab: &Lab, world: &mut World, possible: &mut Possible, what: &str) {
    world.sim().set_faults(FaultPlan::new());
    world.drop_engine();
    for mode in [CrashMode::KeepAll, CrashMode::DropUnsynced, CrashMode::Random(7)] {
        let what = format!("{what}, then {mode:?}");
        let mut after = world.after_crash(lab, mode);
        after.open_again();
        let errors = possible.errors;
        read_all(&after, possible, &what);
        for n in 0..KEYS {
            read(&after, possible, n, &what);
        }
        assert_eq!(possible.errors, errors, "{what}: errors though the disk is well again");
        after.put(b"alive", b"v");
    }
}

fn an_error_at_every_write(lab: &Lab) {
    let seen = at_every(lab, Place::Changing, |_| FaultKind::Error);
    assert!(seen > 0, "no failing write was ever noticed");
}

fn a_full_disk_at_every_write(lab: &Lab) {
    at_every(lab, Place::Changing, |_| FaultKind::NoSpace);
}

fn a_short_write_at_every_write(lab: &Lab) {
    at_every(lab, Place::Changing, |number| FaultKind::ShortWrite { bytes: number as usize % 700 });
}

fn a_lost_sync_at_every_write(lab: &Lab) {
    at_every(lab, Place::Changing, |_| FaultKind::SyncLosesWrites);
}

fn slow_io_at_every_write(lab: &Lab) {
    let seen = at_every(lab, Place::Changing, |_| FaultKind::Slow { polls: 4 });
    assert_eq!(seen, 0, "slow is no error");
}

fn an_error_at_every_read(lab: &Lab) {
    at_every(lab, Place::Reading, |_| FaultKind::Error);
}

fn a_flipped_bit_at_every_read(lab: &Lab) {
    at_every(lab, Place::Reading, |number| FaultKind::FlipBit {
        byte: None,
        bit: (number % 8) as u8,
    });
}

fn slow_io_at_every_read(lab: &Lab) {
    let seen = at_every(lab, Place::Reading, |_| FaultKind::Slow { polls: 4 });
    assert_eq!(seen, 0, "slow is no error");
}

fn a_disk_that_stays_full(lab: &Lab) {
    let mut world = lab.open();
    let mut possible = Possible::new();
    for n in 0..KEYS {
        put(&world, &mut possible, n, n, 100, "before");
    }
    assert_eq!(possible.errors, 0);
    world.sim().set_capacity_bytes(world.sim().used_bytes());
    // In the end there is no room, and it says so.
    for round in 0..3000 {
        put(&world, &mut possible, round % KEYS, round, 400, "a full disk");
        if possible.errors > 0 {
            break;
        }
    }
    assert!(possible.errors > 0, "a full disk takes any number of writes");
    let (op_key, new) = (key(0), value(9999, 200));
    let result = world.wait(world.engine().put(KS, &op_key, &new, None, &SYNCED));
    possible.wrote(&op_key, Some(new), result.is_ok());
    if let Err(error) = result {
        assert!(
            matches!(error.kind(), ErrorKind::OutOfSpace | ErrorKind::Poisoned),
            "a full disk answers {error}"
        );
    }
    // What is there can be read, or the engine says that it is poisoned.
    for n in 0..KEYS {
        read(&world, &mut possible, n, "a full disk");
    }
    world.sim().set_capacity_bytes(8 << 30);
    world.drop_engine();
    for mode in [CrashMode::ProcessKill, CrashMode::DropUnsynced] {
        let mut after = world.after_crash(lab, mode);
        after.open_again();
        read_all(&after, &mut possible, "after the full disk");
        after.put(b"alive", b"v");
    }
}

fn io_that_fails_at_random(lab: &Lab) {
    let rounds = if lab.is_soak() { 200 } else { 20 };
    for round in 0..rounds {
        let what = format!("random faults, round {round}");
        let mut world = lab.open_with(&lab.default_options(), lab.seed() + round);
        let plan = FaultPlan::new()
            .sometimes(OpKind::Write, "", FaultKind::Slow { polls: 2 }, 200_000)
            .sometimes(OpKind::Read, "", FaultKind::FlipBit { byte: None, bit: 1 }, 20_000)
            .sometimes(OpKind::Read, "", FaultKind::Error, 20_000)
            .sometimes(OpKind::Write, "", FaultKind::Error, 3_000)
            .sometimes(OpKind::Sync, "", FaultKind::Slow { polls: 3 }, 300_000);
        world.sim().set_faults(plan);
        let mut possible = Possible::new();
        let mut rng = Rng::new(round);
        for n in 0..60 {
            match rng.below(4) {
                0 => read(&world, &mut possible, rng.below(KEYS), &what),
                1 => batch(&world, &mut possible, &mut rng, n, &what),
                _ => put(&world, &mut possible, rng.below(KEYS), n, rng.below(400), &what),
            }
        }
        after_the_fault(lab, &mut world, &mut possible, &what);
    }
}
