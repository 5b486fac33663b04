//! Servers: throughput, latency, and what they do with a second of processor time.

use super::bars::{Bar, Bars};
use super::data::{Engine, Moment, Report, Spread, note_engine, ratio_of};
use super::input::{ServerParameters, ServerRecord};
use super::markup::Markup;
use super::overview::{Cell, Overview, OverviewRow};
use super::section::{bar, middles};
use super::tables::{Table, ratio_words};
use super::words::{bytes, count, time_ns};
use crate::ratio::median;

/// A way to drive servers.
pub(super) struct Drive {
    /// The command that they are sent.
    pub(super) workload: String,
    /// Everything else.
    pub(super) parameters: ServerParameters,
    /// One per server, in the servers' order.
    pub(super) series: Vec<ServerSeries>,
}

/// The runs of one server.
pub(super) struct ServerSeries {
    server: usize,
    runs: Vec<(Moment, ServerRecord)>,
}

impl ServerSeries {
    fn figures(&self, figure: fn(&ServerRecord) -> f64) -> Vec<(Moment, f64)> {
        self.runs.iter().map(|(moment, run)| (*moment, figure(run))).collect()
    }
}

impl Drive {
    /// All servers, and all ways in which they were driven.
    pub(super) fn all_of(records: &[(usize, ServerRecord)]) -> (Vec<Engine>, Vec<Self>) {
        let (mut servers, mut drives) = (Vec::new(), Vec::<Self>::new());
        for (process, record) in records {
            let server = note_engine(&mut servers, &record.server, Some(&record.settings), "");
            let found = drives.iter().position(|drive| {
                drive.workload == record.workload && drive.parameters == record.parameters
            });
            let place = found.unwrap_or_else(|| {
                let (workload, parameters) = (record.workload.clone(), record.parameters.clone());
                drives.push(Self { workload, parameters, series: Vec::new() });
                drives.len() - 1
            });
            let Some(drive) = drives.get_mut(place) else { continue };
            let place = drive.series.partition_point(|series| series.server < server);
            if drive.series.get(place).is_none_or(|series| series.server != server) {
                drive.series.insert(place, ServerSeries { server, runs: Vec::new() });
            }
            if let Some(series) = drive.series.get_mut(place) {
                series.runs.push(((*process, record.round), record.clone()));
            }
        }
        (servers, drives)
    }

    /// What tells it from others with its command.
    pub(super) fn words(&self) -> String {
        let ServerParameters { connections, pipeline, .. } = self.parameters;
        let depth = match pipeline {
            1 => "one request at a time".to_owned(),
            _ => format!("pipelines of {pipeline}"),
        };
        let connections = match connections {
            1 => "1 connection".to_owned(),
            _ => format!("{connections} connections"),
        };
        let rate = self.parameters.rate_per_s.map(|rate| format!(", {}/s offered", count(rate)));
        format!("{connections}, {depth}{}", rate.unwrap_or_default())
    }

    fn with(&self) -> String {
        let ServerParameters { value_bytes, records, durability, distribution, .. } =
            &self.parameters;
        let accesses = distribution.as_ref().map(|name| format!(" · {name}")).unwrap_or_default();
        let values = bytes(*value_bytes as f64);
        let records = count(*records as f64);
        format!("{records} records · {values} values{accesses} · durability {durability}")
    }

    /// Its figures: medians over the rounds.
    pub(super) fn table(&self, report: &Report) -> Table {
        let head = ["server", "ops/s", "ratio", "p50", "p99", "p99.9", "ops/CPU s", "ratio", "RSS"];
        let baseline = self.series.iter().find(|series| series.server == report.server_baseline);
        let row = |series: &ServerSeries| {
            let name = report.servers.get(series.server).map_or("", |server| &server.name);
            let figure = |figure: fn(&ServerRecord) -> f64, show: fn(f64) -> String| {
                let figures: Vec<f64> =
                    series.figures(figure).into_iter().map(|(_, figure)| figure).collect();
                median(&figures).map_or_else(String::new, show)
            };
            let ratio = |figure: fn(&ServerRecord) -> f64| match baseline {
                _ if series.server == report.server_baseline => "baseline".to_owned(),
                Some(baseline) => {
                    let of = ratio_of(&series.figures(figure), &baseline.figures(figure));
                    let [ratio, spread] = ratio_words(of);
                    format!("{ratio} ({spread})").replace(" ()", "")
                }
                None => "–".to_owned(),
            };
            vec![
                name.to_owned(),
                figure(|run| run.ops_per_s, count),
                ratio(|run| run.ops_per_s),
                figure(|run| run.latency_ns.p50 as f64, time_ns),
                figure(|run| run.latency_ns.p99 as f64, time_ns),
                figure(|run| run.latency_ns.p999 as f64, time_ns),
                figure(|run| run.ops_per_cpu_s, count),
                ratio(|run| run.ops_per_cpu_s),
                figure(|run| run.rss_bytes as f64, bytes),
            ]
        };
        Table {
            head: head.map(str::to_owned).to_vec(),
            rows: self.series.iter().map(row).collect(),
        }
    }

