//! An engine whose reads take longer is found by `diff`, and one that is the same is not: by a
//! quarter in every test run, by 5 % with `FERROKIT_SOAK=1`, which takes minutes on a machine with
//! nothing else to do.
//!
//! The engines take turns in this process, so that both see the same machine. Rounds are added until
//! the intervals are narrow enough to tell, whatever they then say: how long it goes on depends on
//! the noise alone, not on the verdict.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real files are what the program reads")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ferrokit_bench::diff::{self, Difference, Results, Shift, Verdict};
use ferrokit_bench::measurement::Outcome;
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, PeerEngine, VisitEntry};
use ferrokit_bench::plan::{Caller, Promise};
use ferrokit_bench::ratio::median;
use ferrokit_bench::record::{Record, RunRecord, write_record};
use ferrokit_bench::{Measurement, Plan, Subject, driver};
use ferrokit_engine::{
    BatchOp, Clock, Direction, Durability, Env, KeyRange, Result, Update, WriteBatch,
};

/// How much longer reads take, and what it takes to be found.
struct Trial {
    slower_by: f64,
    threshold: f64,
    /// Rounds at least and at most.
    rounds: Range<usize>,
    /// How narrow the interval of the engine against itself is to be.
    narrow: f64,
}

const QUARTER: Trial = Trial { slower_by: 0.25, threshold: 0.08, rounds: 6..16, narrow: 0.05 };
const TWENTIETH: Trial = Trial { slower_by: 0.05, threshold: 0.02, rounds: 12..30, narrow: 0.02 };

fn trial() -> Trial {
    match std::env::var("FERROKIT_SOAK").as_deref() {
        Ok("1") => TWENTIETH,
        _ => QUARTER,
    }
}

/// A tree behind a lock, whose reads spin.
struct Tree {
    entries: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    clock: Arc<dyn Clock>,
    spin: Duration,
}

impl Tree {
    /// By the clock, since the processor does short loops beside other work.
    fn spin(&self) {
        if !self.spin.is_zero() {
            let end = self.clock.monotonic() + self.spin;
            while self.clock.monotonic() < end {
                std::hint::spin_loop();
            }
        }
    }
}

