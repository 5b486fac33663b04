//! [`World`]: an open engine on a machine, and what a case does with both.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use ferrokit_engine::{
    BatchOp, Capabilities, Clock, Direction, Durability, Entry, Error, ErrorKind, KeyRange,
    KeyspaceId, KvEngine, KvEngineExt, KvRead, Op, ReadOptions, Result, ScanLimits, Sequence,
    SweepCursor, UnixMillis, Update, WriteBatch, WriteOptions, Written,
};
use ferrokit_storage::Host;
use ferrokit_storage::sim::{CrashMode, SimMachine};

use crate::factory::{EngineFactory, Options};
use crate::lab::{CaseClock, Lab, threaded_host};

/// The keyspace most cases use.
pub const KS: KeyspaceId = KeyspaceId::DEFAULT;

/// The directory of the engine under test.
pub const DIRECTORY: &str = "data";

/// Steps of a sweep before it counts as endless.
const SWEEP_STEPS_MAX: usize = 1_000_000;

/// Entries by key, as most comparisons want them.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// A machine under an engine.
pub struct WorldMachine {
    host: Host,
    clock: Arc<CaseClock>,
    kind: MachineKind,
    root: String,
}

enum MachineKind {
    Stepped(SimMachine),
    Threaded(SimMachine),
    Real,
}

impl WorldMachine {
    pub(crate) fn stepped(machine: SimMachine) -> Self {
        Self::new(machine.host(), MachineKind::Stepped(machine), String::new())
    }

    pub(crate) fn threaded(machine: SimMachine) -> Self {
        Self::new(threaded_host(&machine), MachineKind::Threaded(machine), String::new())
    }

    pub(crate) fn real(host: Host) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let root = format!(
            "{}/ferrokit-conformance-{}-{number}/",
            std::env::temp_dir().display(),
            std::process::id()
        );
        host.fs.create_dir_all(&root).unwrap();
        Self::new(host, MachineKind::Real, root)
    }

    fn new(mut host: Host, kind: MachineKind, root: String) -> Self {
        let clock = CaseClock::new(Arc::clone(&host.env.clock));
        host.env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Self { host, clock, kind, root }
    }
}

impl Drop for WorldMachine {
    fn drop(&mut self) {
        if matches!(self.kind, MachineKind::Real) {
            let _ = self.host.fs.remove_dir_all(&self.root);
        }
    }
}

/// An open engine on its machine.
pub struct World {
    factory: Arc<dyn EngineFactory>,
    engine: Option<Arc<dyn KvEngine>>,
    machine: WorldMachine,
    options: Options,
}

impl World {
    pub(crate) fn open(lab: &Lab, machine: WorldMachine, options: &Options) -> Self {
        let mut world =
            Self { factory: lab.factory_handle(), engine: None, machine, options: options.clone() };
        world.open_again();
        world
    }

    /// An engine that a case opened itself on a simulated machine.
    pub fn around(lab: &Lab, machine: SimMachine, engine: Arc<dyn KvEngine>) -> Self {
        Self {
            factory: lab.factory_handle(),
            engine: Some(engine),
            machine: WorldMachine::stepped(machine),
            options: lab.default_options(),
        }
    }

    // ---- The machine.

    /// The host the engine runs on.
    pub fn host(&self) -> &Host {
        &self.machine.host
    }

    /// The simulated machine.
    ///
    /// # Panics
    /// On a real one.
    pub fn sim(&self) -> &SimMachine {
        match &self.machine.kind {
            MachineKind::Stepped(machine) | MachineKind::Threaded(machine) => machine,
            MachineKind::Real => panic!("this case needs a simulated machine"),
        }
    }

    /// Whether jobs run only while the case waits.
    pub fn is_stepped(&self) -> bool {
        self.host().background.is_stepped()
    }

