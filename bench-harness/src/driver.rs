//! Runs one workload on one store, and checks every answer.
//!
//! Closed loop: a thread begins an operation when its last one is done. Data and operations are
//! made before the timed part; within it a thread copies the value of a write together, compares
//! the value of a read, and reads the clock once per operation.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferrokit_engine::{Clock, Durability, EngineUrl, Env, Error, ErrorKind, Result};
use ferrokit_storage::{Host, IoBackend};
use hdrhistogram::Histogram;

use crate::dataset::{KEY_BYTES, Stamp};
use crate::engine_store::EngineStore;
use crate::measurement::{Latency, Measurement, Outcome, Plan};
use crate::store::{Adapter, Store, StoreSettings};
use crate::stream::{Operation, Stream};
use crate::usage::{CpuTime, disk_bytes, resident_bytes};
use crate::verify::{verify, wrong};
use crate::workload::Kind;

/// The longest latency told apart, an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Two significant digits: within 1 %.
const LATENCY_DIGITS: u8 = 2;

/// Carries a plan out in this process, with one of `adapters` or, if none has the engine's name, a
/// ferrokit engine.
///
/// # Errors
/// `InvalidArgument` for a bad plan, `Corruption` for a wrong answer; those of the store, but for
/// `Unsupported`, which is an outcome.
pub fn measure(adapters: &[Adapter], plan: &Plan) -> Result<Outcome> {
    plan.check()?;
    let host = Host::system(IoBackend::Auto)?;
    host.fs.create_dir_all(&plan.directory)?;
    let settings = StoreSettings {
        directory: plan.directory.clone(),
        memory_bytes: plan.memory_bytes,
        durability: plan.durability.durability(),
    };
    let url = EngineUrl::parse(&plan.engine)?;
    let open = || -> Result<Box<dyn Store>> {
        match adapters.iter().find(|adapter| adapter.name == url.engine()) {
            Some(adapter) => (adapter.open)(&url, &settings),
            None => Ok(Box::new(EngineStore::open(&host, &plan.engine, &settings)?)),
        }
    };
    match run(&host.env, plan, open) {
        Ok(measurement) => Ok(Outcome::Measured(measurement)),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(Outcome::Unsupported { reason: error.to_string() })
        }
        Err(error) => Err(error),
    }
}

/// Carries a plan out on the store that `open` opens.
///
/// # Errors
/// `Unsupported` if the store cannot do the workload; otherwise as [`measure`].
pub fn run(
    env: &Env,
    plan: &Plan,
    open: impl FnOnce() -> Result<Box<dyn Store>>,
) -> Result<Measurement> {
    plan.check()?;
    let stream = Stream::generate(plan);
    let resident_before = resident_bytes().map_err(os_error)?;
    let store = open()?;
    let store = store.as_ref();
    if plan.workload.scans() && !store.supports_scan() {
        return Err(Error::unsupported("bench", "the store keeps its keys in no order"));
    }
    let run = Run {
        clock: env.clock.as_ref(),
        durability: plan.durability.durability(),
        store,
        stream: &stream,
    };
    run.load(plan.threads)?;
    store.flush()?;

    let cpu_before = CpuTime::of_process().map_err(os_error)?;
    let mut timed = run.timed()?;
    let cpu = CpuTime::of_process().map_err(os_error)?.since(cpu_before);

    let resident_after = resident_bytes().map_err(os_error)?;
    store.flush()?;
    let disk_bytes = disk_bytes(Path::new(&plan.directory)).map_err(os_error)?;
    let live = verify(store, &stream)?;
    let settings = store.settings();
    store.close()?;

    let operations = stream.operations();
    let elapsed_s = timed.elapsed().as_secs_f64();
    let read_latency = Latency::of(&timed.reads);
    let write_latency = Latency::of(&timed.writes);
    timed.reads.add(&timed.writes).map_err(histogram_error)?;
    Ok(Measurement {
        settings,
        operations,
        elapsed_s,
        operations_per_s: operations as f64 / elapsed_s.max(1e-9),
        latency: Latency::of(&timed.reads)
            .ok_or_else(|| Error::invalid("bench", "the run has no operations"))?,
        read_latency,
        write_latency,
        cpu,
        resident_bytes: resident_after.saturating_sub(resident_before),
        disk_bytes,
        live_bytes: live * (KEY_BYTES + plan.value_bytes) as u64,
    })
}

struct Run<'a> {
    clock: &'a dyn Clock,
    durability: Durability,
    store: &'a dyn Store,
    stream: &'a Stream,
}

/// What a thread, or all of them, did in the timed part.
struct Timed {
    begin: Duration,
    end: Duration,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
}

impl Timed {
    fn new(begin: Duration) -> Result<Self> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).map_err(histogram_error)
        };
        Ok(Self { begin, end: begin, reads: histogram()?, writes: histogram()? })
    }

    fn elapsed(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    fn join(mut self, other: &Self) -> Result<Self> {
        self.begin = self.begin.min(other.begin);
        self.end = self.end.max(other.end);
        self.reads.add(&other.reads).map_err(histogram_error)?;
        self.writes.add(&other.writes).map_err(histogram_error)?;
        Ok(self)
    }
}

