//! An engine whose reads take 5 % longer is found by `diff`, and one that is the same is not.
//!
//! The engines take turns in this process, so that both see the same machine. Rounds are added until
//! the intervals are narrow enough to tell, whatever they then say: how long it goes on depends on
//! the noise alone, not on the verdict.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real files are what the program reads")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, RwLock};

use ferrokit_bench::diff::{self, Difference, Results, Shift, Verdict};
use ferrokit_bench::measurement::Outcome;
use ferrokit_bench::peer::{ChangeValue, Facts, Peer, PeerEngine, VisitEntry};
use ferrokit_bench::plan::{Caller, Promise};
use ferrokit_bench::ratio::median;
use ferrokit_bench::record::{Record, RunRecord, write_record};
use ferrokit_bench::{Measurement, Plan, Subject, driver};
use ferrokit_engine::{BatchOp, Direction, Durability, Env, KeyRange, Result, Update, WriteBatch};

const SLOWER_BY: f64 = 0.05;
const THRESHOLD: f64 = 0.03;
/// Rounds at least and at most, and how narrow the interval of the engine against itself is to be.
const ROUNDS: Range<usize> = 10..30;
const NARROW: f64 = 0.015;

/// A tree behind a lock, whose reads spin.
struct Tree {
    entries: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    spins: u64,
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
        spin(self.spins);
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

/// Does nothing, for a time that goes by the processor's speed as that of a read does.
fn spin(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

/// Of data that the processor's caches hold: then it matters least what else the machine does.
fn plan() -> Plan {
    Plan {
        engine: "tree:".to_owned(),
        workload: "read-uniform".parse().unwrap(),
        records: 2000,
        operations: 1_000_000,
        warmup: 100_000,
        value_bytes: 100,
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

fn run(spins: u64) -> Measurement {
    driver::run(&Env::system(), &plan(), || {
        let tree = Tree { entries: RwLock::default(), spins };
        let engine = Arc::new(PeerEngine::new(tree));
        Ok(Subject { engine, settings: "none".to_owned(), updates_are_atomic: true })
    })
    .unwrap()
}

/// Turns of [`spin`] that take [`SLOWER_BY`] of a read, by the medians of both times.
fn spins() -> u64 {
    const TURNS: u64 = 100_000;
    let clock = Env::system().clock;
    let turn = |_| {
        let begin = clock.monotonic();
        spin(black_box(TURNS));
        clock.monotonic().saturating_sub(begin).as_nanos() as f64 / TURNS as f64
    };
    let turn_ns = median(&(0..501).map(turn).collect::<Vec<_>>()).unwrap();
    let reads: Vec<f64> = (0..5).map(|_| run(0).cpu_us_per_operation() * 1e3).collect();
    let read_ns = median(&reads).unwrap();
    let turns = (read_ns * SLOWER_BY / turn_ns).round() as u64;
    println!("a read takes {read_ns:.0} ns, a turn {turn_ns:.2} ns: {turns} turns");
    assert!(turns > 1, "the spin cannot be told from a call");
    turns
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

    fn add(&mut self, round: usize, spins: u64) {
        let measurement = run(spins);
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

fn is_narrow(one: &Rounds, other: &Rounds) -> bool {
    Shift::of(&one.cpu, &other.cpu).is_some_and(|shift| shift.high / shift.low < 1.0 + 2.0 * NARROW)
}

/// What the program says, and its exit code.
fn diff(old: &str, new: &str) -> (String, Option<i32>) {
    let threshold = format!("{}%", THRESHOLD * 100.0);
    let output = Command::new(env!("CARGO_BIN_EXE_ferrokit-bench"))
        .args(["diff", old, new, "--threshold", &threshold])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (text, output.status.code())
}

fn difference(old: &str, new: &str) -> Difference {
    let (old, new) = (Results::read(old).unwrap(), Results::read(new).unwrap());
    let [difference] = <[Difference; 1]>::try_from(diff::compare(&old, &new, THRESHOLD)).unwrap();
    difference
}

#[test]
fn five_percent_are_found_and_nothing_is_not() {
    let spins = spins();
    let [mut old, mut same, mut slow] = ["old", "same", "slow"].map(Rounds::new);
    for round in 0..ROUNDS.end {
        // Who is first changes: it may matter to the caches of the machine.
        let mut turn = [(&mut old, 0), (&mut same, 0), (&mut slow, spins)];
        turn.rotate_left(round % 3);
        for (rounds, spins) in turn {
            rounds.add(round, spins);
        }
        if round + 1 >= ROUNDS.start && is_narrow(&old, &same) && is_narrow(&old, &slow) {
            break;
        }
    }
    let [old, same, slow] = [&old, &same, &slow].map(Rounds::write);

    let slower = difference(old, slow);
    assert!(matches!(slower.verdict, Verdict::Slower(_)), "{slower:?}");
    let (text, code) = diff(old, slow);
    assert!(text.contains("slower, by ") && code == Some(1), "{text}");
    let faster = difference(slow, old);
    assert!(matches!(faster.verdict, Verdict::Faster(_)), "{faster:?}");

    let unchanged = difference(old, same);
    assert!(matches!(unchanged.verdict, Verdict::Same(_)), "{unchanged:?}");
    let (text, code) = diff(old, same);
    assert!(text.contains("same, within ") && code == Some(0), "{text}");
}