    /// A path on this machine.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.machine.root)
    }

    /// The wall clock.
    pub fn now(&self) -> UnixMillis {
        self.machine.clock.now()
    }

    /// Sets the wall clock, also backwards.
    pub fn set_clock(&self, wall: UnixMillis) {
        self.machine.clock.set_wall(wall);
    }

    /// Lets the wall clock advance.
    pub fn pass_millis(&self, millis: u64) {
        self.set_clock(self.now().plus(millis));
    }

    /// Waits for an operation, stepping jobs where they are stepped.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.host().wait(future)
    }

    // ---- The engine.

    /// The engine.
    pub fn engine(&self) -> &dyn KvEngine {
        &**self.engine.as_ref().expect("the engine is open")
    }

    /// A shared handle of the engine, to be dropped before the world reopens.
    pub fn handle(&self) -> Arc<dyn KvEngine> {
        Arc::clone(self.engine.as_ref().expect("the engine is open"))
    }

    /// The factory.
    pub fn factory(&self) -> &dyn EngineFactory {
        &*self.factory
    }

    /// The options the engine is open with.
    pub fn engine_options(&self) -> &Options {
        &self.options
    }

    /// The engine's facts.
    pub fn capabilities(&self) -> &Capabilities {
        self.engine().capabilities()
    }

    /// The strongest durability of the engine.
    pub fn strongest(&self) -> Durability {
        self.capabilities().strongest_durability
    }

    /// How cases write unless durability is their subject: as strongly as is quick.
    pub fn write_options(&self) -> WriteOptions {
        let level = match self.machine.kind {
            MachineKind::Stepped(_) => self.strongest(),
            MachineKind::Threaded(_) | MachineKind::Real => self.strongest().min(Durability::Os),
        };
        WriteOptions::with_durability(level)
    }

    /// Opens the engine's directory again, with other options.
    pub fn open_again_with(&mut self, options: &Options) {
        self.options = options.clone();
        self.open_again();
    }

    /// Opens the engine's directory again.
    pub fn open_again(&mut self) {
        match self.try_open() {
            Ok(engine) => self.engine = Some(engine),
            Err(error) => panic!("{} does not open: {error}", self.factory.name()),
        }
    }

    /// Takes an engine that [`try_open`](Self::try_open) opened.
    pub fn adopt(&mut self, engine: Arc<dyn KvEngine>) {
        self.engine = Some(engine);
    }

    /// Opens the engine's directory without keeping the engine.
    pub fn try_open(&self) -> Result<Arc<dyn KvEngine>> {
        self.factory.open(self.host(), &self.path(DIRECTORY), &self.options)
    }

    /// Closes and drops the engine.
    pub fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            let closed = self.host().wait(engine.close());
            closed.unwrap_or_else(|error| panic!("close: {error}"));
        }
    }

    /// Drops the engine without closing it.
    pub fn drop_engine(&mut self) {
        self.engine = None;
    }

    /// Closes the engine and opens it again.
    pub fn reopen(&mut self) {
        self.close();
        self.open_again();
    }

    /// Reopens an engine whose data survive that.
    pub fn reopen_if_durable(&mut self) {
        if self.factory.durable() {
            self.reopen();
        }
    }

    /// Crashes the machine and opens the engine on what is left.
    pub fn crash(&mut self, mode: CrashMode) {
        self.crash_without_open(mode);
        self.open_again();
    }

    /// Another world, booted from what a crash of this one's machine leaves; its engine is not yet
    /// open. This one's machine stays frozen, and can be crashed again in other modes.
    pub fn after_crash(&self, lab: &Lab, mode: CrashMode) -> World {
        let now = self.now();
        let machine = WorldMachine::stepped(self.sim().crash(mode));
        let world = World {
            factory: lab.factory_handle(),
            engine: None,
            machine,
            options: self.options.clone(),
        };
        world.set_clock(now);
        world
    }

    /// Crashes the machine; the engine is not opened.
    pub fn crash_without_open(&mut self, mode: CrashMode) {
        let after = self.sim().crash(mode);
        let machine = match &self.machine.kind {
            MachineKind::Stepped(_) => WorldMachine::stepped(after),
            _ => WorldMachine::threaded(after),
        };
        self.engine = None;
        let now = self.now();
        self.machine = machine;
        self.set_clock(now);
    }

    /// Makes everything written so far durable and lets the jobs finish their work.
    pub fn settle(&self) {
        self.wait(self.engine().sync(self.strongest())).unwrap();
        self.host().settle();
    }

    /// Writes and removes a few hundred KiB around all keys, so that a tiny engine flushes,
    /// compacts, splits and collects whatever was there.
    pub fn churn(&self, keyspace: KeyspaceId) {
        let value = vec![b'~'; 256.min(self.capabilities().max_value_bytes)];
        let options = WriteOptions::with_durability(self.strongest().min(Durability::Os));
        for round in 0..6u8 {
            let mut batch = WriteBatch::new();
            for n in 0..40u8 {
                for edge in [0x00, 0xff] {
                    let key = [edge, b'#', n];
                    if round == 5 {
                        batch.delete(keyspace, &key);
                    } else {
                        batch.put(keyspace, &key, &value, None);
                    }
                }
            }
            if self.capabilities().max_batch_ops > 0 {
                self.wait(self.engine().write(&batch, &options)).unwrap();
                continue;
            }
            for op in batch.iter() {
                let op = match op {
                    BatchOp::Put { key, value, .. } => {
                        self.engine().put(keyspace, key, value, None, &options)
                    }
                    BatchOp::Delete { key, .. } => self.engine().delete(keyspace, key, &options),
                };
                self.wait(op).unwrap();
            }
        }
        self.settle();
    }

    // ---- Writes, failing the case on an error.

    /// Stores a value.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Written {
        self.put_in(KS, key, value)
    }

    /// Stores a value in a keyspace.
    pub fn put_in(&self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Written {
        let op = self.engine().put(keyspace, key, value, None, &self.write_options());
        self.wait(op).unwrap_or_else(|error| panic!("put: {error}"))
    }

    /// Stores a value with an expiry.
    pub fn put_until(&self, key: &[u8], value: &[u8], expire_at: UnixMillis) -> Written {
        let op = self.engine().put(KS, key, value, Some(expire_at), &self.write_options());
        self.wait(op).unwrap_or_else(|error| panic!("put: {error}"))
    }

    /// Stores a value at a durability.
    pub fn put_at(&self, level: Durability, key: &[u8], value: &[u8]) -> Written {
        let options = WriteOptions::with_durability(level);
        let op = self.engine().put(KS, key, value, None, &options);
        self.wait(op).unwrap_or_else(|error| panic!("put: {error}"))
    }

    /// Removes a key and tells whether it was there.
    pub fn delete(&self, key: &[u8]) -> bool {
        let options = self.write_options().reporting_existed();
        let op = self.engine().delete(KS, key, &options);
        let written = self.wait(op).unwrap_or_else(|error| panic!("delete: {error}"));
        written.existed.expect("existence was asked for")
    }

    /// Applies a batch.
    pub fn write(&self, batch: &WriteBatch) -> Written {
        let op = self.engine().write(batch, &self.write_options());
        self.wait(op).unwrap_or_else(|error| panic!("write: {error}"))
    }

    /// Updates a key.
    pub fn update(
        &self,
        key: &[u8],
        mut change: impl FnMut(Option<Entry<'_>>, &mut Vec<u8>) -> Update + Send,
    ) -> Written {
        let op = self.engine().update(KS, key, &self.write_options(), &mut change);
        self.wait(op).unwrap_or_else(|error| panic!("update: {error}"))
    }

    /// Empties a keyspace.
    pub fn clear(&self, keyspace: KeyspaceId) -> Written {
        let op = self.engine().clear_keyspace(keyspace, &self.write_options());
        self.wait(op).unwrap_or_else(|error| panic!("clear: {error}"))
    }

    /// Exchanges two keyspaces.
    pub fn swap(&self, a: KeyspaceId, b: KeyspaceId) -> Written {
        let op = self.engine().swap_keyspaces(a, b, &self.write_options());
        self.wait(op).unwrap_or_else(|error| panic!("swap: {error}"))
    }

    // ---- Reads, failing the case on an error.

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_in(KS, key)
    }

    /// The value of a key of a keyspace.
    pub fn get_in(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Vec<u8>> {
        self.entry(keyspace, key).map(|entry| entry.value)
    }

    /// The entry of a key.
    pub fn entry(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<FoundEntry> {
        read_entry(self, self.engine(), keyspace, key)
    }

    /// The values of several keys.
    pub fn get_many(&self, keys: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        self.wait(self.engine().get_many(KS, keys))
            .unwrap_or_else(|error| panic!("get_many: {error}"))
    }

    /// Everything in a keyspace, by a sweep.
    pub fn contents(&self, keyspace: KeyspaceId) -> Contents {
        sweep_all(self, self.engine(), keyspace, 16)
    }

    /// A range, scanned in chunks of `entries`.
    pub fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        entries: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        scan_all(self, self.engine(), KS, range, direction, entries)
    }

    /// How many entries a keyspace reports.
    pub fn len(&self, keyspace: KeyspaceId) -> u64 {
        let op = self.engine().keyspace_len(keyspace);
        self.wait(op).unwrap_or_else(|error| panic!("keyspace_len: {error}")).entries
    }
}

/// An entry as a read lent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEntry {
    /// The value.
    pub value: Vec<u8>,
    /// When it ceases to exist.
    pub expire_at: Option<UnixMillis>,
    /// The write that made it.
    pub sequence: Option<Sequence>,
}