    fn bars(
        &self,
        report: &Report,
        (title, note): (&'static str, &'static str),
        show: fn(f64) -> String,
        parts: fn(&ServerRecord) -> Vec<f64>,
    ) -> Bars {
        let bar = |series: &ServerSeries| -> Option<Bar> {
            let runs: Vec<Vec<f64>> = series.runs.iter().map(|(_, run)| parts(run)).collect();
            let sums: Vec<f64> = runs.iter().map(|parts| parts.iter().sum()).collect();
            let name = report.servers.get(series.server).map_or("", |server| &server.name);
            Some(bar(name, series.server, middles(&runs), Spread::of(&sums)?, show))
        };
        Bars { title, note, show, bars: self.series.iter().filter_map(bar).collect() }
    }

    fn draw(&self, out: &mut Markup, report: &Report, number: usize) {
        out.element("section", &[("id", &format!("server-{number}"))], |out| {
            out.leaf("h3", &[], &self.workload);
            out.leaf("p", &[("class", &"summary")], self.words());
            out.leaf("p", &[("class", &"with")], self.with());
            out.element("div", &[("class", &"plots")], |out| {
                let words = ("Throughput", "operations per second");
                self.bars(report, words, count, |run| vec![run.ops_per_s]).draw(out);
                let words = ("Operations per CPU second", "of the server");
                self.bars(report, words, count, |run| vec![run.ops_per_cpu_s]).draw(out);
                let words = ("Latency", "the median, and pale up to the 99th percentile");
                let parts = |run: &ServerRecord| {
                    let (p50, p99) = (run.latency_ns.p50, run.latency_ns.p99);
                    vec![p50 as f64, p99.saturating_sub(p50) as f64]
                };
                self.bars(report, words, time_ns, parts).draw(out);
            });
            out.element("details", &[], |out| {
                out.leaf("summary", &[], "Figures");
                self.table(report).draw(out);
            });
        });
    }
}

/// The heat tables of servers: throughput, and throughput by processor time.
pub(super) fn overviews(report: &Report) -> [(&'static str, Overview<'_>); 2] {
    let of = |unit: &'static str, figure: fn(&ServerRecord) -> f64| {
        let rows = report.drives.iter().enumerate().map(|(number, drive)| {
            let mut cells: Vec<Option<Cell>> = report.servers.iter().map(|_| None).collect();
            for series in &drive.series {
                if let Some(place) = cells.get_mut(series.server) {
                    *place = Some(Cell::Figures(series.figures(figure)));
                }
            }
            OverviewRow {
                name: drive.workload.clone(),
                variant: drive.words(),
                target: format!("server-{number}"),
                summary: drive.with(),
                cells,
            }
        });
        let rows = rows.collect();
        let (engines, baseline) = (&report.servers, report.server_baseline);
        Overview { engines, baseline, head: "command", unit, rows }
    };
    [
        ("Operations per second", of("ops/s", |run| run.ops_per_s)),
        (
            "Operations per second of the server's processor time",
            of("ops/CPU s", |run| run.ops_per_cpu_s),
        ),
    ]
}

/// Adds the part about servers, if there are any.
pub(super) fn draw(out: &mut Markup, report: &Report) {
    if report.drives.is_empty() {
        return;
    }
    out.element("section", &[("id", &"servers")], |out| {
        out.leaf("h2", &[], "Servers");
        out.leaf(
            "p",
            &[("class", &"summary")],
            "Client and server share the machine, so that \
             throughput shows both. Operations per second of the server's own processor time \
             (user and system, its children included) show the server alone.",
        );
        for (title, overview) in overviews(report) {
            out.leaf("h4", &[], title);
            overview.draw(out);
        }
    });
    for (number, drive) in report.drives.iter().enumerate() {
        drive.draw(out, report, number);
    }
}
