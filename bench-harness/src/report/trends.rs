//! What becomes of throughput as there are more records, and as more threads commit at once.

use super::axis::{Axis, Scale, bounds};
use super::data::{Group, Report, colour};
use super::lines::{Line, Lines};
use super::markup::Markup;
use super::words::{CALLER_PHRASE, SIZE_PHRASES, count, phrases, time_ns};
use crate::measurement::Measurement;

/// Groups that differ in one number only.
struct Family<'a> {
    name: String,
    /// Each with that number, ascending.
    members: Vec<(f64, &'a Group)>,
}

/// Adds both parts, as far as there is something to be seen.
pub(super) fn draw(out: &mut Markup, report: &Report) {
    let sizes = families(
        report,
        |group| {
            let phrases = without(group, &SIZE_PHRASES);
            Some((format!("{} {phrases:?}", group.workload), group.workload.clone()))
        },
        |group| group.parameters.records as f64,
    );
    if !sizes.is_empty() {
        out.element("section", &[("id", &"growth")], |out| {
            out.leaf("h2", &[], "Growth with the number of records");
            out.leaf(
                "p",
                &[("class", &"summary")],
                "Each axis is logarithmic: a straight level \
                 line does not care about size. Medians over the rounds.",
            );
            for family in &sizes {
                draw_family(out, report, family, "records");
            }
        });
    }
    let writers = families(
        report,
        |group| {
            let name = "commit";
            let is_commit = group.workload == name || group.workload.starts_with("commit-");
            let phrases = without(group, &[CALLER_PHRASE]);
            is_commit.then(|| (format!("{phrases:?}"), name.to_owned()))
        },
        |group| group.parameters.threads as f64,
    );
    if !writers.is_empty() {
        out.element("section", &[("id", &"writers")], |out| {
            out.leaf("h2", &[], "Durable commits by writers");
            out.leaf(
                "p",
                &[("class", &"summary")],
                "Threads that each wait until their write \
                 survives a loss of power. An engine that commits several at once gains by more.",
            );
            for family in &writers {
                draw_family(out, report, family, "threads that write");
            }
        });
    }
}

/// The phrases of a group but for those at `places`.
fn without(group: &Group, places: &[usize]) -> Vec<String> {
    let phrases = phrases(&group.parameters).into_iter().enumerate();
    phrases.filter(|(at, _)| !places.contains(at)).map(|(_, phrase)| phrase).collect()
}

/// Groups with the same key, with their number; only where there are several numbers.
fn families<'a>(
    report: &'a Report,
    key: impl Fn(&Group) -> Option<(String, String)>,
    number: impl Fn(&Group) -> f64,
) -> Vec<Family<'a>> {
    let mut families: Vec<(String, Family<'a>)> = Vec::new();
    for group in &report.groups {
        let Some((key, name)) = key(group) else { continue };
        let member = (number(group), group);
        match families.iter_mut().find(|(other, _)| *other == key) {
            Some((_, family)) => family.members.push(member),
            None => families.push((key, Family { name, members: vec![member] })),
        }
    }
    let mut families: Vec<Family<'a>> = families.into_iter().map(|(_, family)| family).collect();
    for family in &mut families {
        family.members.sort_by(|one, other| one.0.total_cmp(&other.0));
        family.members.dedup_by(|one, other| one.0 == other.0);
    }
    families.retain(|family| family.members.len() > 1);
    families
}

fn draw_family(out: &mut Markup, report: &Report, family: &Family<'_>, across: &'static str) {
    out.leaf("h3", &[], &family.name);
    out.element("div", &[("class", &"plots")], |out| {
        plot(report, family, across, "Throughput", "operations per second", count, |run| {
            run.ops_per_s
        })
        .draw(out);
        plot(report, family, across, "Latency", "99th percentile", time_ns, |run| {
            run.latency_ns.p99 as f64
        })
        .draw(out);
        plot(report, family, across, "CPU time", "per operation", time_ns, |run| {
            run.cpu_us_per_operation() * 1e3
        })
        .draw(out);
    });
}

fn plot(
    report: &Report,
    family: &Family<'_>,
    across: &'static str,
    title: &'static str,
    note: &'static str,
    show: fn(f64) -> String,
    figure: fn(&Measurement) -> f64,
) -> Lines {
    let mut lines = Vec::new();
    for (engine, name) in report.engines.iter().map(|engine| &engine.name).enumerate() {
        let point = |(number, group): &(f64, &Group)| {
            let series = group.series.iter().find(|series| series.engine == engine)?;
            series.median(figure).map(|figure| (*number, figure))
        };
        let points: Vec<(f64, f64)> = family.members.iter().filter_map(point).collect();
        if points.len() > 1 {
            lines.push(Line { name: name.clone(), colour: colour(engine), points });
        }
    }
    let ends = bounds(family.members.iter().map(|(number, _)| *number)).unwrap_or((1.0, 2.0));
    let marks = family.members.iter().map(|(number, _)| (*number, count(*number))).collect();
    let figures = lines.iter().flat_map(|line| line.points.iter().map(|(_, figure)| *figure));
    Lines {
        title,
        note,
        up: Axis::log("", figures.collect::<Vec<_>>().into_iter(), show),
        across: Axis::marked(across, Scale::Log, ends, marks),
        show,
        show_across: count,
        has_points: true,
        lines,
    }
}
