//! What is written: the JSON lines, and the table that a person reads.

use std::fmt::Write as _;
use std::io::Write;

use ferrokit_engine::{Error, ErrorKind, Result};
use serde::Serialize;

use super::command::ServerCommand;
use super::measure::ServerMeasurement;
use super::plan::ServerPlan;
use crate::distribution::Distribution;
use crate::measurement::Latency;
use crate::ratio::{Ratio, median};

const MIB: f64 = (1 << 20) as f64;

/// The measurements of one server, one for each round.
pub struct ServerSeries {
    /// The server's name.
    pub name: String,
    /// Its command line.
    pub settings: String,
    /// One per round; fewer if it cannot do what is asked.
    pub measurements: Vec<ServerMeasurement>,
    /// Why it cannot.
    pub unsupported: Option<String>,
}

impl ServerSeries {
    fn figures(&self, figure: impl Fn(&ServerMeasurement) -> f64) -> Vec<f64> {
        self.measurements.iter().map(figure).collect()
    }

    fn ratio(&self, baseline: &Self, figure: impl Fn(&ServerMeasurement) -> f64) -> Option<Ratio> {
        Ratio::of(&self.figures(&figure), &baseline.figures(&figure))
    }
}

/// One line of the JSON output.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Line<'a> {
    /// One server, in one round.
    Server {
        server: &'a str,
        settings: &'a str,
        workload: ServerCommand,
        parameters: Parameters,
        round: usize,
        seed: u64,
        operations: u64,
        elapsed_s: f64,
        ops_per_s: f64,
        latency_ns: Latency,
        cpu_s: f64,
        ops_per_cpu_s: f64,
        rss_bytes: u64,
        errors: u64,
    },
    /// One server relative to the baseline, over all rounds.
    #[serde(rename = "server_ratio")]
    Ratio {
        workload: ServerCommand,
        server: &'a str,
        baseline: &'a str,
        parameters: Parameters,
        ops_per_s: Option<Ratio>,
        ops_per_cpu_s: Option<Ratio>,
    },
}

#[derive(Serialize)]
struct Parameters {
    connections: usize,
    pipeline: usize,
    client_threads: usize,
    value_bytes: usize,
    records: u64,
    durability: &'static str,
    rate_per_s: Option<f64>,
    distribution: Distribution,
}

impl Parameters {
    fn of(plan: &ServerPlan) -> Self {
        Self {
            connections: plan.connections,
            pipeline: plan.pipeline,
            client_threads: plan.threads,
            value_bytes: plan.value_bytes,
            records: plan.records,
            durability: plan.durability.name(),
            rate_per_s: plan.rate_per_s,
            distribution: plan.distribution,
        }
    }
}

/// Writes the line of a server in a round. There are no errors in it: one ends the run.
///
/// # Errors
/// `Io`.
pub fn write_measurement(
    json: &mut dyn Write,
    plan: &ServerPlan,
    series: &ServerSeries,
    round: usize,
    measurement: &ServerMeasurement,
) -> Result<()> {
    let line = Line::Server {
        server: &series.name,
        settings: &series.settings,
        workload: plan.command,
        parameters: Parameters::of(plan),
        round,
        seed: plan.seed,
        operations: measurement.operations,
        elapsed_s: measurement.elapsed_s,
        ops_per_s: measurement.ops_per_s(),
        latency_ns: measurement.latency_ns,
        cpu_s: measurement.cpu_s,
        ops_per_cpu_s: measurement.ops_per_cpu_s(),
        rss_bytes: measurement.rss_bytes,
        errors: 0,
    };
    write_line(json, &line)
}

/// Writes the lines of all servers relative to `baseline`.
///
/// # Errors
/// `Io`.
pub fn write_ratios(
    json: &mut dyn Write,
    plan: &ServerPlan,
    baseline: &ServerSeries,
    all: &[ServerSeries],
) -> Result<()> {
    for series in all.iter().filter(|series| series.name != baseline.name) {
        let ops_per_s = series.ratio(baseline, ServerMeasurement::ops_per_s);
        let ops_per_cpu_s = series.ratio(baseline, ServerMeasurement::ops_per_cpu_s);
        if ops_per_s.is_some() {
            let line = Line::Ratio {
                workload: plan.command,
                server: &series.name,
                baseline: &baseline.name,
                parameters: Parameters::of(plan),
                ops_per_s,
                ops_per_cpu_s,
            };
            write_line(json, &line)?;
        }
    }
    Ok(())
}

fn write_line(json: &mut dyn Write, line: &Line<'_>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("bench.json", error);
    let text = serde_json::to_string(line).map_err(|error| {
        Error::new(ErrorKind::Io, "bench.json", "a line cannot be written").with_source(error)
    })?;
    writeln!(json, "{text}").and_then(|()| json.flush()).map_err(failed)
}

/// The table of one command driven in one way: medians over the rounds.
pub fn table(plan: &ServerPlan, baseline: &ServerSeries, all: &[ServerSeries]) -> String {
    let mut out = heading(plan);
    let width = all.iter().map(|series| series.name.len()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        out,
        "{:width$} {:>10} {:>18} {:>9} {:>9} {:>9} {:>12} {:>18} {:>8}",
        "server",
        "ops/s",
        "ratio (min-max)",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "ops/cpu-s",
        "ratio (min-max)",
        "rss MiB",
    );
    for own in all {
        let name = &own.name;
        if let Some(reason) = &own.unsupported {
            let _ = writeln!(out, "{name:width$} cannot: {reason}");
            continue;
        }
        let middle = |figure: &dyn Fn(&ServerMeasurement) -> f64| {
            median(&own.figures(figure)).unwrap_or(f64::NAN)
        };
        let shown = |figure: fn(&ServerMeasurement) -> f64| match own.ratio(baseline, figure) {
            _ if own.name == baseline.name => "baseline".to_owned(),
            Some(Ratio { median, min, max, .. }) => format!("{median:.2} ({min:.2}-{max:.2})"),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "{name:width$} {:>10.0} {:>18} {:>9.1} {:>9.1} {:>9.1} {:>12.0} {:>18} {:>8.1}",
            middle(&ServerMeasurement::ops_per_s),
            shown(ServerMeasurement::ops_per_s),
            middle(&|m| m.latency_ns.p50 as f64 / 1e3),
            middle(&|m| m.latency_ns.p99 as f64 / 1e3),
            middle(&|m| m.latency_ns.p999 as f64 / 1e3),
            middle(&ServerMeasurement::ops_per_cpu_s),
            shown(ServerMeasurement::ops_per_cpu_s),
            middle(&|m| m.rss_bytes as f64 / MIB),
        );
    }
    out
}

fn heading(plan: &ServerPlan) -> String {
    format!(
        "\n{}: {}, durability {}, {} client threads\n{} records of {} + {} bytes, {} accesses, {} \
         operations, seed {}\n",
        plan.command,
        plan.driving(),
        plan.durability.name(),
        plan.threads,
        plan.records,
        crate::dataset::KEY_BYTES,
        plan.value_bytes,
        plan.distribution,
        plan.operations,
        plan.seed,
    )
}
