//! Threads on their own keys, while pages are evicted and compacted, checkpoints taken, keyspaces
//! exchanged, the index grown; every answer is checked. Then the process dies.
//!
//! `FERROKIT_STRESS_SEEDS` says how many times, with a seed each.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrokit_engine::{
    Durability, Entry, KeyspaceId, KvEngine, KvEngineExt, KvRead, ReadOptions, SweepCursor, Update,
    WriteBatch, WriteOptions, block_on,
};
use ferrokit_hybridlog::{HybridLogConfig, HybridLogEngine};
use ferrokit_storage::sim::{CrashMode, SimMachine};

const KS: KeyspaceId = KeyspaceId::DEFAULT;
const OS: WriteOptions = WriteOptions::with_durability(Durability::Os);
const PAGE: u64 = 4 << 10;
const THREADS: u64 = 4;
const OPERATIONS: u64 = 8000;

fn config(seed: u64) -> HybridLogConfig {
    HybridLogConfig {
        directory: "data".to_owned(),
        memory_bytes: 16 * PAGE,
        page_bytes: PAGE,
        index_bytes: 64,
        // Chains of many keys, or an index that grows.
        index_bytes_max: if seed.is_multiple_of(2) { 1 << 20 } else { 16 << 10 },
        segment_bytes: 4 * PAGE,
        checkpoint_bytes: 32 << 10,
        log_segment_bytes: 64 << 10,
        garbage_percent: 20,
        keyspaces: 4,
        ..HybridLogConfig::default()
    }
}

/// A thread's keys, and what it last wrote to each.
struct Client<'e> {
    engine: &'e Arc<HybridLogEngine>,
    thread: u64,
    keys: u64,
    model: HashMap<u64, u64>,
    random: u64,
}

fn key(thread: u64, n: u64) -> Vec<u8> {
    format!("{thread}:{n}").into_bytes()
}

fn value(version: u64) -> Vec<u8> {
    let mut value = version.to_le_bytes().to_vec();
    // Some are cut into pieces.
    let len = if version.is_multiple_of(41) { 1700 + version % 9000 } else { version % 150 };
    value.resize(8 + len as usize, version as u8);
    value
}

impl Client<'_> {
    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 20
    }

    fn key(&self, n: u64) -> Vec<u8> {
        key(self.thread, n)
    }

    fn expected(&self, n: u64) -> Option<Vec<u8>> {
        self.model.get(&n).map(|version| value(*version))
    }

    fn step(&mut self, version: u64) {
        let (n, choice) = (self.random() % self.keys, self.random());
        let options = if choice & 1 == 0 { OS } else { OS.reporting_existed() };
        match (choice >> 1) % 10 {
            0..=2 => {
                let (key, new) = (self.key(n), value(version));
                let written = block_on(self.engine.put(KS, &key, &new, None, &options)).unwrap();
                self.check_existed(written.existed, n);
                self.model.insert(n, version);
            }
            3 => {
                let key = self.key(n);
                let written = block_on(self.engine.delete(KS, &key, &options)).unwrap();
                self.check_existed(written.existed, n);
                self.model.remove(&n);
            }
            4 | 5 => self.update(n, version),
            6 => self.write(n, version, &options),
            7 => self.get_many(n),
            8 if version.is_multiple_of(97) => self.sweep(),
            _ => {
                let got = block_on(self.engine.get(KS, &self.key(n))).unwrap();
                assert_eq!(got, self.expected(n), "{}:{n}", self.thread);
            }
        }
    }

    fn check_existed(&self, existed: Option<bool>, n: u64) {
        let expected = self.model.contains_key(&n);
        assert!(existed.is_none_or(|existed| existed == expected), "{}:{n}", self.thread);
    }

    fn update(&mut self, n: u64, version: u64) {
        let expected = self.expected(n);
        let mut change = |old: Option<Entry<'_>>, out: &mut Vec<u8>| {
            assert_eq!(old.map(|it| it.value.to_vec()), expected);
            out.extend_from_slice(&value(version));
            Update::Put { expire_at: None }
        };
        block_on(self.engine.update(KS, &key(self.thread, n), &OS, &mut change)).unwrap();
        self.model.insert(n, version);
    }

    fn write(&mut self, n: u64, version: u64, options: &WriteOptions) {
        let mut batch = WriteBatch::new();
        for distance in 0..6 {
            let n = (n + distance * 7) % self.keys;
            if distance % 3 == 2 {
                batch.delete(KS, &self.key(n));
                self.model.remove(&n);
            } else {
                batch.put(KS, &self.key(n), &value(version), None);
                self.model.insert(n, version);
            }
        }
        block_on(self.engine.write(&batch, options)).unwrap();
    }

    fn get_many(&self, n: u64) {
        let numbers: Vec<u64> = (0..8).map(|distance| (n + distance) % self.keys).collect();
        let names: Vec<Vec<u8>> = numbers.iter().map(|n| self.key(*n)).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let got = block_on(self.engine.get_many(KS, &names)).unwrap();
        for (n, got) in numbers.into_iter().zip(got) {
            assert_eq!(got, self.expected(n), "{}:{n} among many", self.thread);
        }
    }

    fn sweep(&self) {
        let (mut seen, mut cursor) = (HashSet::new(), SweepCursor::start());
        loop {
            let mut visit = |key: &[u8], entry: Entry<'_>| {
                let (owner, n) = std::str::from_utf8(key).unwrap().split_once(':').unwrap();
                if owner.parse() == Ok(self.thread) {
                    let n = n.parse().unwrap();
                    assert_eq!(Some(entry.value.to_vec()), self.expected(n), "swept {owner}:{n}");
                    seen.insert(n);
                }
            };
            let options = ReadOptions::default();
            let swept = block_on(self.engine.sweep(KS, &cursor, 100, &options, &mut visit));
            match swept.unwrap().next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        let missed = self.model.keys().find(|n| !seen.contains(*n));
        assert_eq!(missed, None, "thread {} missed it in a sweep", self.thread);
    }
}

