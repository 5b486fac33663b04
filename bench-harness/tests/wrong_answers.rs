//! A store that answers wrongly must not get a figure.

#![expect(clippy::unwrap_used, reason = "a store for tests")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrokit_bench::measurement::Promise;
use ferrokit_bench::store::{ChangeValue, Store, VisitEntry};
use ferrokit_bench::{Measurement, Plan, Workload, driver};
use ferrokit_engine::{Durability, Env, Error, ErrorKind, Result};

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
    IgnoresDeletes,
}

/// Lies on every 50th occasion.
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
        self.lie == lie && self.occasions.fetch_add(1, Ordering::Relaxed) % 50 == 49
    }
}

impl Store for Liar {
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

    fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let entries = self.entries.lock().unwrap();
        let found = entries.get(key);
        if self.lies(Lie::MissesReads) {
            return Ok(false);
        }
        if found.is_none() && self.lies(Lie::FindsTheAbsent) {
            return Ok(true);
        }
        let other = entries.range(key.to_vec()..).nth(1).map(|(_, value)| value);
        let found = if self.lies(Lie::ReadsAnotherKey) { other.or(found) } else { found };
        value.extend_from_slice(found.map_or(&[][..], Vec::as_slice));
        if self.lies(Lie::ReadsTornValues) {
            value[60..].fill(0);
        }
        Ok(found.is_some())
    }

    fn delete(&self, key: &[u8], _: Durability) -> Result<()> {
        if !self.lies(Lie::IgnoresDeletes) {
            self.entries.lock().unwrap().remove(key);
        }
        Ok(())
    }

    fn rmw(&self, key: &[u8], _: Durability, change: &mut ChangeValue<'_>) -> Result<bool> {
        let mut entries = self.entries.lock().unwrap();
        let Some(value) = entries.get_mut(key) else { return Ok(false) };
        let mut new = Vec::new();
        change(value, &mut new);
        if !self.lies(Lie::LosesChanges) {
            *value = new;
        }
        Ok(true)
    }

    fn rmw_is_atomic(&self) -> bool {
        true
    }

    fn scan(&self, start: &[u8], entries: usize, visit: &mut VisitEntry<'_>) -> Result<()> {
        let all = self.entries.lock().unwrap();
        let mut found: Vec<_> = all.range(start.to_vec()..).take(entries + 1).collect();
        if found.len() > 2 && self.lies(Lie::ScanSkips) {
            found.remove(1);
        }
        if found.len() > 2 && self.lies(Lie::ScansBackwards) {
            found.reverse();
        }
        found.truncate(entries);
        if self.lies(Lie::ScanEndsEarly) {
            found.pop();
        }
        found.into_iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn supports_scan(&self) -> bool {
        self.lie != Lie::None
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn settings(&self) -> String {
        format!("{:?}", self.lie)
    }
}

fn run(lie: Lie, workload: Workload) -> Result<Measurement> {
    let plan = Plan {
        engine: String::new(),
        workload,
        records: 500,
        operations: 2000,
        value_bytes: 100,
        distribution: None,
        threads: 2,
        durability: Promise::Memory,
        memory_bytes: 1 << 20,
        seed: 3,
        directory: "/nonexistent".to_owned(),
    };
    driver::run(&Env::system(), &plan, || Ok(Box::new(Liar::new(lie))))
}

#[track_caller]
fn is_caught(lie: Lie, workload: Workload) {
    let error: Error = run(lie, workload).expect_err(&format!("{lie:?} on {workload}"));
    assert_eq!(error.kind(), ErrorKind::Corruption, "{lie:?} on {workload}: {error}");
    assert!(error.to_string().contains("wrong answer"), "{error}");
}

#[test]
fn an_honest_store_is_measured() {
    for workload in [Workload::A, Workload::D, Workload::F, Workload::FillRandom, Workload::Delete]
    {
        let measurement = run(Lie::None, workload).unwrap();
        let expected = if workload.takes_every_record_once() { 500 } else { 2000 };
        assert_eq!(measurement.operations, expected);
        let parts = [measurement.read_latency, measurement.write_latency];
        let operations: u64 = parts.iter().flatten().map(|latency| latency.operations).sum();
        assert_eq!(operations, expected);
        assert_eq!(measurement.latency.operations, expected);
        if workload == Workload::Delete {
            assert_eq!(measurement.live_bytes, 0);
        } else {
            assert!(measurement.live_bytes >= 500 * 116);
        }
    }
}

#[test]
fn a_store_without_order_is_told_apart_from_one_that_fails() {
    let error = run(Lie::None, Workload::Scan10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn lost_writes_are_caught() {
    is_caught(Lie::LosesPuts, Workload::FillSequential);
    is_caught(Lie::LosesPuts, Workload::C);
    is_caught(Lie::LosesUpdates, Workload::A);
    is_caught(Lie::LosesChanges, Workload::F);
    is_caught(Lie::IgnoresDeletes, Workload::Delete);
}

#[test]
fn wrong_reads_are_caught() {
    is_caught(Lie::MissesReads, Workload::B);
    is_caught(Lie::FindsTheAbsent, Workload::ReadMiss);
    is_caught(Lie::ReadsAnotherKey, Workload::Read);
    is_caught(Lie::ReadsTornValues, Workload::D);
}

#[test]
fn wrong_scans_are_caught() {
    is_caught(Lie::ScansBackwards, Workload::Scan10);
    is_caught(Lie::ScanSkips, Workload::Scan100);
    is_caught(Lie::ScanSkips, Workload::E);
    is_caught(Lie::ScanEndsEarly, Workload::Scan10);
}
