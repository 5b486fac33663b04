//! The workloads that open an engine: how long until the first read after an orderly close, or
//! after `kill -9`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrokit_engine::{Durability, Env, Error, Result, WriteOptions, block_on};
use ferrokit_storage::Fs;

use super::verify::get;
use super::{Run, Timed, operation, os_error, sync};
use crate::dataset::KEY_BYTES;
use crate::measurement::{Latency, Measurement, latency_curve};
use crate::plan::Plan;
use crate::stream::Stream;
use crate::subject::{Adapter, Subject};
use crate::usage::{Usage, disk_bytes};
use crate::workload::Shape;

/// The line with which the process that loads says that it has.
const READY: &str = "ready";

/// Opens what another process loaded, again and again. The engine of one opening is gone before the
/// next one; after a crash, the next one starts from an empty directory, too, or it would open what
/// all those before have left.
pub(super) fn run(
    env: &Env,
    fs: &dyn Fs,
    plan: &Plan,
    after_crash: bool,
    open: impl Fn() -> Result<Subject>,
) -> Result<Measurement> {
    let stream = Stream::generate(plan)?;
    if !after_crash {
        load_elsewhere(plan)?;
    }
    let mut all = Openings::new()?;
    let mut opened: Option<Subject> = None;
    for number in 0..plan.operations {
        if let Some(subject) = opened.take() {
            subject.engine.close().wait()?;
        }
        if after_crash {
            fs.remove_dir_all(&plan.directory)?;
            fs.create_dir_all(&plan.directory)?;
            load_elsewhere(plan)?;
        }
        opened = Some(all.measure(env, &stream, number, &open)?);
    }
    let subject = opened.ok_or_else(never_opened)?;
    let disk_bytes = disk_bytes(std::path::Path::new(&plan.directory)).map_err(os_error)?;
    let live_bytes = super::verify::verify(&subject, plan, &stream)?;
    subject.engine.close().wait()?;
    let Openings { timed, elapsed, cost, .. } = all;
    let elapsed_s = elapsed.as_secs_f64();
    let operations = timed.reads.len();
    Ok(Measurement {
        settings: subject.settings,
        operations,
        elapsed_s,
        ops_per_s: operations as f64 / elapsed_s.max(1e-9),
        latency_ns: Latency::of(&timed.reads).ok_or_else(never_opened)?,
        read_latency_ns: None,
        write_latency_ns: None,
        latency_curve: latency_curve(&timed.reads),
        cpu_s: cost.cpu_s,
        settle_cpu_s: 0.0,
        rss_bytes: cost.rss_bytes,
        anonymous_bytes: cost.anonymous_bytes,
        file_mapped_bytes: cost.file_mapped_bytes,
        disk_bytes,
        live_bytes,
        written_bytes: cost.written_bytes,
        read_bytes: cost.read_bytes,
        user_bytes: 0,
        errors: 0,
        samples: Vec::new(),
    })
}

fn never_opened() -> Error {
    Error::invalid("bench", "the engine was never opened")
}

/// What all openings took and cost.
struct Openings {
    timed: Timed,
    elapsed: Duration,
    /// Before the first.
    at_first: Usage,
    /// Processor time and bytes of all of them, memory after the last one.
    cost: Usage,
}

impl Openings {
    fn new() -> Result<Self> {
        let timed = Timed::new(Duration::ZERO)?;
        let (at_first, cost) = (Usage::now()?, Usage::default());
        Ok(Self { timed, elapsed: Duration::ZERO, at_first, cost })
    }

