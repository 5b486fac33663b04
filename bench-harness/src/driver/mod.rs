//! Runs one workload on one engine, and checks every answer.
//!
//! | module | subject |
//! |---|---|
//! | `operation` | one operation on an engine, and the check of its answer |
//! | `callers` | threads and tasks that do a stream's operations, closed or open loop |
//! | `opening` | the workloads that open an engine |
//! | `verify` | what an engine must hold after a run |
//!
//! Data and operations are made before the timed part; within it a thread copies the value of a
//! write together, compares the value of a read, and reads the clock once per operation.

mod callers;
mod opening;
mod operation;
mod verify;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use ferrokit_engine::{Clock, Durability, Env, Error, ErrorKind, KvEngine, Result, block_on};
use ferrokit_storage::{Host, IoBackend};
use hdrhistogram::Histogram;

use crate::cgroup;
use crate::measurement::{Latency, Measurement, Outcome, latency_curve};
use crate::plan::Plan;
use crate::sampler::{Progress, Sampler};
use crate::stream::Stream;
use crate::subject::{self, Adapter, Subject, SubjectSettings};
use crate::usage::{Usage, disk_bytes, flush_files};
use crate::workload::Shape;

pub use opening::load_and_wait;

/// The longest latency told apart, an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Two significant digits: within 1 %.
const LATENCY_DIGITS: u8 = 2;
/// An engine counts as settled when it used less than this share of a core and wrote less than this ...
const SETTLED_CPU_SHARE: f64 = 0.02;
const SETTLED_WRITTEN_BYTES: u64 = 64 << 10;
/// ... so many looks in a row ...
const SETTLED_LOOKS: u32 = 3;
/// ... at this distance; after the last of which it is not waited for any longer.
const SETTLE_LOOK_EVERY: Duration = Duration::from_millis(100);
const SETTLE_LOOKS_MAX: u32 = 600;

/// Carries a plan out in this process.
///
/// # Errors
/// `InvalidArgument` for a bad plan, or if the engine's URL is refused; `Corruption` for a wrong
/// answer. What else an engine cannot do, or fails in, is an outcome.
pub fn measure(adapters: &[Adapter], plan: &Plan) -> Result<Outcome> {
    plan.check()?;
    let host = Host::system(IoBackend::Auto)?;
    host.fs.create_dir_all(&plan.directory)?;
    let settings = SubjectSettings {
        directory: plan.directory.clone(),
        memory_bytes: plan.memory_bytes,
        durability: plan.durability.durability(),
    };
    let is_refused = Cell::new(false);
    let open = || {
        let opened = subject::open(&host, adapters, &plan.engine, &settings);
        let is_invalid = |error: &Error| error.kind() == ErrorKind::InvalidArgument;
        is_refused.set(opened.as_ref().is_err_and(is_invalid));
        opened
    };
    let result = match plan.workload.profile().shape {
        Shape::Open { after_crash } => opening::run(&host.env, &*host.fs, plan, after_crash, open),
        _ => run(&host.env, plan, open),
    };
    match result {
        Ok(measurement) => Ok(Outcome::Measured(Box::new(measurement))),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(Outcome::Unsupported { reason: error.to_string() })
        }
        Err(error) if error.kind() == ErrorKind::Corruption || is_refused.get() => Err(error),
        Err(error) => Ok(Outcome::Failed { reason: error.to_string() }),
    }
}

