//! Interleaved rounds: A, B, C, A, B, C, ... of the same plan, each measurement in a process of
//! its own and a fresh directory. So no engine inherits another's heap, threads or page tables,
//! and resident memory and processor time are its alone.

use std::io::Write;
use std::process::{Command, Stdio};

use ferrokit_engine::{Error, ErrorKind, Result};
use ferrokit_storage::{Host, IoBackend};
use serde::Serialize;

use crate::measurement::{Measurement, Outcome, Plan};
use crate::ratio::Ratio;
use crate::workload::Workload;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The URLs of the engines; the first is the baseline.
    pub engines: Vec<String>,
    /// The workloads, one after the other.
    pub workloads: Vec<Workload>,
    /// Rounds of each workload.
    pub rounds: usize,
    /// Everything else. Its engine and its workload are replaced, its directory is the parent of
    /// the runs' directories.
    pub plan: Plan,
}

/// The outcomes of one engine on one workload.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// One per round; fewer if the engine cannot do the workload.
    pub measurements: Vec<Measurement>,
    /// Why it cannot.
    pub unsupported: Option<String>,
}

impl Series {
    /// One figure of every round.
    pub fn figures(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measurements.iter().map(figure).collect()
    }

    /// Operations per second, relative to `baseline`.
    pub fn ratio(&self, baseline: &Self) -> Option<Ratio> {
        let speed = |measurement: &Measurement| measurement.operations_per_s;
        Ratio::of(&self.figures(speed), &baseline.figures(speed))
    }
}

/// One line of the JSON output.
#[derive(Debug, Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Line<'a> {
    /// One run of one engine.
    Run { round: usize, plan: &'a Plan, result: &'a Outcome },
    /// One engine relative to the baseline, over all rounds.
    Ratio { workload: Workload, engine: &'a str, baseline: &'a str, operations_per_s: Ratio },
}

impl Comparison {
    /// Refuses what cannot be compared.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        if self.engines.is_empty() || self.workloads.is_empty() || self.rounds == 0 {
            return Err(Error::invalid("bench", "no engines, no workloads or no rounds"));
        }
        self.workloads
            .iter()
            .try_for_each(|&workload| Plan { workload, ..self.plan.clone() }.check())
    }

    /// Runs everything. `json` gets a line for each run and each ratio as soon as it is known,
    /// `report` the series of a workload when its rounds are done; progress goes to stderr.
    ///
    /// # Errors
    /// `InvalidArgument`; `Io`; the error of the first run that fails.
    pub fn run(
        &self,
        json: &mut dyn Write,
        report: &mut dyn FnMut(Workload, &[Series]) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let host = Host::system(IoBackend::Auto)?;
        for &workload in &self.workloads {
            let mut series = vec![Series::default(); self.engines.len()];
            for round in 0..self.rounds {
                for (index, (engine, series)) in self.engines.iter().zip(&mut series).enumerate() {
                    if series.unsupported.is_some() {
                        continue;
                    }
                    eprint!("{workload} round {}/{} {engine} ... ", round + 1, self.rounds);
                    let directory = format!("{}/{workload}-{round}-{index}", self.plan.directory);
                    let plan = Plan {
                        engine: engine.clone(),
                        workload,
                        directory: directory.clone(),
                        ..self.plan.clone()
                    };
                    host.fs.remove_dir_all(&directory)?;
                    let outcome = run_in_process(&plan);
                    host.fs.remove_dir_all(&directory)?;
                    let outcome = outcome?;
                    write_line(json, &Line::Run { round, plan: &plan, result: &outcome })?;
                    match outcome {
                        Outcome::Measured(measurement) => {
                            eprintln!("{:.0} operations/s", measurement.operations_per_s);
                            series.measurements.push(measurement);
                        }
                        Outcome::Unsupported { reason } => {
                            eprintln!("cannot: {reason}");
                            series.unsupported = Some(reason);
                        }
                    }
                }
            }
            self.write_ratios(json, workload, &series)?;
            report(workload, &series)?;
        }
        Ok(())
    }

    fn write_ratios(
        &self,
        json: &mut dyn Write,
        workload: Workload,
        series: &[Series],
    ) -> Result<()> {
        let (Some(baseline), Some(baseline_series)) = (self.engines.first(), series.first()) else {
            return Ok(());
        };
        for (engine, series) in self.engines.iter().zip(series).skip(1) {
            if let Some(operations_per_s) = series.ratio(baseline_series) {
                write_line(json, &Line::Ratio { workload, engine, baseline, operations_per_s })?;
            }
        }
        Ok(())
    }
}

/// Carries a plan out in a process of its own: this program, called with `measure`.
fn run_in_process(plan: &Plan) -> Result<Outcome> {
    let program = std::env::current_exe().map_err(|error| Error::io("bench.compare", error))?;
    let plan_text = serde_json::to_string(plan).map_err(json_error)?;
    let output = Command::new(program)
        .arg("measure")
        .arg(plan_text)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::io("bench.compare", error))?;
    if !output.status.success() {
        let (engine, workload, status) = (&plan.engine, plan.workload, output.status);
        return Err(Error::new(
            ErrorKind::Io,
            "bench.compare",
            format!("the run of {engine} on workload {workload} failed ({status}); see above"),
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(json_error)
}

fn write_line(json: &mut dyn Write, line: &Line<'_>) -> Result<()> {
    let text = serde_json::to_string(line).map_err(json_error)?;
    writeln!(json, "{text}")
        .and_then(|()| json.flush())
        .map_err(|error| Error::io("bench.json", error))
}

fn json_error(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Io, "bench.json", "a line of JSON cannot be read or written")
        .with_source(error)
}