    /// Opens once, and reads a key.
    fn measure(
        &mut self,
        env: &Env,
        stream: &Stream,
        number: u64,
        open: &impl Fn() -> Result<Subject>,
    ) -> Result<Subject> {
        let (mut value, mut room) = (Vec::new(), [0; KEY_BYTES]);
        let item = crate::dataset::mix(number) % stream.loaded.max(1);
        let key = stream.item_key(item, &mut room);
        let before = Usage::now()?;
        let begin = env.clock.monotonic();
        let subject = open()?;
        let is_there = get(&*subject.engine, key, &mut value)?;
        let took = env.clock.monotonic().saturating_sub(begin);
        let after = Usage::now()?;
        if !is_there {
            return Err(operation::wrong(key, "a key is lost by closing or killing"));
        }
        stream.dataset.check_value(item, &value).map_err(|what| operation::wrong(key, what))?;
        self.timed.record(false, 1, took);
        self.elapsed += took;
        let (cost, at_first) = (&mut self.cost, self.at_first);
        cost.cpu_s += after.cpu_s - before.cpu_s;
        cost.written_bytes += after.written_bytes.saturating_sub(before.written_bytes);
        cost.read_bytes += after.read_bytes.saturating_sub(before.read_bytes);
        cost.rss_bytes = after.rss_bytes.saturating_sub(at_first.rss_bytes);
        cost.anonymous_bytes = after.anonymous_bytes.saturating_sub(at_first.anonymous_bytes);
        cost.file_mapped_bytes = after.file_mapped_bytes.saturating_sub(at_first.file_mapped_bytes);
        Ok(subject)
    }
}

fn refuse_volatile(subject: &Subject) -> Result<()> {
    if subject.engine.capabilities().strongest_durability == Durability::Memory {
        return Err(Error::unsupported("bench", "the engine keeps nothing to be opened again"));
    }
    Ok(())
}

/// Puts the records in, at a durability that survives the process.
fn load(env: &Env, plan: &Plan, stream: &Stream, subject: &Subject) -> Result<()> {
    let run = Run {
        clock: env.clock.as_ref(),
        timer: &*env.timer,
        durability: plan.durability.durability(),
        engine: &*subject.engine,
        stream,
    };
    run.load_with(plan.threads, &WriteOptions::with_durability(plan.durability.durability()))
}

/// Loads in a process of its own, so that this one has no page and no heap of it; that process closes
/// the engine and ends, or is killed with the engine open, as the workload says.
fn load_elsewhere(plan: &Plan) -> Result<()> {
    let failed = |error| Error::io("bench.open", error);
    let program = std::env::current_exe().map_err(failed)?;
    let plan_text = serde_json::to_string(plan)
        .map_err(|error| Error::invalid("bench.open", "no JSON").with_source(error))?;
    let mut child = Command::new(program)
        .arg("load")
        .arg(plan_text)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output.take(4096)).read_line(&mut line).map_err(failed)?;
    }
    // One that is to be killed waits for that; one that closed has nothing left to do. Either way
    // its directory is released when it is gone.
    let killed = child.kill();
    child.wait().map_err(failed)?;
    killed.map_err(failed)?;
    match line.trim() {
        READY => Ok(()),
        "" => Err(Error::invalid("bench.open", "the process that loads failed; see above")),
        reason => Err(Error::unsupported("bench.open", reason.to_owned())),
    }
}

/// What the process that loads does: loads, closes if that is what the workload is about, says so, and
/// waits to be killed otherwise.
///
/// # Errors
/// As [`measure`](super::measure).
pub fn load_and_wait(adapters: &[Adapter], plan: &Plan) -> Result<()> {
    let host = ferrokit_storage::Host::system(ferrokit_storage::IoBackend::Auto)?;
    let settings = crate::subject::SubjectSettings {
        directory: plan.directory.clone(),
        memory_bytes: plan.memory_bytes,
        durability: plan.durability.durability(),
    };
    let subject = crate::subject::open(&host, adapters, &plan.engine, &settings)?;
    if let Err(error) = refuse_volatile(&subject) {
        println!("{error}");
        return Ok(());
    }
    let stream = Stream::generate(plan)?;
    load(&host.env, plan, &stream, &subject)?;
    if plan.workload.profile().shape == (Shape::Open { after_crash: false }) {
        sync(&*subject.engine)?;
        subject.engine.close().wait()?;
        drop(subject);
        println!("{READY}");
        return Ok(());
    }
    println!("{READY}");
    // The end of standard input is never seen: the parent kills this process.
    loop {
        block_on(host.env.timer.sleep(Duration::from_secs(3600)));
    }
}
