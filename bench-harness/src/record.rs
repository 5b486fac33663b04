//! [`Record`]: a line of the JSON output. The schema is documented in the crate's README, and stable:
//! fields may come, but none changes or goes while [`SCHEMA`] stays.

use std::io::Write;

use ferrokit_engine::{Env, Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize};

use crate::measurement::{Measurement, Outcome};
use crate::plan::{Caller, Plan, Promise};
use crate::ratio::Ratio;
use crate::workload::{Shape, Workload};

/// The version of the schema.
pub const SCHEMA: u32 = 1;

/// One line, to be written; [`report::input`](crate::report::input) reads them, and those of servers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// Where and how it was measured: the first line.
    Machine(Machine),
    /// One run of one engine.
    Run(Box<RunRecord>),
    /// One engine relative to the baseline, over all rounds of a workload.
    Ratio(RatioRecord),
}

/// Where and how it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of this program.
    pub version: String,
    /// Its command line.
    pub command: String,
    /// When it began: milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The processor.
    pub cpu_model: String,
    /// How many threads run at once.
    pub cores: usize,
    /// All memory of the machine.
    pub memory_bytes: u64,
    /// The operating system.
    pub kernel: String,
    /// The file system of the directory that is measured in.
    pub file_system: String,
    /// Whether each engine ran in a memory cgroup.
    pub memory_cgroup: bool,
    /// The load average of the minute before: above a few tenths, others used the machine.
    #[serde(default)]
    pub load_before: Option<f64>,
}

/// What a run was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Records loaded before, or written by a fill.
    pub records: u64,
    /// Operations of all threads.
    pub operations: u64,
    /// Bytes of a value, where the workload does not vary them.
    pub value_bytes: usize,
    /// How it varies them, if it does.
    #[serde(default)]
    pub value_sizes: Option<String>,
    /// Threads.
    pub threads: usize,
    /// The distribution of accesses; none where there is no choice.
    pub distribution: Option<String>,
    /// What measured writes survive.
    pub durability: Promise,
    /// The budget for caches and buffers.
    pub memory_bytes: u64,
    /// The rate of an open loop.
    pub rate_per_s: Option<f64>,
    /// Who called.
    pub caller: Caller,
    /// Tasks of a thread, where tasks called.
    pub tasks: usize,
    /// Operations before the measured ones.
    pub warmup_operations: u64,
}

impl Parameters {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let profile = plan.workload.profile();
        let distribution = (profile.shape == Shape::Mixed)
            .then(|| plan.distribution.unwrap_or(profile.distribution).to_string());
        Self {
            records: plan.records,
            operations: plan.operations,
            value_bytes: plan.value_bytes,
            value_sizes: profile.varying_values(),
            threads: plan.threads,
            distribution,
            durability: plan.durability,
            memory_bytes: plan.memory_bytes,
            rate_per_s: plan.rate_per_s,
            caller: plan.caller,
            tasks: plan.tasks,
            warmup_operations: plan.warmup,
        }
    }
}

/// One run of one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRecord {
    /// The engine, as it was named on the command line.
    pub engine: String,
    /// Cases of the conformance suite that its adapter does not pass, and why.
    pub skipped_cases: String,
    /// What was done.
    pub workload: Workload,
    /// The same in words.
    pub summary: String,
    /// With what.
    pub parameters: Parameters,
    /// The round, from 0.
    pub round: usize,
    /// The seed of data and operations.
    pub seed: u64,
    /// Why the engine cannot do it; then there is no measurement.
    pub unsupported: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub measurement: Option<Measurement>,
}

/// A run as it lies in a file, before it is known whether there is a measurement.
#[derive(Deserialize)]
struct RawRun {
    engine: String,
    skipped_cases: String,
    workload: Workload,
    summary: String,
    parameters: Parameters,
    round: usize,
    seed: u64,
    unsupported: Option<String>,
    #[serde(flatten)]
    measurement: serde_json::Map<String, serde_json::Value>,
}

impl<'de> Deserialize<'de> for RunRecord {
    /// A run has a measurement, or a reason why it has none. One that has neither is broken: a
    /// flattened `Option` would take a measurement without a field, or with a bad one, for none.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawRun::deserialize(deserializer)?;
        let measurement = match &raw.unsupported {
            Some(_) if raw.measurement.contains_key("ops_per_s") => {
                let what = "a measurement, and a reason why there is none";
                return Err(serde::de::Error::custom(what));
            }
            Some(_) => None,
            None => Some(
                Measurement::deserialize(serde_json::Value::Object(raw.measurement))
                    .map_err(serde::de::Error::custom)?,
            ),
        };
        Ok(Self {
            engine: raw.engine,
            skipped_cases: raw.skipped_cases,
            workload: raw.workload,
            summary: raw.summary,
            parameters: raw.parameters,
            round: raw.round,
            seed: raw.seed,
            unsupported: raw.unsupported,
            measurement,
        })
    }
}

