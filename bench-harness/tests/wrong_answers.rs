//! A store that answers wrongly must not get a figure.

#![expect(clippy::unwrap_used, reason = "a store for tests")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use std::sync::Arc;

use ferrokit_bench::peer::{ChangeValue, Facts, Peer, PeerEngine, VisitEntry};
use ferrokit_bench::plan::{Caller, Promise};
use ferrokit_bench::{Measurement, Plan, Subject, driver};
use ferrokit_engine::{
    BatchOp, Direction, Durability, Env, Error, ErrorKind, KeyRange, Result, Update, WriteBatch,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    LosesPuts,
    LosesUpdates,
    MissesReads,
    FindsTheAbsent,
    ReadsAnotherKey,
    ReadsTornValues,
    LosesChanges,
    ScansBackwards,
    ScanSkips,
    ScanEndsEarly,
    ScanBeginsEarly,
    ShowsTwice,
    IgnoresDeletes,
    Unordered,
}

/// Lies on every tenth occasion: an update that is lost can be seen only where no later one of
/// another thread hides it.
struct Liar {
    lie: Lie,
    entries: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    occasions: AtomicUsize,
}

impl Liar {
    fn new(lie: Lie) -> Self {
        Self { lie, entries: Mutex::default(), occasions: AtomicUsize::new(0) }
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == lie && self.occasions.fetch_add(1, Ordering::Relaxed) % 10 == 9
    }
}

impl Peer for Liar {
    fn facts(&self) -> Facts {
        Facts {
            name: "liar",
            is_ordered: self.lie != Lie::Unordered,
            has_batches: true,
            updates_are_atomic: true,
            strongest_durability: Durability::Memory,
            max_key_bytes: 100,
            max_value_bytes: 1 << 20,
        }
    }

    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<()> {
        let mut entries = self.entries.lock().unwrap();
        if self.lies(Lie::LosesPuts) {
            return Ok(());
        }
        if entries.contains_key(key) && self.lies(Lie::LosesUpdates) {
            return Ok(());
        }
        entries.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let entries = self.entries.lock().unwrap();
        let found = entries.get(key);
        if self.lies(Lie::MissesReads) {
            return Ok(false);
        }
        if found.is_none() && self.lies(Lie::FindsTheAbsent) {
            visit(b"something");
            return Ok(true);
        }
        let other = entries.range(key.to_vec()..).nth(1).map(|(_, value)| value);
        let found = if self.lies(Lie::ReadsAnotherKey) { other.or(found) } else { found };
        let Some(found) = found else { return Ok(false) };
        let mut value = found.clone();
        if self.lies(Lie::ReadsTornValues) {
            value[60..].fill(0);
        }
        visit(&value);
        Ok(true)
    }

    fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let last = keys.len() - 1;
        let twice = last > 0 && self.lies(Lie::ShowsTwice);
        for index in 0..keys.len() {
            // The first one once more, in the place of the last.
            let index = if twice && index == last { 0 } else { index };
            self.get(keys[index], &mut |value| visit(index, value))?;
        }
        Ok(())
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        if !self.lies(Lie::IgnoresDeletes) {
            self.entries.lock().unwrap().remove(key);
        }
        Ok(())
    }

    fn update(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<()> {
        let mut entries = self.entries.lock().unwrap();
        let mut new = Vec::new();
        if let Update::Put { .. } = change(entries.get(key).map(Vec::as_slice), &mut new)
            && !self.lies(Lie::LosesChanges)
        {
            entries.insert(key.to_vec(), new);
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value, .. } => self.put(key, value, durability)?,
                BatchOp::Delete { key, .. } => self.delete(key, durability)?,
            }
        }
        Ok(())
    }

    fn scan(&self, range: &KeyRange, _: Direction, visit: &mut VisitEntry<'_>) -> Result<()> {
        let all = self.entries.lock().unwrap();
        let bounds = (range.start.clone(), range.end.clone());
        let mut found: Vec<_> = all.range(bounds).collect();
        if found.len() > 2 && self.lies(Lie::ScanSkips) {
            found.remove(1);
        }
        if found.len() > 2 && self.lies(Lie::ScansBackwards) {
            found.swap(0, 1);
        }
        if self.lies(Lie::ScanBeginsEarly)
            && let Bound::Included(start) = &range.start
        {
            // One that was inserted during the run: no scan has to show it.
            let is_inserted = |value: &[u8]| value[8..16] != [0; 8];
            let before = all.range(..start.clone()).rev().find(|(_, value)| is_inserted(value));
            found.splice(0..0, before);
        }
        if self.lies(Lie::ScanEndsEarly) {
            found.truncate(5);
        }
        for (key, value) in found {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn plan(workload: &str) -> Plan {
    Plan {
        engine: String::new(),
        workload: workload.parse().unwrap(),
        records: 500,
        operations: 2000,
        warmup: 100,
        value_bytes: 100,
        distribution: None,
        threads: 2,
        caller: Caller::Sync,
        tasks: 8,
        rate_per_s: None,
        durability: Promise::Memory,
        memory_bytes: 1 << 20,
        memory_group: None,
        seed: 3,
        directory: "/nonexistent".to_owned(),
    }
    .fixed()
}

/// One run at a time: a run waits until the process does nothing else.
fn run_plan(lie: Lie, plan: &Plan) -> Result<Measurement> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    driver::run(&Env::system(), plan, || {
        Ok(Subject {
            engine: Arc::new(PeerEngine::new(Liar::new(lie))),
            settings: format!("{lie:?}"),
            updates_are_atomic: true,
        })
    })
}

#[track_caller]
fn is_caught(lie: Lie, workload: &str) {
    let error: Error = run_plan(lie, &plan(workload)).expect_err(&format!("{lie:?} on {workload}"));
    assert_eq!(error.kind(), ErrorKind::Corruption, "{lie:?} on {workload}: {error}");
    assert!(error.to_string().contains("wrong answer"), "{error}");
}

#[test]
fn an_honest_engine_is_measured() {
    for (workload, expected) in [
        ("ycsb-a", 2000),
        ("ycsb-d", 2000),
        ("ycsb-e", 2000),
        ("ycsb-f", 2000),
        ("fill-random", 500),
        ("delete", 500),
        ("delete-refill", 1500),
        ("multiget-32", 2000),
        ("batch-100", 2000),
        ("mixgraph", 2000),
        ("twitter-cache", 2000),
    ] {
        let measurement = run_plan(Lie::None, &plan(workload)).unwrap();
        assert_eq!(measurement.operations, expected, "{workload}");
        assert_eq!(measurement.samples.last().unwrap().operations, expected, "{workload}");
        match workload {
            "delete" => assert_eq!(measurement.live_bytes, 0),
            _ => assert!(measurement.live_bytes >= 500 * 48, "{workload}"),
        }
    }
}

#[test]
fn tasks_and_rates_do_the_same_work() {
    for workload in ["ycsb-a", "ycsb-d", "ycsb-f", "multiget-32", "batch-100"] {
        let tasks = Plan { caller: Caller::Async, ..plan(workload) };
        let measurement = run_plan(Lie::None, &tasks).unwrap();
        assert_eq!(measurement.samples.last().unwrap().operations, 2000, "{workload}");
        let error = run_plan(Lie::LosesPuts, &Plan { caller: Caller::Async, ..plan("fill-seq") });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corruption);
    }
    let rate = Plan { rate_per_s: Some(10_000.0), operations: 5000, ..plan("ycsb-a") };
    let measurement = run_plan(Lie::None, &rate).unwrap();
    assert!((0.45..1.5).contains(&measurement.elapsed_s), "{}", measurement.elapsed_s);
}

#[test]
fn an_engine_without_order_is_told_apart_from_one_that_fails() {
    let error = run_plan(Lie::Unordered, &plan("scan-10")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn lost_writes_are_caught() {
    is_caught(Lie::LosesPuts, "fill-seq");
    is_caught(Lie::LosesPuts, "ycsb-c");
    is_caught(Lie::LosesPuts, "batch-100");
    is_caught(Lie::LosesUpdates, "ycsb-a");
    is_caught(Lie::LosesChanges, "ycsb-f");
    is_caught(Lie::IgnoresDeletes, "delete");
    is_caught(Lie::IgnoresDeletes, "delete-refill");
}

#[test]
fn wrong_reads_are_caught() {
    is_caught(Lie::MissesReads, "ycsb-b");
    is_caught(Lie::FindsTheAbsent, "read-missing");
    is_caught(Lie::ReadsAnotherKey, "read-uniform");
    is_caught(Lie::ReadsTornValues, "ycsb-d");
    is_caught(Lie::MissesReads, "multiget-32");
    is_caught(Lie::ReadsAnotherKey, "multiget-32");
    is_caught(Lie::ShowsTwice, "multiget-32");
}

#[test]
fn wrong_scans_are_caught() {
    is_caught(Lie::ScansBackwards, "scan-10");
    is_caught(Lie::ScanSkips, "scan-100");
    is_caught(Lie::ScanSkips, "ycsb-e");
    is_caught(Lie::ScanEndsEarly, "scan-10");
    is_caught(Lie::ScanBeginsEarly, "ycsb-e");
}