impl Run<'_> {
    /// Puts the loaded records in, in the order of their items.
    fn load(&self, threads: usize) -> Result<()> {
        self.on_threads(threads, |thread, stop| {
            let mut value = Vec::new();
            for item in (thread as u64..self.stream.loaded).step_by(threads) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                self.stream.dataset.write_value(item, Stamp::LOADED, &mut value);
                self.store.put(&self.stream.dataset.key(item), &value, Durability::Memory)?;
            }
            Ok(())
        })
        .map(drop)
    }

    fn timed(&self) -> Result<Timed> {
        let barrier = Barrier::new(self.stream.threads.len());
        let parts = self.on_threads(self.stream.threads.len(), |thread, stop| {
            barrier.wait();
            self.timed_thread(thread, stop)
        })?;
        let mut parts = parts.into_iter();
        let first = parts.next().ok_or_else(|| Error::invalid("bench", "no threads"))?;
        parts.try_fold(first, |all, part| all.join(&part))
    }

    /// Runs `body` on each of `threads` threads; the first error stops the others.
    fn on_threads<T: Send>(
        &self,
        threads: usize,
        body: impl Fn(usize, &AtomicBool) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let stop = AtomicBool::new(false);
        let (body, stop) = (&body, &stop);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        let result = body(thread, stop);
                        if result.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        result
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| match handle.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }

    fn timed_thread(&self, thread: usize, stop: &AtomicBool) -> Result<Timed> {
        let mut buffer = Vec::new();
        let mut timed = Timed::new(self.clock.monotonic())?;
        let operations = self.stream.threads.get(thread).map_or(&[][..], Vec::as_slice);
        for (index, operation) in operations.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.step(operation, Stamp::of(thread, index), &mut buffer)?;
            let now = self.clock.monotonic();
            let latency_ns = now.saturating_sub(timed.end).as_nanos() as u64;
            timed.end = now;
            if operation.kind.writes() {
                timed.writes.saturating_record(latency_ns);
            } else {
                timed.reads.saturating_record(latency_ns);
            }
        }
        Ok(timed)
    }

    #[inline]
    fn step(&self, operation: &Operation, stamp: Stamp, buffer: &mut Vec<u8>) -> Result<()> {
        let dataset = &self.stream.dataset;
        let key = &operation.key;
        let item = u64::from(operation.item);
        match operation.kind {
            Kind::Read => {
                buffer.clear();
                if !self.store.get_into(key, buffer)? {
                    return Err(wrong(key, "a key that is there was not found"));
                }
                dataset.check_value(item, buffer).map_err(|what| wrong(key, what))?;
                Ok(())
            }
            Kind::ReadMiss => {
                buffer.clear();
                if self.store.get_into(key, buffer)? {
                    return Err(wrong(key, "a key that was never written was found"));
                }
                Ok(())
            }
            Kind::Update | Kind::Insert => {
                dataset.write_value(item, stamp, buffer);
                self.store.put(key, buffer, self.durability)
            }
            Kind::ReadModifyWrite => self.read_modify_write(operation),
            Kind::Scan => self.scan(operation),
            Kind::Delete => self.store.delete(key, self.durability),
        }
    }

    fn read_modify_write(&self, operation: &Operation) -> Result<()> {
        let dataset = &self.stream.dataset;
        let mut seen = Ok(());
        let mut change = |old: &[u8], new: &mut Vec<u8>| {
            seen = dataset.check_value(u64::from(operation.item), old).map(drop);
            dataset.write_counted(old, new);
        };
        if !self.store.rmw(&operation.key, self.durability, &mut change)? {
            return Err(wrong(&operation.key, "a key that is there was not found to be changed"));
        }
        seen.map_err(|what| wrong(&operation.key, what))
    }

    /// No loaded key from the start on may be left out; inserted ones may lie between.
    fn scan(&self, operation: &Operation) -> Result<()> {
        let stream = self.stream;
        let wanted = usize::from(operation.scan_entries);
        let mut rank = operation.item as usize;
        let mut visited = 0;
        let mut last = None;
        let mut problem = None;
        let mut visit = |key: &[u8], value: &[u8]| {
            visited += 1;
            let checked = stream
                .dataset
                .item_of(key)
                .filter(|&item| item < stream.item_limit)
                .ok_or("a scan showed a key that was never written")
                .and_then(|item| {
                    if item < stream.loaded {
                        if stream.sorted.get(rank).map(|&next| u64::from(next)) != Some(item) {
                            return Err("a scan left out a key, or showed it out of order");
                        }
                        rank += 1;
                    }
                    if last.is_some_and(|last| last >= key_number(key)) {
                        return Err("a scan went backwards");
                    }
                    last = Some(key_number(key));
                    stream.dataset.check_value(item, value).map(drop)
                });
            if let (Err(what), None) = (checked, problem) {
                problem = Some(what);
            }
        };
        self.store.scan(&operation.key, wanted, &mut visit)?;
        if visited > wanted || (visited < wanted && rank < stream.sorted.len()) {
            problem = problem.or(Some("a scan showed another number of entries"));
        }
        match problem {
            Some(what) => Err(wrong(&operation.key, what)),
            None => Ok(()),
        }
    }
}

/// The key as a number of the same order.
fn key_number(key: &[u8]) -> u128 {
    key.first_chunk::<KEY_BYTES>().map_or(0, |key| u128::from_be_bytes(*key))
}

fn os_error(error: std::io::Error) -> Error {
    Error::io("bench.usage", error)
}

fn histogram_error(error: impl std::fmt::Debug) -> Error {
    Error::invalid("bench.histogram", format!("{error:?}"))
}