impl RunRecord {
    /// Of a run that is done.
    pub fn new(
        engine: &str,
        skipped_cases: &str,
        plan: &Plan,
        round: usize,
        outcome: Outcome,
    ) -> Self {
        let (unsupported, measurement) = match outcome {
            Outcome::Measured(measurement) => (None, Some(*measurement)),
            Outcome::Unsupported { reason } => (Some(reason), None),
            Outcome::Failed { reason } => (Some(format!("it failed: {reason}")), None),
        };
        Self {
            engine: engine.to_owned(),
            skipped_cases: skipped_cases.to_owned(),
            workload: plan.workload.clone(),
            summary: plan.workload.profile().summary.to_owned(),
            parameters: Parameters::of(plan),
            round,
            seed: plan.seed,
            unsupported,
            measurement,
        }
    }
}

/// One engine relative to the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioRecord {
    /// What was done.
    pub workload: Workload,
    /// The engine.
    pub engine: String,
    /// What it is relative to.
    pub baseline: String,
    /// Operations per second, by those of the baseline.
    pub ops_per_s: Ratio,
}

impl Machine {
    /// This machine, measuring in `directory`.
    pub fn here(env: &Env, directory: &str, memory_cgroup: bool) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split_whitespace().next().and_then(|kib| kib.parse().ok()));
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::iter::once("ferrokit-bench".to_owned())
                .chain(std::env::args().skip(1))
                .collect::<Vec<_>>()
                .join(" "),
            started_unix_ms: env.clock.now().0,
            cpu_model: line(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.unwrap_or(0_u64) << 10,
            kernel: format!("Linux {kernel}"),
            file_system: file_system(directory, &read("/proc/self/mounts")),
            memory_cgroup,
            load_before: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok()),
        }
    }
}

/// The type of the file system that `directory` (or what is there of its path) lies in.
fn file_system(directory: &str, mounts: &str) -> String {
    let directory = std::path::absolute(directory).unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?.to_owned(), words.next()?.to_owned());
        directory.starts_with(&place).then_some((place.len(), kind))
    };
    mounts.lines().filter_map(mount).max().map(|(_, kind)| kind).unwrap_or_default()
}

/// Writes a line.
///
/// # Errors
/// `Io`.
pub fn write_record(out: &mut dyn Write, record: &Record) -> Result<()> {
    let text = serde_json::to_string(record).map_err(json_error)?;
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("bench.json", error))
}

pub(crate) fn json_error(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Io, "bench.json", "a line of JSON cannot be read or written")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn the_longest_mount_point_is_that_of_the_directory() {
        let mounts = "a / ext4 rw 0 0\nb /mnt/fast xfs rw 0 0\nc /mnt/faster tmpfs rw 0 0\n";
        assert_eq!(file_system("/mnt/fast/x", mounts), "xfs");
        assert_eq!(file_system("/mnt/fas", mounts), "ext4");
    }

    fn run(outcome: Outcome) -> RunRecord {
        RunRecord::new("lsm", "", &plan("replay:x"), 3, outcome)
    }

    #[test]
    fn runs_come_back() {
        let measurement = Box::new(crate::measurement::tests::measurement());
        for outcome in [
            Outcome::Unsupported { reason: "no".to_owned() },
            Outcome::Failed { reason: "no space".to_owned() },
            Outcome::Measured(measurement),
        ] {
            let run = run(outcome);
            let text = serde_json::to_string(&Record::Run(Box::new(run.clone()))).unwrap();
            assert!(text.starts_with("{\"record\":\"run\","), "{text}");
            assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), run);
        }
    }

    #[test]
    fn a_broken_measurement_is_named_and_not_taken_for_none() {
        let measurement = crate::measurement::tests::measurement();
        let whole = serde_json::to_value(run(Outcome::Measured(Box::new(measurement)))).unwrap();
        let read = |value: serde_json::Value| serde_json::from_value::<RunRecord>(value);
        read(whole.clone()).unwrap();
        let mut less = whole.clone();
        less.as_object_mut().unwrap().remove("cpu_s");
        assert!(read(less).unwrap_err().to_string().contains("missing field `cpu_s`"));
        let mut bad = whole.clone();
        bad["ops_per_s"] = serde_json::Value::Null;
        assert!(read(bad).unwrap_err().to_string().contains("invalid type: null"));
        let mut both = whole;
        both["unsupported"] = "no".into();
        assert!(read(both).unwrap_err().to_string().contains("a reason why there is none"));
    }
}