impl Peer for Tree {
    fn facts(&self) -> Facts {
        Facts {
            name: "tree",
            is_ordered: false,
            has_batches: true,
            updates_are_atomic: true,
            strongest_durability: Durability::Memory,
            max_key_bytes: 100,
            max_value_bytes: 1 << 20,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<()> {
        self.entries.write().unwrap().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.spin();
        let entries = self.entries.read().unwrap();
        entries.get(key).map(|value| visit(value)).map_or(Ok(false), |()| Ok(true))
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        self.entries.write().unwrap().remove(key);
        Ok(())
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut entries = self.entries.write().unwrap();
        let mut new = Vec::new();
        if let Update::Put { .. } = change(entries.get(key).map(Vec::as_slice), &mut new) {
            entries.insert(key.to_vec(), new);
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        batch.iter().try_for_each(|op| match op {
            BatchOp::Put { key, value, .. } => self.put(key, value, durability),
            BatchOp::Delete { key, .. } => self.delete(key, durability),
        })
    }

    fn scan(&self, _: &KeyRange, _: Direction, _: &mut VisitEntry<'_>) -> Result<()> {
        unreachable!("it keeps no order");
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Of data that the processor's caches hold: then it matters least what else the machine does.
fn plan() -> Plan {
    Plan {
        engine: "tree:".to_owned(),
        workload: "read-uniform".parse().unwrap(),
        records: 16,
        operations: 150_000,
        warmup: 15_000,
        value_bytes: 64 << 10,
        distribution: None,
        threads: 1,
        caller: Caller::Sync,
        tasks: 1,
        rate_per_s: None,
        durability: Promise::Memory,
        memory_bytes: 64 << 20,
        memory_group: None,
        seed: 5,
        directory: "/nonexistent".to_owned(),
    }
    .fixed()
}

fn run(spin: Duration) -> Measurement {
    driver::run(&Env::system(), &plan(), || {
        let tree = Tree { entries: RwLock::default(), clock: Env::system().clock, spin };
        let engine = Arc::new(PeerEngine::new(tree));
        Ok(Subject { engine, settings: "none".to_owned(), updates_are_atomic: true })
    })
    .unwrap()
}

/// Such a part of a read, by the median of a few runs, less what it takes longer than it is told: the
/// look at the clock before, and half a look that the last one comes late.
fn spin(slower_by: f64) -> Duration {
    let reads: Vec<f64> = (0..5).map(|_| run(Duration::ZERO).cpu_us_per_operation()).collect();
    let read = Duration::from_secs_f64(median(&reads).unwrap() / 1e6);
    let clock = Env::system().clock;
    let look = |_| {
        let begin = clock.monotonic();
        (0..100).for_each(|_| _ = std::hint::black_box(clock.monotonic()));
        (clock.monotonic() - begin).as_secs_f64() / 101.0
    };
    let glance = Duration::from_secs_f64(median(&(0..1001).map(look).collect::<Vec<_>>()).unwrap());
    let spin = read.mul_f64(slower_by).saturating_sub(glance * 3 / 2);
    println!("a read takes {read:?}, to look at the clock {glance:?}: spins for {spin:?}");
    assert!(!spin.is_zero(), "the clock is too slow for so short a spin");
    spin
}

/// A file of results, one round after the other.
struct Rounds {
    path: PathBuf,
    lines: Vec<u8>,
    cpu: Vec<f64>,
}

impl Rounds {
    fn new(name: &str) -> Self {
        let name = format!("ferrokit-slowdown-{name}-{}.jsonl", std::process::id());
        Self { path: std::env::temp_dir().join(name), lines: Vec::new(), cpu: Vec::new() }
    }

    fn add(&mut self, round: usize, spin: Duration) {
        let measurement = run(spin);
        self.cpu.push(measurement.cpu_us_per_operation());
        let outcome = Outcome::Measured(Box::new(measurement));
        let record = RunRecord::new("tree", "", &plan(), round, outcome);
        write_record(&mut self.lines, &Record::Run(Box::new(record))).unwrap();
    }

    fn write(&self) -> &str {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &self.lines))
            .unwrap();
        self.path.to_str().unwrap()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_narrow(one: &Rounds, other: &Rounds, narrow: f64) -> bool {
    Shift::of(&one.cpu, &other.cpu).is_some_and(|shift| shift.high / shift.low < 1.0 + 2.0 * narrow)
}

/// What the program says, and its exit code.
fn diff(old: &str, new: &str, threshold: f64) -> (String, Option<i32>) {
    let threshold = format!("{}%", threshold * 100.0);
    let output = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"))
        .args(["diff", old, new, "--threshold", &threshold])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (text, output.status.code())
}

fn difference(old: &str, new: &str, threshold: f64) -> Difference {
    let (old, new) = (Results::read(old).unwrap(), Results::read(new).unwrap());
    let [difference] = <[Difference; 1]>::try_from(diff::compare(&old, &new, threshold)).unwrap();
    difference
}

#[test]
fn a_slowdown_is_found_and_nothing_is_not() {
    let Trial { slower_by, threshold, rounds: bounds, narrow } = trial();
    let spin = spin(slower_by);
    let [mut old, mut same, mut slow] = ["old", "same", "slow"].map(Rounds::new);
    for round in 0..bounds.end {
        // Who is first changes: it may matter to the caches of the machine.
        let mut turn = [(&mut old, Duration::ZERO), (&mut same, Duration::ZERO), (&mut slow, spin)];
        turn.rotate_left(round % 3);
        for (rounds, spin) in turn {
            rounds.add(round, spin);
        }
        let is_enough = round + 1 >= bounds.start;
        if is_enough && is_narrow(&old, &same, narrow) && is_narrow(&old, &slow, narrow) {
            break;
        }
    }
    let [old, same, slow] = [&old, &same, &slow].map(Rounds::write);

    let slower = difference(old, slow, threshold);
    assert!(matches!(slower.verdict, Verdict::Slower(_)), "{slower:?}");
    let (text, code) = diff(old, slow, threshold);
    assert!(text.contains("slower, by ") && code == Some(1), "{text}");
    let faster = difference(slow, old, threshold);
    assert!(matches!(faster.verdict, Verdict::Faster(_)), "{faster:?}");

    let unchanged = difference(old, same, threshold);
    assert!(matches!(unchanged.verdict, Verdict::Same(_)), "{unchanged:?}");
    let (text, code) = diff(old, same, threshold);
    assert!(text.contains("same, within ") && code == Some(0), "{text}");
}