/// Carries a plan out on the engine that `open` opens.
///
/// # Errors
/// `Unsupported` if the engine cannot do the workload; otherwise as [`measure`].
pub fn run(env: &Env, plan: &Plan, open: impl FnOnce() -> Result<Subject>) -> Result<Measurement> {
    plan.check()?;
    let stream = Stream::generate(plan)?;
    if let Some(group) = &plan.memory_group {
        // Behind the stream, whose memory is not the engine's.
        cgroup::join(group)?;
    }
    let before_opening = Usage::now()?;
    let subject = open()?;
    check_abilities(plan, &*subject.engine)?;
    let run = Run {
        clock: env.clock.as_ref(),
        timer: &*env.timer,
        durability: plan.durability.durability(),
        engine: &*subject.engine,
        stream: &stream,
    };
    run.load(plan.threads)?;
    sync(&*subject.engine)?;
    run.settle()?;
    run.warm_up(plan)?;
    // The kernel counts a byte as written when it makes a page dirty. Pages that the load left dirty
    // would be written again for nothing.
    flush_files(Path::new(&plan.directory)).map_err(os_error)?;

    let progress = Progress::new(plan.threads);
    let sampler = Sampler::start(env, &progress)?;
    let before = Usage::now()?;
    let mut timed = run.timed(plan, &progress)?;
    let after = Usage::now()?;
    let samples = sampler.finish(timed.elapsed())?;

    sync(&*subject.engine)?;
    run.settle()?;
    let settled = Usage::now()?;
    let disk_bytes = disk_bytes(Path::new(&plan.directory)).map_err(os_error)?;
    run.wait_for_expiry()?;
    let live_bytes = verify::verify(&subject, plan, &stream)?;
    subject.engine.close().wait()?;

    let (read_latency, write_latency) = (Latency::of(&timed.reads), Latency::of(&timed.writes));
    timed.reads.add(&timed.writes).map_err(histogram_error)?;
    let elapsed_s = timed.elapsed().as_secs_f64();
    let operations = stream.operations();
    Ok(Measurement {
        settings: subject.settings,
        operations,
        elapsed_s,
        ops_per_s: operations as f64 / elapsed_s.max(1e-9),
        latency_ns: Latency::of(&timed.reads)
            .ok_or_else(|| Error::invalid("bench", "the run has no operations"))?,
        read_latency_ns: read_latency,
        write_latency_ns: write_latency,
        latency_curve: latency_curve(&timed.reads),
        cpu_s: after.cpu_s - before.cpu_s,
        settle_cpu_s: settled.cpu_s - after.cpu_s,
        rss_bytes: after.rss_bytes.saturating_sub(before_opening.rss_bytes),
        anonymous_bytes: after.anonymous_bytes.saturating_sub(before_opening.anonymous_bytes),
        file_mapped_bytes: after.file_mapped_bytes.saturating_sub(before_opening.file_mapped_bytes),
        disk_bytes,
        live_bytes,
        written_bytes: settled.written_bytes.saturating_sub(before.written_bytes),
        read_bytes: after.read_bytes.saturating_sub(before.read_bytes),
        user_bytes: stream.user_bytes(),
        errors: 0,
        samples,
    })
}

/// Refuses before the load what the engine cannot do.
fn check_abilities(plan: &Plan, engine: &dyn KvEngine) -> Result<()> {
    if plan.workload.scans() && engine.as_ordered().is_none() {
        return Err(Error::unsupported("bench", "the engine keeps its keys in no order"));
    }
    engine.capabilities().check_durability("bench", plan.durability.durability())
}

/// Makes durable what the engine can.
fn sync(engine: &dyn KvEngine) -> Result<()> {
    engine.sync(engine.capabilities().strongest_durability).wait()
}

/// A run under way.
struct Run<'a> {
    clock: &'a dyn Clock,
    timer: &'a dyn ferrokit_engine::Timer,
    durability: Durability,
    engine: &'a dyn KvEngine,
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
        Ok(Self { begin, end: begin, reads: histogram()?, writes: histogram()? })
    }

    fn elapsed(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    #[inline]
    fn record(&mut self, writes: bool, operations: u64, latency: Duration) {
        let histogram = if writes { &mut self.writes } else { &mut self.reads };
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        // Each operation of a group took as long as the group.
        let value = nanoseconds.clamp(1, LATENCY_NS_MAX);
        if operations == 1 {
            histogram.saturating_record(value);
        } else {
            // In range, as just seen to.
            let _ = histogram.record_n(value, operations);
        }
    }

    fn join(mut self, other: &Self) -> Result<Self> {
        self.begin = self.begin.min(other.begin);
        self.end = self.end.max(other.end);
        self.reads.add(&other.reads).map_err(histogram_error)?;
        self.writes.add(&other.writes).map_err(histogram_error)?;
        Ok(self)
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).map_err(histogram_error)
}

impl Run<'_> {
    /// Waits until the engine's background work is done, for a minute at most.
    fn settle(&self) -> Result<()> {
        let mut quiet = 0;
        // Without the looks themselves, which cost this thread milliseconds each.
        let others_cpu_s =
            |usage: &Usage| -> Result<f64> { Ok(usage.cpu_s - Usage::thread_cpu_s()?) };
        let mut before = Usage::now()?;
        let mut cpu_before = others_cpu_s(&before)?;
        for _ in 0..SETTLE_LOOKS_MAX {
            block_on(self.timer.sleep(SETTLE_LOOK_EVERY));
            let now = Usage::now()?;
            let cpu = others_cpu_s(&now)?;
            let share = (cpu - cpu_before) / SETTLE_LOOK_EVERY.as_secs_f64();
            let written = now.written_bytes.saturating_sub(before.written_bytes);
            let is_quiet = share < SETTLED_CPU_SHARE && written < SETTLED_WRITTEN_BYTES;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == SETTLED_LOOKS {
                break;
            }
            (before, cpu_before) = (now, cpu);
        }
        Ok(())
    }

    /// Waits until every entry with an expiry has expired.
    fn wait_for_expiry(&self) -> Result<()> {
        if self.stream.expires() {
            block_on(self.timer.sleep(operation::LIFE_MAX));
        }
        Ok(())
    }
}

fn os_error(error: std::io::Error) -> Error {
    Error::io("bench.usage", error)
}

fn histogram_error(error: impl std::fmt::Debug) -> Error {
    Error::invalid("bench.histogram", format!("{error:?}"))
}
