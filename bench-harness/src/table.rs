//! What a person reads.

use std::fmt::Write;

use crate::compare::{Comparison, Series};
use crate::measurement::Measurement;
use crate::ratio::{Ratio, median};
use crate::workload::Workload;

const MIB: f64 = (1 << 20) as f64;

/// The table of one workload: medians over the rounds.
pub fn table(comparison: &Comparison, workload: Workload, series: &[Series]) -> String {
    let mut out = heading(comparison, workload);
    let width = comparison.engines.iter().map(String::len).max().unwrap_or(0).max(6);
    let _ = writeln!(
        out,
        "{:width$} {:>11} {:>22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "engine",
        "ops/s",
        "ratio (min-max)",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max ms",
        "cpu us/op",
        "rss MiB",
        "disk MiB",
    );
    for (index, (engine, own)) in comparison.engines.iter().zip(series).enumerate() {
        if let Some(reason) = &own.unsupported {
            let _ = writeln!(out, "{engine:width$} cannot: {reason}");
            continue;
        }
        let middle =
            |figure: &dyn Fn(&Measurement) -> f64| median(&own.figures(figure)).unwrap_or(f64::NAN);
        let ratio = match series.first() {
            _ if index == 0 => "baseline".to_owned(),
            Some(baseline) => own.ratio(baseline).map_or_else(|| "-".to_owned(), shown),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "{engine:width$} {:>11.0} {ratio:>22} {:>9.1} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>9.1} {:>9.1}",
            middle(&|m| m.operations_per_s),
            middle(&|m| m.latency.p50_ns as f64 / 1e3),
            middle(&|m| m.latency.p99_ns as f64 / 1e3),
            middle(&|m| m.latency.p999_ns as f64 / 1e3),
            middle(&|m| m.latency.max_ns as f64 / 1e6),
            middle(&Measurement::cpu_us_per_operation),
            middle(&|m| m.resident_bytes as f64 / MIB),
            middle(&|m| m.disk_bytes as f64 / MIB),
        );
    }
    for (engine, series) in comparison.engines.iter().zip(series) {
        if let Some(measurement) = series.measurements.first() {
            let _ = writeln!(out, "  {engine} is {}", measurement.settings);
        }
    }
    out
}

fn heading(comparison: &Comparison, workload: Workload) -> String {
    let plan = &comparison.plan;
    let profile = workload.profile();
    let (operations, distribution) = if workload.takes_every_record_once() {
        (plan.records, String::new())
    } else {
        let distribution = plan.distribution.unwrap_or(profile.distribution);
        (plan.operations, format!(", {distribution}"))
    };
    format!(
        "\nworkload {workload}: {}{distribution}\n{} records of {} + {} bytes, {operations} \
         operations, {} threads, durability {}, {:.0} MiB of cache and buffers, seed {}, median of \
         {} rounds\n",
        profile.summary,
        plan.records,
        crate::dataset::KEY_BYTES,
        plan.value_bytes,
        plan.threads,
        plan.durability.name(),
        plan.memory_bytes as f64 / MIB,
        plan.seed,
        comparison.rounds,
    )
}

fn shown(ratio: Ratio) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)
}