/// One key of an engine, snapshot or transaction; checks what the report says against the visits.
pub fn read_entry(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    key: &[u8],
) -> Option<FoundEntry> {
    try_read_entry(world, reader, keyspace, key).unwrap_or_else(|error| panic!("get: {error}"))
}

/// [`read_entry`] that hands errors on.
pub fn try_read_entry(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    key: &[u8],
) -> Result<Option<FoundEntry>> {
    let mut found = None;
    let mut visits = 0;
    let mut visit = |entry: Entry<'_>| {
        visits += 1;
        found = Some(FoundEntry {
            value: entry.value.to_vec(),
            expire_at: entry.expire_at,
            sequence: entry.sequence,
        });
    };
    let seen = world.wait(reader.get_with(keyspace, key, &ReadOptions::default(), &mut visit))?;
    assert!(visits <= 1, "a visitor runs at most once per key, here {visits} times");
    assert_eq!(seen.found, visits, "found counts the visits");
    Ok(found)
}

/// Several keys of a reader, in their order.
pub fn read_many(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    keys: &[&[u8]],
) -> Vec<Option<Vec<u8>>> {
    let mut found = vec![None; keys.len()];
    let mut visit = |index: usize, entry: Entry<'_>| {
        assert_eq!(found[index], None, "a visitor runs at most once per key");
        found[index] = Some(entry.value.to_vec());
    };
    let op = reader.get_many_with(keyspace, keys, &ReadOptions::default(), &mut visit);
    let seen = world.wait(op).unwrap_or_else(|error| panic!("get_many: {error}"));
    assert_eq!(seen.found, found.iter().flatten().count(), "found counts the visits");
    found
}