/// Ends what runs beside the clients, even if one of them fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Exchanges keyspaces that no client looks into.
fn exchange(engine: &HybridLogEngine, is_over: &AtomicBool) {
    let (one, other) = (KeyspaceId(1), KeyspaceId(2));
    while !is_over.load(Ordering::SeqCst) {
        block_on(engine.put(one, b"x", b"y", None, &OS)).unwrap();
        block_on(engine.swap_keyspaces(one, other, &OS)).unwrap();
        block_on(engine.clear_keyspace(other, &OS)).unwrap();
        assert!(engine.stats().get("disk_bytes").is_some());
        for _ in 0..200 {
            std::thread::yield_now();
        }
    }
}

fn run(seed: u64) {
    let machine = SimMachine::new(seed);
    let engine = HybridLogEngine::open(&machine.threaded_host(), config(seed)).unwrap();
    let keys = if seed.is_multiple_of(2) { 500 } else { 60 };
    let is_over = AtomicBool::new(false);
    let models: Vec<HashMap<u64, u64>> = std::thread::scope(|scope| {
        let _stop = Stop(&is_over);
        scope.spawn(|| exchange(&engine, &is_over));
        let clients: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (model, random) = (HashMap::new(), seed * 977 + thread + 1);
                let mut client = Client { engine: &engine, thread, keys, model, random };
                scope.spawn(move || {
                    (1..OPERATIONS).for_each(|version| client.step(version));
                    client.model
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for stat in ["checkpoints", "pages_compacted", "cold_reads"] {
        assert!(engine.stats().get(stat).is_some_and(|count| count > 0), "no {stat}, seed {seed}");
    }
    drop(engine);
    let after = machine.crash(CrashMode::ProcessKill);
    let engine = HybridLogEngine::open(&after.host(), config(seed)).unwrap();
    for (thread, model) in (0..).zip(&models) {
        for n in 0..keys {
            let got = after.host().wait(engine.get(KS, &key(thread, n))).unwrap();
            let expected = model.get(&n).map(|version| value(*version));
            assert_eq!(got, expected, "{thread}:{n} after the crash, seed {seed}");
        }
    }
}

#[test]
fn every_answer_is_right_and_survives_the_process() {
    let seeds = std::env::var("FERROKIT_STRESS_SEEDS").ok().and_then(|it| it.parse().ok());
    (0..seeds.unwrap_or(4)).for_each(run);
}
