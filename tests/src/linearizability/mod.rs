//! Recorded concurrent histories through a linearizability checker: porcupine-rs, the algorithm of
//! Wing and Gong with Lowe's improvements, one register per key.

mod history;

use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{Entry, KvEngine, KvEngineExt, Update, WriteBatch, WriteOptions};

pub use history::{History, Recorder, Verdict};

use crate::case::group;
use crate::lab::Lab;
use crate::random::Rng;
use crate::world::{KS, World, key};

use history::Observed;

group! { linearizability, __suite_linearizability:
    the_checker_finds_a_stale_read,
    the_checker_finds_a_lost_update,
    reads_and_writes_of_hot_keys,
    reads_and_writes_under_maintenance,
    updates_of_one_key,
    batches_and_batched_reads,
    everything_mixed,
}

/// How a recorded workload is made up: chances out of 100.
#[derive(Debug, Clone, Copy)]
struct Mix {
    keys: usize,
    put: usize,
    delete: usize,
    update: usize,
    batch: usize,
    get_many: usize,
    operations: usize,
}

const THREADS: usize = 4;

/// A value is the number that identifies its write, and bytes that follow from it.
fn encode(number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + (number % 57) as usize, number as u8);
    value
}

fn decode(value: &[u8]) -> u64 {
    let (number, _) = value.split_first_chunk::<8>().expect("a value has at least 8 bytes");
    let number = u64::from_le_bytes(*number);
    assert_eq!(encode(number), value, "a torn value");
    number
}

/// One operation of the mix, recorded.
fn step(
    world: &World,
    engine: &dyn KvEngine,
    options: &WriteOptions,
    recorder: &mut Recorder<'_>,
    rng: &mut Rng,
    mix: &Mix,
) {
    let n = rng.below(mix.keys);
    let op_key = key(n);
    let dice = rng.below(100);
    let number = recorder.next_number();
    let bounds = [mix.put, mix.delete, mix.update, mix.batch, mix.get_many];
    let mut bound = 0;
    let choice = bounds.iter().position(|chance| {
        bound += chance;
        dice < bound
    });
    let call = recorder.call();
    match choice {
        Some(0) => {
            let new = encode(number);
            let op = engine.put(KS, &op_key, &new, None, options);
            let written = world.wait(op).unwrap_or_else(|error| panic!("put: {error}"));
            recorder.returned(call, n, Observed::Put { number, existed: written.existed });
        }
        Some(1) => {
            let written = world.wait(engine.delete(KS, &op_key, options));
            let written = written.unwrap_or_else(|error| panic!("delete: {error}"));
            recorder.returned(call, n, Observed::Delete { existed: written.existed });
        }
        Some(2) => {
            let mut saw = None;
            let mut change = |current: Option<Entry<'_>>, out: &mut Vec<u8>| {
                saw = current.map(|entry| decode(entry.value));
                out.extend_from_slice(&encode(number));
                Update::Put { expire_at: None }
            };
            let op = engine.update(KS, &op_key, options, &mut change);
            world.wait(op).unwrap_or_else(|error| panic!("update: {error}"));
            recorder.returned(call, n, Observed::Update { saw, number });
        }
        Some(3) => {
            let mut batch = WriteBatch::new();
            let keys: Vec<usize> = (0..mix.keys).filter(|_| rng.one_in(2)).collect();
            for n in &keys {
                batch.put(KS, &key(*n), &encode(number), None);
            }
            world.wait(engine.write(&batch, options)).unwrap_or_else(|e| panic!("write: {e}"));
            for n in keys {
                recorder.returned(call, n, Observed::Put { number, existed: None });
            }
        }
        Some(4) => {
            let keys: Vec<Vec<u8>> = (0..mix.keys).map(key).collect();
            let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let found = world.wait(engine.get_many(KS, &slices));
            let found = found.unwrap_or_else(|error| panic!("get_many: {error}"));
            for (n, found) in found.into_iter().enumerate() {
                let saw = found.map(|value| decode(&value));
                recorder.returned(call, n, Observed::Get { saw });
            }
        }
        _ => {
            let found = world.wait(engine.get(KS, &op_key));
            let saw = found.unwrap_or_else(|error| panic!("get: {error}")).map(|v| decode(&v));
            recorder.returned(call, n, Observed::Get { saw });
        }
    }
}