/// Everything a sweep of a quiet reader finds. A key visited twice must have one value.
pub fn sweep_all(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    budget: usize,
) -> Contents {
    try_sweep_all(world, reader, keyspace, budget).unwrap_or_else(|error| panic!("sweep: {error}"))
}

/// [`sweep_all`] that hands errors on.
pub fn try_sweep_all(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    budget: usize,
) -> Result<Contents> {
    let mut contents = Contents::new();
    let mut cursor = SweepCursor::start();
    for _ in 0..SWEEP_STEPS_MAX {
        let mut visits = 0;
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            visits += 1;
            let old = contents.insert(key.to_vec(), entry.value.to_vec());
            assert!(old.is_none_or(|old| old == entry.value), "a quiet sweep saw two values");
        };
        let op = reader.sweep(keyspace, &cursor, budget, &ReadOptions::default(), &mut visit);
        let swept = world.wait(op)?;
        assert_eq!(swept.visited, visits, "visited counts the visits");
        match swept.next {
            Some(next) => cursor = next,
            None => return Ok(contents),
        }
    }
    panic!("a sweep does not end");
}

/// Everything in a range of a reader, in chunks; checks order, bounds and the report.
pub fn scan_all(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    range: &KeyRange,
    direction: Direction,
    entries: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    try_scan_all(world, reader, keyspace, range, direction, entries)
        .unwrap_or_else(|error| panic!("scan: {error}"))
}

