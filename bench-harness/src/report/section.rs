//! The section of one workload: its plots and its figures.

use super::axis::{Axis, Scale};
use super::bars::{Bar, Bars};
use super::data::{Group, Report, Series, Spread, colour};
use super::lines::{Line, Lines};
use super::markup::Markup;
use super::tables::Table;
use super::words::{bytes, count, factor, phrases, time_ns};
use crate::measurement::Measurement;

/// Adds the section.
pub(super) fn draw(out: &mut Markup, report: &Report, group: &Group, number: usize) {
    out.element("section", &[("id", &format!("workload-{number}"))], |out| {
        out.leaf("h3", &[], &group.workload);
        out.leaf("p", &[("class", &"summary")], &group.summary);
        let mut words = phrases(&group.parameters);
        words.retain(|phrase| !phrase.is_empty());
        words.push(match group.rounds() {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        });
        out.leaf("p", &[("class", &"with")], words.join(" · "));
        draw_reasons(out, report, group);
        out.element("div", &[("class", &"plots")], |out| draw_plots(out, report, group));
        out.element("details", &[], |out| {
            out.leaf("summary", &[], "Figures");
            Table::of_group(report, group).draw(out);
        });
    });
}

/// Why engines have no figures, or not those of all rounds. Many reasons are folded away.
fn draw_reasons(out: &mut Markup, report: &Report, group: &Group) {
    let reasons = group.series.iter().filter_map(|series| {
        let name = report.engine_name(series.engine);
        // A run that failed may have others beside it.
        let after = match series.runs.len() {
            0 => String::new(),
            rounds => format!(", after {rounds} rounds"),
        };
        series.unsupported.as_ref().map(|reason| (name, format!("{name} cannot{after}: {reason}")))
    });
    let (names, reasons): (Vec<&str>, Vec<String>) = reasons.unzip();
    let draw = |out: &mut Markup| {
        reasons.iter().for_each(|reason| out.leaf("p", &[("class", &"cannot")], reason));
    };
    if reasons.len() <= REASONS_SHOWN {
        return draw(out);
    }
    out.element("details", &[("class", &"reasons")], |out| {
        out.leaf("summary", &[], format!("{} cannot", names.join(", ")));
        draw(out);
    });
}

/// More reasons than these are folded away.
const REASONS_SHOWN: usize = 2;

fn draw_plots(out: &mut Markup, report: &Report, group: &Group) {
    let plots = Plots { report, group };
    plots.bars("Throughput", "operations per second", count, &|run| vec![run.ops_per_s]).draw(out);
    let cpu = |run: &Measurement| {
        let operations = run.operations.max(1) as f64;
        vec![run.cpu_s * 1e9 / operations, run.settle_cpu_s * 1e9 / operations]
    };
    plots
        .bars("CPU time per operation", "pale: after the run, until settled", time_ns, &cpu)
        .draw(out);
    let memory = |run: &Measurement| vec![run.anonymous_bytes as f64, run.file_mapped_bytes as f64];
    plots.bars("Resident memory", "pale: mapped files", bytes, &memory).draw(out);
    plots.latency().draw(out);
    plots.over_time().draw(out);
    let space = |run: &Measurement| run.space_amplification().into_iter().collect();
    plots.bars("Space amplification", "bytes on disk per live byte", factor, &space).draw(out);
    // Of engines that have no files there is nothing to be seen.
    let written = |run: &Measurement| {
        let factor = run.write_amplification().filter(|factor| *factor > 0.0 || run.disk_bytes > 0);
        factor.into_iter().collect()
    };
    plots.bars("Write amplification", "bytes written per byte put", factor, &written).draw(out);
}

struct Plots<'a> {
    report: &'a Report,
    group: &'a Group,
}