/// Records the mix on several threads and has it checked.
fn record_and_check(lab: &Lab, mix: Mix, churn: bool) {
    let world = lab.open_threaded();
    let engine = world.handle();
    let options = world.write_options().reporting_existed();
    let history = History::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (world, engine, history, done) = (&world, &engine, &history, &done);
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut rng = Rng::new(lab.seed() ^ (thread as u64) << 40);
                    let mut recorder = history.recorder(thread);
                    for _ in 0..mix.operations / THREADS {
                        step(world, &**engine, &options, &mut recorder, &mut rng, &mix);
                    }
                })
            })
            .collect();
        if churn {
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    world.churn(KS);
                }
            });
        }
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Release);
        for result in ended {
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
    });
    match history.check() {
        Verdict::Linearizable => {}
        Verdict::NotLinearizable { key, operations } => panic!(
            "{}: key {key} is not linearizable (FERROKIT_SEED={}):\n{operations}",
            lab.title(),
            lab.seed()
        ),
        Verdict::Undecided => panic!("{}: the checker came to no verdict in time", lab.title()),
    }
}

const READ_WRITE: Mix =
    Mix { keys: 4, put: 35, delete: 10, update: 0, batch: 0, get_many: 0, operations: 8000 };

fn reads_and_writes_of_hot_keys(lab: &Lab) {
    record_and_check(lab, READ_WRITE, false);
}

fn reads_and_writes_under_maintenance(lab: &Lab) {
    record_and_check(lab, Mix { operations: 4000, ..READ_WRITE }, true);
}

fn updates_of_one_key(lab: &Lab) {
    let mix =
        Mix { keys: 1, put: 0, delete: 10, update: 60, batch: 0, get_many: 0, operations: 3000 };
    record_and_check(lab, mix, false);
}

fn batches_and_batched_reads(lab: &Lab) {
    let mix =
        Mix { keys: 5, put: 10, delete: 5, update: 0, batch: 25, get_many: 30, operations: 3000 };
    record_and_check(lab, mix, false);
}

fn everything_mixed(lab: &Lab) {
    let mix =
        Mix { keys: 8, put: 20, delete: 10, update: 15, batch: 10, get_many: 10, operations: 8000 };
    record_and_check(lab, mix, false);
}

/// A history that a correct register allows, with one thing wrong in its middle.
fn planted(wrong: impl FnOnce(&mut Recorder<'_>)) -> Verdict {
    let history = History::new();
    let mut recorder = history.recorder(0);
    for number in 1..50 {
        let call = recorder.call();
        recorder.returned(call, 0, Observed::Put { number, existed: None });
        let call = recorder.call();
        recorder.returned(call, 0, Observed::Get { saw: Some(number) });
    }
    wrong(&mut recorder);
    drop(recorder);
    history.check()
}

fn the_checker_finds_a_stale_read(_: &Lab) {
    assert!(matches!(planted(|_| {}), Verdict::Linearizable));
    let verdict = planted(|recorder| {
        let call = recorder.call();
        recorder.returned(call, 0, Observed::Get { saw: Some(48) });
    });
    assert!(matches!(verdict, Verdict::NotLinearizable { key: 0, .. }));
}

fn the_checker_finds_a_lost_update(_: &Lab) {
    let verdict = planted(|recorder| {
        // Two updates that both saw 49: one of them was lost.
        let first = recorder.call();
        let second = recorder.call();
        recorder.returned(first, 0, Observed::Update { saw: Some(49), number: 50 });
        recorder.returned(second, 0, Observed::Update { saw: Some(49), number: 51 });
    });
    assert!(matches!(verdict, Verdict::NotLinearizable { key: 0, .. }));
}
