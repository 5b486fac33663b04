//! [`Record`]: a line of the JSON output. The schema is documented in the crate's README, and stable:
//! fields may come, but none changes or goes while [`SCHEMA`] stays.

use std::io::{BufRead, BufReader, Write};

use ferrokit_engine::{Env, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::measurement::{Measurement, Outcome};
use crate::plan::{Caller, Plan, Promise};
use crate::ratio::Ratio;
use crate::workload::{Shape, Workload};

/// The version of the schema.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// Where and how it was measured: the first line.
    Machine(Machine),
    /// One run of one engine.
    Run(Box<RunRecord>),
    /// One engine relative to the baseline, over all rounds of a workload.
    Ratio(RatioRecord),
    /// A line of another kind, such as those of the server benchmark.
    #[serde(other)]
    Other,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Reads the lines of a file.
///
/// # Errors
/// `Io`; `InvalidArgument` for a line that is no record, with its number.
pub fn read_records(path: &str) -> Result<Vec<Record>> {
    let failed = |error| Error::io("bench.json", error).with_file(path);
    let file = std::fs::OpenOptions::new().read(true).open(path).map_err(failed)?;
    let lines = BufReader::new(file).lines().enumerate();
    let record = |(number, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(failed)?;
        serde_json::from_str(&line).map_err(|error| {
            Error::invalid("bench.json", format!("line {}: {error}", number + 1)).with_file(path)
        })
    };
    lines.map(record).collect()
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

    #[test]
    fn a_run_that_was_not_possible_comes_back() {
        let outcome = Outcome::Unsupported { reason: "no".to_owned() };
        let run = RunRecord::new("lsm", "", &plan("replay:x"), 3, outcome);
        let record = Record::Run(Box::new(run));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        let other = r#"{"record":"server","ops_per_s":1}"#;
        assert_eq!(serde_json::from_str::<Record>(other).unwrap(), Record::Other);
    }
}