impl Plots<'_> {
    fn bars(
        &self,
        title: &'static str,
        note: &'static str,
        show: fn(f64) -> String,
        parts: &dyn Fn(&Measurement) -> Vec<f64>,
    ) -> Bars {
        let bar = |series: &Series| {
            let runs: Vec<Vec<f64>> = series.runs.iter().map(|(_, run)| parts(run)).collect();
            let sums: Vec<f64> = runs.iter().map(|parts| parts.iter().sum()).collect();
            let spread = Spread::of(&sums)?;
            let middles = middles(&runs);
            let name = self.report.engine_name(series.engine);
            (!middles.is_empty()).then(|| bar(name, series.engine, middles, spread, show))
        };
        Bars { title, note, show, bars: self.group.series.iter().filter_map(bar).collect() }
    }

    /// Latency by quantile: the further right, the rarer.
    fn latency(&self) -> Lines {
        let line = |series: &Series| {
            let operations = series.median(|run| run.operations as f64)?;
            let points: Vec<(f64, f64)> = series
                .latency_curve()
                .into_iter()
                .map(|(quantile, latency)| (rarity(quantile, operations), latency))
                .collect();
            (!points.is_empty()).then(|| self.line(series, points))
        };
        let lines: Vec<Line> = self.group.series.iter().filter_map(line).collect();
        let points = || lines.iter().flat_map(|line| line.points.iter());
        let rarest = points().map(|(across, _)| *across).fold(10.0, f64::max);
        let marks = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
        let marks = marks.iter().zip(0..).map(|(mark, power)| (10_f64.powi(power), (*mark).into()));
        let marks: Vec<(f64, String)> = marks.filter(|(mark, _)| *mark <= rarest).collect();
        // Long ones need the room of two.
        let every = if marks.len() > 6 { 2 } else { 1 };
        let marks = marks.into_iter().step_by(every).collect();
        let up = Axis::log("", points().map(|(_, latency)| *latency), time_ns);
        let across = Axis::marked(
            "percent of operations that take no longer",
            Scale::Log,
            (1.0, rarest),
            marks,
        );
        let (title, note) = ("Latency", "by percentile, both axes logarithmic");
        let show_across = |rarity: f64| match rarity > 1.0 {
            true => format!("{} %", (1.0 - 1.0 / rarity) * 100.0),
            false => "the shortest".to_owned(),
        };
        Lines { title, note, across, up, show: time_ns, show_across, has_points: false, lines }
    }

    /// Operations per second, second by second, of the round in the middle.
    fn over_time(&self) -> Lines {
        let line = |series: &Series| {
            let points = steps(series.typical()?);
            (!points.is_empty()).then(|| self.line(series, points))
        };
        let lines: Vec<Line> = self.group.series.iter().filter_map(line).collect();
        let points = || lines.iter().flat_map(|line| line.points.iter());
        let seconds = |value: f64| format!("{value} s");
        Lines {
            title: "Throughput over time",
            note: "operations per second, of the median round",
            across: Axis::linear("seconds", points().map(|(time, _)| *time), seconds),
            up: Axis::linear("", points().map(|(_, speed)| *speed), count),
            show: count,
            show_across: seconds,
            has_points: false,
            lines,
        }
    }

    fn line(&self, series: &Series, points: Vec<(f64, f64)>) -> Line {
        let name = self.report.engine_name(series.engine).to_owned();
        Line { name, colour: colour(series.engine), points }
    }
}

/// A bar with its words.
pub(super) fn bar(
    name: &str,
    engine: usize,
    parts: Vec<f64>,
    spread: Spread,
    show: fn(f64) -> String,
) -> Bar {
    let (min, max) = (show(spread.min), show(spread.max));
    let mut hover = format!("{name}: {}", show(spread.median));
    if min != max {
        hover.push_str(&format!(", from {min} to {max} over the rounds"));
    }
    let spread = Some((spread.min, spread.max));
    Bar { name: name.to_owned(), colour: colour(engine), parts, spread, hover }
}

/// The medians of each part over the rounds.
pub(super) fn middles(runs: &[Vec<f64>]) -> Vec<f64> {
    let count = runs.iter().map(Vec::len).min().unwrap_or(0);
    let part = |at: usize| {
        let figures: Vec<f64> = runs.iter().filter_map(|parts| parts.get(at).copied()).collect();
        crate::ratio::median(&figures).unwrap_or(0.0)
    };
    (0..count).map(part).collect()
}

/// One in how many operations is longer than the latency at a quantile; at 1, where there is none,
/// one of all.
fn rarity(quantile: f64, operations: f64) -> f64 {
    let most = operations.max(1.0);
    match quantile < 1.0 {
        true => (1.0 / (1.0 - quantile)).clamp(1.0, most),
        false => most,
    }
}

/// Points of a plot over time, at most.
const STEPS_MAX: usize = 300;

/// The speed between samples as steps: of several samples together where there are many. Nothing
/// where a run is too short to say anything.
fn steps(run: &Measurement) -> Vec<(f64, f64)> {
    let together = run.samples.len().div_ceil(STEPS_MAX).max(1);
    let mut points = Vec::new();
    let (mut since_s, mut before) = (0.0, 0);
    for sample in run.samples.chunks(together).filter_map(<[_]>::last) {
        let elapsed = sample.t_s - since_s;
        // The rest of the last second says little.
        if elapsed < 0.1 {
            continue;
        }
        let speed = sample.operations.saturating_sub(before) as f64 / elapsed;
        points.extend([(since_s, speed), (sample.t_s, speed)]);
        (since_s, before) = (sample.t_s, sample.operations);
    }
    if points.len() < 4 { Vec::new() } else { points }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_is_one_of_all() {
        assert_eq!(rarity(0.0, 1e3), 1.0);
        assert!((rarity(0.99, 1e3) - 100.0).abs() < 1e-6);
        assert_eq!(rarity(1.0, 1e3), 1e3);
        assert_eq!(rarity(0.99999, 1e3), 1e3);
    }

    #[test]
    fn parts_have_their_own_medians() {
        assert_eq!(middles(&[vec![1.0, 9.0], vec![3.0, 5.0], vec![2.0, 7.0]]), [2.0, 7.0]);
        assert!(middles(&[vec![], vec![1.0]]).is_empty());
    }
}