/// [`scan_all`] that hands errors on.
pub fn try_scan_all(
    world: &World,
    reader: &(impl KvRead + ?Sized),
    keyspace: KeyspaceId,
    range: &KeyRange,
    direction: Direction,
    entries: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let ordered = reader.as_ordered().expect("the engine is ordered");
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut rest = Some(range.clone());
    while let Some(part) = rest {
        let before = all.len();
        let mut visit = |key: &[u8], entry: Entry<'_>| {
            assert!(part.contains(key), "{key:?} lies outside {part:?}");
            if let Some((last, _)) = all.last() {
                let in_order = match direction {
                    Direction::Forward => last.as_slice() < key,
                    Direction::Backward => last.as_slice() > key,
                };
                assert!(in_order, "{key:?} after {last:?}, {direction:?}");
            }
            all.push((key.to_vec(), entry.value.to_vec()));
        };
        let limits = ScanLimits::entries(entries);
        let options = ReadOptions::default();
        let op = ordered.scan_with(keyspace, &part, direction, limits, &options, &mut visit);
        let scanned = world.wait(op)?;
        let visited = all.len() - before;
        assert_eq!(scanned.visited, visited, "visited counts the visits");
        assert!(visited <= entries, "a chunk of {entries} held {visited}");
        assert!(scanned.rest.is_none() || visited > 0, "a chunk makes progress");
        rest = scanned.rest;
    }
    Ok(all)
}

/// Polls an operation once, without a waker.
pub fn poll_once<T>(op: &mut Op<'_, T>) -> Poll<Result<T>> {
    Pin::new(op).poll(&mut Context::from_waker(Waker::noop()))
}

/// Fails unless `result` is an error of this kind.
#[track_caller]
pub fn expect_error<T>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("expected {kind:?}, got a success"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!error.operation().is_empty(), "an error names its operation");
            error
        }
    }
}

/// Key number `n`, in order of the numbers.
pub fn key(n: usize) -> Vec<u8> {
    format!("key-{n:06}").into_bytes()
}

/// A value that says which write made it, of `len` bytes at least.
pub fn value(n: usize, len: usize) -> Vec<u8> {
    let mut value = format!("value-{n}-").into_bytes();
    while value.len() < len {
        value.push(b'a' + (n % 26) as u8);
    }
    value
}

/// The number in a [`value`]; fails the case if the value is torn.
#[track_caller]
pub fn value_number(bytes: &[u8]) -> usize {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("a torn value: {bytes:?}"));
    let rest = text.strip_prefix("value-").unwrap_or_else(|| panic!("a torn value: {text}"));
    let (number, _) = rest.split_once('-').unwrap_or_else(|| panic!("a torn value: {text}"));
    let number = number.parse().unwrap_or_else(|_| panic!("a torn value: {text}"));
    assert_eq!(value(number, bytes.len()), bytes, "a torn value");
    number
}
