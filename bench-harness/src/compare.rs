//! Interleaved rounds: A, B, C, A, B, C, ... of the same plan, each run in a process of its own and
//! a fresh directory. So no engine inherits another's heap, threads or page tables, and memory and
//! processor time are its alone.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::{Host, IoBackend};

use crate::cgroup::{self, MemoryGroup};
use crate::measurement::{Measurement, Outcome};
use crate::plan::Plan;
use crate::ratio::Ratio;
use crate::record::{Machine, RatioRecord, Record, RunRecord, json_error, write_record};
use crate::subject::{Adapter, url_of};
use crate::trace::Trace;
use crate::watch::Watch;
use crate::workload::Workload;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The engines, by name or URL.
    pub engines: Vec<String>,
    /// Which of them is the baseline.
    pub baseline: usize,
    /// The workloads, one after the other.
    pub workloads: Vec<Workload>,
    /// Rounds of each workload.
    pub rounds: usize,
    /// Operations of the workloads whose writes are synced, if not as many as of the others.
    pub commits: Option<u64>,
    /// What the traces among the workloads hold; see [`read_traces`](Self::read_traces).
    pub traces: HashMap<String, TraceSize>,
    /// Whether engines are confined to a memory cgroup, where that is possible.
    pub is_confined: bool,
    /// Everything else. Its engine and its workload are replaced, its directory is the parent of
    /// the runs' directories.
    pub plan: Plan,
}

/// How much a trace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSize {
    /// Records loaded before.
    pub records: u64,
    /// Operations that are replayed.
    pub operations: u64,
    /// Recorded commands that are not.
    pub skipped: u64,
}

/// The outcomes of one engine on one workload.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// One per round; fewer if the engine cannot do the workload.
    pub measurements: Vec<Measurement>,
    /// Why it cannot, or how it failed.
    pub unsupported: Option<String>,
}

impl Series {
    /// One figure of every round.
    pub fn figures(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measurements.iter().map(figure).collect()
    }

    /// Operations per second, relative to `baseline`.
    pub fn ratio(&self, baseline: &Self) -> Option<Ratio> {
        let speed = |measurement: &Measurement| measurement.ops_per_s;
        Ratio::of(&self.figures(speed), &baseline.figures(speed))
    }
}

