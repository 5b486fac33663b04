//! The workloads that open an engine: how long until the first read after an orderly close, or
//! after `kill -9`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrokit_engine::{Durability, Env, Error, Result, WriteOptions, block_on};

use super::verify::get;
use super::{Run, Timed, histogram_error, operation, os_error, sync};
use crate::dataset::KEY_BYTES;
use crate::measurement::{Latency, Measurement, latency_curve};
use crate::plan::Plan;
use crate::stream::Stream;
use crate::subject::{Adapter, Subject};
use crate::usage::{Usage, disk_bytes};

/// How many times an engine is opened, at most.
const OPENINGS_MAX: u64 = 10;
/// The line with which the process that is to be killed says that it is.
const READY: &str = "ready to be killed";

/// Opens what was loaded, again and again.
pub(super) fn run(
    env: &Env,
    plan: &Plan,
    after_crash: bool,
    open: impl Fn() -> Result<Subject>,
) -> Result<Measurement> {
    let stream = Stream::generate(plan)?;
    if !after_crash {
        let subject = open()?;
        refuse_volatile(&subject)?;
        load(env, plan, &stream, &subject)?;
        sync(&*subject.engine)?;
        subject.engine.close().wait()?;
    }
    let before_opening = Usage::now()?;
    let clock = &*env.clock;
    let mut timed = Timed::new(Duration::ZERO)?;
    let mut elapsed = Duration::ZERO;
    let mut last = None;
    let openings = plan.operations.min(OPENINGS_MAX);
    let (mut value, mut room) = (Vec::new(), [0; KEY_BYTES]);
    let mut cpu_s = 0.0;
    for number in 0..openings {
        if after_crash {
            load_and_kill(plan)?;
        }
        let item = crate::dataset::mix(number) % stream.loaded.max(1);
        let key = stream.item_key(item, &mut room);
        let before = Usage::now()?;
        let begin = clock.monotonic();
        let subject = open()?;
        value.clear();
        let is_there = get(&*subject.engine, key, &mut value)?;
        let took = clock.monotonic().saturating_sub(begin);
        cpu_s += Usage::now()?.cpu_s - before.cpu_s;
        if !is_there {
            return Err(operation::wrong(key, "a key is lost by closing or killing"));
        }
        stream.dataset.check_value(item, &value).map_err(|what| operation::wrong(key, what))?;
        timed.record(false, 1, took);
        elapsed += took;
        last = Some(subject);
        if let (false, Some(subject)) = (after_crash && number + 1 == openings, &last) {
            subject.engine.close().wait()?;
        }
    }
    let subject = last.ok_or_else(|| Error::invalid("bench", "the engine was never opened"))?;
    let after = Usage::now()?;
    let disk_bytes = disk_bytes(std::path::Path::new(&plan.directory)).map_err(os_error)?;
    let live_bytes = match after_crash {
        true => super::verify::verify(&subject, plan, &stream)?,
        false => {
            let subject = open()?;
            let live_bytes = super::verify::verify(&subject, plan, &stream)?;
            subject.engine.close().wait()?;
            live_bytes
        }
    };
    subject.engine.close().wait()?;
    timed.reads.add(&timed.writes).map_err(histogram_error)?;
    Ok(Measurement {
        settings: subject.settings,
        operations: openings,
        elapsed_s: elapsed.as_secs_f64(),
        ops_per_s: openings as f64 / elapsed.as_secs_f64().max(1e-9),
        latency_ns: Latency::of(&timed.reads)
            .ok_or_else(|| Error::invalid("bench", "the engine was never opened"))?,
        read_latency_ns: None,
        write_latency_ns: None,
        latency_curve: latency_curve(&timed.reads),
        cpu_s,
        settle_cpu_s: 0.0,
        rss_bytes: after.rss_bytes.saturating_sub(before_opening.rss_bytes),
        anonymous_bytes: after.anonymous_bytes.saturating_sub(before_opening.anonymous_bytes),
        file_mapped_bytes: after.file_mapped_bytes.saturating_sub(before_opening.file_mapped_bytes),
        disk_bytes,
        live_bytes,
        written_bytes: after.written_bytes.saturating_sub(before_opening.written_bytes),
        read_bytes: after.read_bytes.saturating_sub(before_opening.read_bytes),
        user_bytes: 0,
        errors: 0,
        samples: Vec::new(),
    })
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
    let durability = plan.durability.durability().max(Durability::Os);
    run.load_with(plan.threads, &WriteOptions::with_durability(durability))
}

/// Loads in a process of its own, which is killed when it has.
fn load_and_kill(plan: &Plan) -> Result<()> {
    let failed = |error| Error::io("bench.open_crash", error);
    let program = std::env::current_exe().map_err(failed)?;
    let plan_text = serde_json::to_string(plan)
        .map_err(|error| Error::invalid("bench.open_crash", "no JSON").with_source(error))?;
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
    let killed = child.kill();
    child.wait().map_err(failed)?;
    killed.map_err(failed)?;
    match line.trim() {
        READY => Ok(()),
        "" => Err(Error::invalid("bench.open_crash", "the process that loads failed; see above")),
        reason => Err(Error::unsupported("bench.open_crash", reason.to_owned())),
    }
}

/// What the process that is to be killed does: loads, says so, and waits for its end.
///
/// # Errors
/// As [`measure`](super::measure).
pub fn load_and_wait(adapters: &[Adapter], plan: &Plan) -> Result<()> {
    let host = ferrokit_storage::Host::system(ferrokit_storage::IoBackend::Auto)?;
    let settings = crate::subject::SubjectSettings {
        directory: plan.directory.clone(),
        memory_bytes: plan.memory_bytes,
        durability: plan.durability.durability().max(Durability::Os),
    };
    let subject = crate::subject::open(&host, adapters, &plan.engine, &settings)?;
    if let Err(error) = refuse_volatile(&subject) {
        println!("{error}");
        return Ok(());
    }
    let stream = Stream::generate(plan)?;
    load(&host.env, plan, &stream, &subject)?;
    println!("{READY}");
    // The end of standard input is never seen: the parent kills this process.
    loop {
        block_on(host.env.timer.sleep(Duration::from_secs(3600)));
    }
}
