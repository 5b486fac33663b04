//! What a person reads.

use std::fmt::Write;

use crate::compare::{Comparison, Series};
use crate::dataset::KEY_BYTES;
use crate::measurement::Measurement;
use crate::plan::Caller;
use crate::ratio::{Ratio, median};
use crate::record::Parameters;
use crate::workload::Workload;

const MIB: f64 = (1 << 20) as f64;

/// The table of one workload: medians over the rounds.
pub fn table(comparison: &Comparison, workload: &Workload, series: &[Series]) -> String {
    let mut out = heading(comparison, workload);
    let width = comparison.engines.iter().map(String::len).max().unwrap_or(0).max(6);
    let _ = writeln!(
        out,
        "{:width$} {:>11} {:>22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
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
        "wr. amp",
        "space",
    );
    for (index, (engine, own)) in comparison.engines.iter().zip(series).enumerate() {
        if let Some(reason) = &own.unsupported {
            let _ = writeln!(out, "{engine:width$} cannot: {reason}");
            continue;
        }
        let middle =
            |figure: &dyn Fn(&Measurement) -> f64| median(&own.figures(figure)).unwrap_or(f64::NAN);
        // Of nothing put, or nothing on disk, there is no factor: not even 0.
        let factor = |figure: fn(&Measurement) -> Option<f64>| {
            let known: Vec<f64> = own.measurements.iter().filter_map(figure).collect();
            median(&known).map_or_else(|| "-".to_owned(), |factor| format!("{factor:.2}"))
        };
        let ratio = match series.get(comparison.baseline) {
            _ if index == comparison.baseline => "baseline".to_owned(),
            Some(baseline) => own.ratio(baseline).map_or_else(|| "-".to_owned(), shown),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "{engine:width$} {:>11.0} {ratio:>22} {:>9.1} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>8} {:>8}",
            middle(&|m| m.ops_per_s),
            middle(&|m| m.latency_ns.p50 as f64 / 1e3),
            middle(&|m| m.latency_ns.p99 as f64 / 1e3),
            middle(&|m| m.latency_ns.p999 as f64 / 1e3),
            middle(&|m| m.latency_ns.max as f64 / 1e6),
            middle(&Measurement::cpu_us_per_operation),
            middle(&|m| m.rss_bytes as f64 / MIB),
            middle(&|m| m.disk_bytes as f64 / MIB),
            factor(Measurement::write_amplification),
            factor(Measurement::space_amplification),
        );
    }
    for (engine, series) in comparison.engines.iter().zip(series) {
        if let Some(measurement) = series.measurements.first() {
            let _ = writeln!(out, "  {engine} is {}", measurement.settings);
        }
    }
    out
}

fn heading(comparison: &Comparison, workload: &Workload) -> String {
    let plan = comparison.plan_of(workload, "");
    let parameters = Parameters::of(&plan);
    let summary = workload.profile().summary;
    let distribution = parameters.distribution.map_or(String::new(), |name| format!(", {name}"));
    let callers = match plan.caller {
        Caller::Sync => format!("{} threads", plan.threads),
        Caller::Async => format!("{} tasks on each of {} threads", plan.tasks, plan.threads),
    };
    let loop_kind = plan.rate_per_s.map_or(String::new(), |rate| format!(", {rate} a second"));
    let records = match &parameters.value_sizes {
        None => format!("of {KEY_BYTES} + {} bytes", plan.value_bytes),
        Some(sizes) => format!("with values {sizes}"),
    };
    format!(
        "\nworkload {workload}: {summary}{distribution}\n{} records {records}, {} operations\
         {loop_kind}, {callers}, durability {}, {:.0} MiB of cache and buffers, seed {}, median of \
         {} rounds\n",
        plan.records,
        plan.operations,
        plan.durability.name(),
        plan.memory_bytes as f64 / MIB,
        plan.seed,
        comparison.rounds,
    )
}

fn shown(ratio: Ratio) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)
}