impl Comparison {
    /// Refuses what cannot be compared.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        if self.engines.is_empty() {
            return Err(Error::invalid("bench", "no engines"));
        }
        self.check_work()
    }

    /// The same but for the engines, which may not be known yet.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check_work(&self) -> Result<()> {
        if self.workloads.is_empty() || self.rounds == 0 {
            return Err(Error::invalid("bench", "no workloads or no rounds"));
        }
        self.workloads.iter().try_for_each(|workload| self.plan_of(workload, "memory:").check())
    }

    /// Reads the traces among the workloads, so that a bad one is found before anything is measured
    /// and results say how much it holds.
    ///
    /// # Errors
    /// Those of [`Trace::read`].
    pub fn read_traces(&mut self) -> Result<()> {
        for workload in &self.workloads {
            let Workload::Replay(file) = workload else { continue };
            let trace = Trace::read(file)?;
            let size = TraceSize {
                records: trace.loaded,
                operations: trace.operations.len() as u64,
                skipped: trace.skipped,
            };
            self.traces.insert(file.clone(), size);
        }
        Ok(())
    }

    /// The plan of a run, but for its directory.
    pub fn plan_of(&self, workload: &Workload, engine: &str) -> Plan {
        let mut plan =
            Plan { engine: url_of(engine), workload: workload.clone(), ..self.plan.clone() };
        if let (Some(commits), true) = (self.commits, workload.profile().is_synced) {
            plan.operations = commits;
            plan.warmup = plan.warmup.min(commits / 10);
        }
        if let Workload::Replay(file) = workload
            && let Some(trace) = self.traces.get(file)
        {
            (plan.records, plan.operations) = (trace.records, trace.operations);
        }
        plan.fixed()
    }

    /// Runs everything. `json` gets a line for each run and each ratio as soon as it is known,
    /// `report` the series of a workload when its rounds are done, `watch` the progress. Answers the
    /// runs that failed: an engine that does is left out of the other rounds of that workload.
    ///
    /// # Errors
    /// `InvalidArgument`; `Io`; `Corruption` for the first wrong answer, which ends everything.
    pub fn run(
        &self,
        adapters: &[Adapter],
        json: &mut dyn Write,
        watch: &Watch,
        report: &mut dyn FnMut(&Workload, &[Series]) -> Result<()>,
    ) -> Result<Vec<String>> {
        self.check()?;
        let host = Host::system(IoBackend::Auto)?;
        let is_confined = self.is_confined && self.can_confine(watch);
        let machine = Machine::here(&host.env, &self.plan.directory, is_confined);
        write_record(json, &Record::Machine(machine))?;
        for (file, trace) in self.traces.iter().filter(|(_, trace)| trace.skipped > 0) {
            let (skipped, operations) = (trace.skipped, trace.operations);
            watch.note(&format!("{file}: {operations} operations; {skipped} others are left out"));
        }
        let mut failures = Vec::new();
        let ran = self.workloads.iter().try_for_each(|workload| {
            let mut series = vec![Series::default(); self.engines.len()];
            for round in 0..self.rounds {
                for (index, series) in series.iter_mut().enumerate() {
                    if series.unsupported.is_some() {
                        watch.skip();
                        continue;
                    }
                    let turn = Turn { workload, round, index, is_confined };
                    let run = self.take_turn(adapters, &host, watch, turn)?;
                    write_record(json, &Record::Run(Box::new(run.record.clone())))?;
                    if run.is_failure {
                        let reason = run.record.unsupported.as_deref().unwrap_or_default();
                        failures.push(format!("{} on {workload}: {reason}", run.record.engine));
                    }
                    series.unsupported = run.record.unsupported;
                    series.measurements.extend(run.record.measurement);
                }
            }
            self.write_ratios(json, workload, &series)?;
            report(workload, &series)
        });
        // Runs that failed have left theirs.
        host.fs.remove_dir_all(&self.plan.directory)?;
        ran.map(|()| failures)
    }

    /// Carries out one run, in a directory of its own.
    fn take_turn(
        &self,
        adapters: &[Adapter],
        host: &Host,
        watch: &Watch,
        turn: Turn<'_>,
    ) -> Result<Taken> {
        let Turn { workload, round, index, is_confined } = turn;
        let engine = self.engines.get(index).map_or("", String::as_str);
        watch.begin(&format!("{workload} round {}/{} {engine}", round + 1, self.rounds));
        let name = workload.to_string().replace(['/', ':'], "_");
        let directory = format!("{}/{name}-{round}-{index}", self.plan.directory);
        host.fs.remove_dir_all(&directory)?;
        let plan = Plan { directory, ..self.plan_of(workload, engine) };
        let outcome = run_in_process(&plan, is_confined);
        host.fs.remove_dir_all(&plan.directory)?;
        let outcome = outcome.inspect_err(|_| watch.end("it ends here"))?;
        watch.end(&match &outcome {
            Outcome::Measured(measurement) => format!("{:.0} operations/s", measurement.ops_per_s),
            Outcome::Unsupported { reason } => format!("cannot: {reason}"),
            Outcome::Failed { reason } => format!("FAILED: {reason}"),
        });
        let is_failure = matches!(outcome, Outcome::Failed { .. });
        let scheme = plan.engine.split(':').next().unwrap_or_default();
        let skips = adapters
            .iter()
            .find(|adapter| adapter.name == scheme)
            .map_or("", |adapter| adapter.skips);
        let record = RunRecord::new(engine, skips, &plan, round, outcome);
        Ok(Taken { record, is_failure })
    }

    fn can_confine(&self, watch: &Watch) -> bool {
        match MemoryGroup::create(cgroup::limit_bytes(self.plan.memory_bytes)) {
            Ok(_) => true,
            Err(error) => {
                watch.note(&format!("memory is not confined, page cache is free: {error}"));
                false
            }
        }
    }

    fn write_ratios(
        &self,
        json: &mut dyn Write,
        workload: &Workload,
        series: &[Series],
    ) -> Result<()> {
        let (Some(baseline), Some(baseline_series)) =
            (self.engines.get(self.baseline), series.get(self.baseline))
        else {
            return Ok(());
        };
        for (index, (engine, series)) in self.engines.iter().zip(series).enumerate() {
            if let (Some(ops_per_s), true) = (series.ratio(baseline_series), index != self.baseline)
            {
                let (engine, baseline) = (engine.clone(), baseline.clone());
                let workload = workload.clone();
                let ratio = RatioRecord { workload, engine, baseline, ops_per_s };
                write_record(json, &Record::Ratio(ratio))?;
            }
        }
        Ok(())
    }
}

/// One run of a comparison.
#[derive(Clone, Copy)]
struct Turn<'a> {
    workload: &'a Workload,
    round: usize,
    /// The engine.
    index: usize,
    is_confined: bool,
}

/// What became of it.
struct Taken {
    record: RunRecord,
    is_failure: bool,
}

/// Carries a plan out in a process of its own: this program, called with `measure`.
fn run_in_process(plan: &Plan, is_confined: bool) -> Result<Outcome> {
    let limit_bytes = cgroup::limit_bytes(plan.memory_bytes);
    let group = match is_confined {
        true => Some(MemoryGroup::create(limit_bytes)?),
        false => None,
    };
    let plan = Plan { memory_group: group.as_ref().map(MemoryGroup::name), ..plan.clone() };
    let program = std::env::current_exe().map_err(|error| Error::io("bench.compare", error))?;
    let plan_text = serde_json::to_string(&plan).map_err(json_error)?;
    let output = Command::new(program)
        .arg("measure")
        .arg(plan_text)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::io("bench.compare", error))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(json_error);
    }
    if group.is_some_and(|group| group.was_exhausted()) {
        let reason = format!("it needs more than the {} MiB of its group", limit_bytes >> 20);
        return Ok(Outcome::Unsupported { reason });
    }
    let status = output.status;
    if status.code() != Some(EXIT_OF_AN_ERROR) {
        // A panic or a signal: what the engine's own code died of.
        return Ok(Outcome::Failed { reason: format!("its process ended with {status}") });
    }
    let (engine, workload) = (&plan.engine, &plan.workload);
    Err(Error::new(
        ErrorKind::Io,
        "bench.compare",
        format!("the run of {engine} on workload {workload} ended everything; see above"),
    ))
}

/// What this program ends with for an error that it tells.
const EXIT_OF_AN_ERROR: i32 = 1;
