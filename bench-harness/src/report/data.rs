//! [`Report`]: what was read, by workload and engine.

use ferrokit_engine::{Error, Result};

use super::input::Input;
use super::servers::Drive;
use super::words::phrases;
use crate::measurement::Measurement;
use crate::ratio::{Ratio, median};
use crate::record::{Machine, Parameters, RunRecord};

/// What a report says.
pub(super) struct Report {
    /// Its title.
    pub(super) title: String,
    /// Where and how it was measured: one for each measuring process.
    pub(super) machines: Vec<Machine>,
    /// The engines, in the order they come in.
    pub(super) engines: Vec<Engine>,
    /// Which of them the others are relative to.
    pub(super) baseline: usize,
    /// The workloads, each with its parameters, in the order they come in.
    pub(super) groups: Vec<Group>,
    /// The servers.
    pub(super) servers: Vec<Engine>,
    /// Which of them the others are relative to.
    pub(super) server_baseline: usize,
    /// The ways that servers were driven.
    pub(super) drives: Vec<Drive>,
}

/// An engine or a server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Engine {
    /// Its name.
    pub(super) name: String,
    /// Its settings, each once.
    pub(super) settings: Vec<String>,
    /// Cases of the conformance suite that its adapter does not pass.
    pub(super) skipped_cases: String,
}

/// The runs with the same workload and parameters.
pub(super) struct Group {
    /// The workload's name.
    pub(super) workload: String,
    /// The same in words.
    pub(super) summary: String,
    /// Its parameters.
    pub(super) parameters: Parameters,
    /// What tells it from other groups of its workload.
    pub(super) variant: String,
    /// One per engine that was asked for, in the engines' order.
    pub(super) series: Vec<Series>,
}

/// When a run was: measuring process and round. Runs of the same moment are interleaved.
pub(super) type Moment = (usize, usize);

/// The runs of one engine in a group.
#[derive(Default)]
pub(super) struct Series {
    /// The engine's place in [`Report::engines`].
    pub(super) engine: usize,
    /// The runs.
    pub(super) runs: Vec<(Moment, Measurement)>,
    /// Why there is none.
    pub(super) unsupported: Option<String>,
}

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// Its median.
    pub(super) median: f64,
    /// Its least value.
    pub(super) min: f64,
    /// Its greatest.
    pub(super) max: f64,
}

impl Spread {
    /// Of figures; `None` of nothing.
    pub(super) fn of(figures: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(figures)?,
            min: figures.iter().copied().fold(f64::INFINITY, f64::min),
            max: figures.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// Figures of `own` and `baseline` at the same moments, as ratios. Without common moments it is the
/// ratio of medians, with no rounds.
pub(super) fn ratio_of(own: &[(Moment, f64)], baseline: &[(Moment, f64)]) -> Option<Ratio> {
    let at = |moment: Moment| baseline.iter().find(|(other, _)| *other == moment);
    let pairs: Vec<(f64, f64)> =
        own.iter().filter_map(|(moment, figure)| Some((*figure, at(*moment)?.1))).collect();
    if !pairs.is_empty() {
        let (own, baseline): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        return Ratio::of(&own, &baseline);
    }
    let middle = |figures: &[(Moment, f64)]| {
        median(&figures.iter().map(|(_, figure)| *figure).collect::<Vec<_>>())
    };
    let ratio = Ratio::of(&[middle(own)?], &[middle(baseline)?])?;
    Some(Ratio { rounds: 0, ..ratio })
}

impl Series {
    /// A figure over the rounds.
    pub(super) fn spread(&self, figure: impl Fn(&Measurement) -> f64) -> Option<Spread> {
        let figures: Vec<f64> = self.runs.iter().map(|(_, run)| figure(run)).collect();
        Spread::of(&figures)
    }

    /// Its median.
    pub(super) fn median(&self, figure: impl Fn(&Measurement) -> f64) -> Option<f64> {
        self.spread(figure).map(|spread| spread.median)
    }

    /// The run whose throughput is the median, or next to it.
    pub(super) fn typical(&self) -> Option<&Measurement> {
        let mut runs: Vec<&Measurement> = self.runs.iter().map(|(_, run)| run).collect();
        runs.sort_by(|one, other| one.ops_per_s.total_cmp(&other.ops_per_s));
        runs.get(runs.len() / 2).copied()
    }

    /// The median over the rounds at each quantile of the latency curve that all rounds have.
    pub(super) fn latency_curve(&self) -> Vec<(f64, f64)> {
        let Some((_, first)) = self.runs.first() else { return Vec::new() };
        let at = |quantile: f64| {
            let found = self.runs.iter().map(|(_, run)| {
                let point = run.latency_curve.iter().find(|(other, _)| *other == quantile);
                point.map(|(_, latency)| *latency as f64)
            });
            Some((quantile, median(&found.collect::<Option<Vec<f64>>>()?)?))
        };
        first.latency_curve.iter().filter_map(|(quantile, _)| at(*quantile)).collect()
    }

    fn speeds(&self) -> Vec<(Moment, f64)> {
        self.runs.iter().map(|(moment, run)| (*moment, run.ops_per_s)).collect()
    }
}

impl Group {
    /// Operations per second of a series, relative to the baseline.
    pub(super) fn ratio(&self, series: &Series, baseline: usize) -> Option<Ratio> {
        let baseline = self.series.iter().find(|series| series.engine == baseline)?;
        ratio_of(&series.speeds(), &baseline.speeds())
    }

    /// The most rounds that a series has.
    pub(super) fn rounds(&self) -> usize {
        self.series.iter().map(|series| series.runs.len()).max().unwrap_or(0)
    }

    /// Its name with its variant.
    pub(super) fn name(&self) -> String {
        match self.variant.is_empty() {
            true => self.workload.clone(),
            false => format!("{} · {}", self.workload, self.variant),
        }
    }
}

impl Report {
    /// Of what was read. The baseline is the one named, else that of the input, else the first.
    ///
    /// # Errors
    /// `InvalidArgument` if there are no measurements, or none of the baseline named.
    pub(super) fn of(input: &Input, title: &str, baseline: Option<&str>) -> Result<Self> {
        if input.runs.is_empty() && input.servers.is_empty() {
            return Err(Error::invalid("bench.report", "the files hold no measurements"));
        }
        let mut report = Self {
            title: title.to_owned(),
            machines: input.machines.clone(),
            engines: Vec::new(),
            baseline: 0,
            groups: Vec::new(),
            servers: Vec::new(),
            server_baseline: 0,
            drives: Vec::new(),
        };
        for (process, run) in &input.runs {
            report.add_run(*process, run);
        }
        report.gather_groups();
        report.tell_groups_apart();
        (report.servers, report.drives) = Drive::all_of(&input.servers);
        let place = |engines: &[Engine], name: Option<&str>| {
            engines.iter().position(|engine| Some(engine.name.as_str()) == name)
        };
        let in_engines = place(&report.engines, baseline.or(input.baseline.as_deref()));
        let in_servers = place(&report.servers, baseline.or(input.server_baseline.as_deref()));
        if let (Some(name), None, None) = (baseline, in_engines, in_servers) {
            let message = format!("--baseline {name} is none of the engines");
            return Err(Error::invalid("bench.report", message));
        }
        report.baseline = in_engines.unwrap_or(0);
        report.server_baseline = in_servers.unwrap_or(0);
        Ok(report)
    }

    fn add_run(&mut self, process: usize, run: &RunRecord) {
        let moment = (process, run.round);
        let group = self.group(run);
        // An engine that takes part twice in a round is two: that is how noise is measured.
        let mut name = run.engine.clone();
        for occurrence in 2.. {
            let engine = self.engines.iter().position(|engine| engine.name == name);
            let is_taken = engine.is_some_and(|engine| {
                self.groups.get(group).is_some_and(|group| {
                    let own = group.series.iter().find(|series| series.engine == engine);
                    own.is_some_and(|own| own.runs.iter().any(|(other, _)| *other == moment))
                })
            });
            if !is_taken {
                break;
            }
            name = format!("{} ({occurrence})", run.engine);
        }
        let engine = note_engine(
            &mut self.engines,
            &name,
            run.measurement.as_ref().map(|measurement| measurement.settings.as_str()),
            &run.skipped_cases,
        );
        let Some(group) = self.groups.get_mut(group) else { return };
        let place = group.series.partition_point(|series| series.engine < engine);
        if group.series.get(place).is_none_or(|series| series.engine != engine) {
            group.series.insert(place, Series { engine, ..Series::default() });
        }
        let Some(series) = group.series.get_mut(place) else { return };
        match &run.measurement {
            Some(measurement) => series.runs.push((moment, measurement.clone())),
            None => series.unsupported = run.unsupported.clone(),
        }
    }

    fn group(&mut self, run: &RunRecord) -> usize {
        let workload = run.workload.to_string();
        let found = self
            .groups
            .iter()
            .position(|group| group.workload == workload && group.parameters == run.parameters);
        found.unwrap_or_else(|| {
            self.groups.push(Group {
                workload,
                summary: run.summary.clone(),
                parameters: run.parameters.clone(),
                variant: String::new(),
                series: Vec::new(),
            });
            self.groups.len() - 1
        })
    }

    /// Groups of the same workload come together, in the place of the first.
    fn gather_groups(&mut self) {
        let names: Vec<String> = self.groups.iter().map(|group| group.workload.clone()).collect();
        self.groups.sort_by_key(|group| names.iter().position(|name| *name == group.workload));
    }

    /// Groups of the same workload are told apart by the parameters in which they differ.
    fn tell_groups_apart(&mut self) {
        let all: Vec<(String, Vec<String>)> = self
            .groups
            .iter()
            .map(|group| (group.workload.clone(), phrases(&group.parameters)))
            .collect();
        for (group, (workload, own)) in self.groups.iter_mut().zip(&all) {
            let differs = |at: usize| {
                let others = all.iter().filter(|(other, _)| other == workload);
                others.into_iter().any(|(_, other)| other.get(at) != own.get(at))
            };
            let telling = own.iter().enumerate().filter(|(at, _)| differs(*at));
            let telling: Vec<&str> = telling.map(|(_, phrase)| phrase.as_str()).collect();
            group.variant = telling.join(", ");
        }
    }

    /// An engine's name.
    pub(super) fn engine_name(&self, engine: usize) -> &str {
        self.engines.get(engine).map_or("", |engine| engine.name.as_str())
    }
}

/// The place of an engine in a list, to which it is added if it is new, as are its settings.
pub(super) fn note_engine(
    engines: &mut Vec<Engine>,
    name: &str,
    settings: Option<&str>,
    skipped_cases: &str,
) -> usize {
    let found = engines.iter().position(|engine| engine.name == name);
    let place = found.unwrap_or_else(|| {
        engines.push(Engine {
            name: name.to_owned(),
            settings: Vec::new(),
            skipped_cases: skipped_cases.to_owned(),
        });
        engines.len() - 1
    });
    if let (Some(settings), Some(engine)) = (settings, engines.get_mut(place))
        && !engine.settings.iter().any(|other| other == settings)
    {
        engine.settings.push(settings.to_owned());
    }
    place
}

/// The style sheet's class for the colour of an engine.
pub(super) fn colour(engine: usize) -> String {
    let dashes = if engine >= COLOURS { " dashed" } else { "" };
    format!("c{}{dashes}", engine % COLOURS)
}

/// Colours in the style sheet. Further engines have them again, dashed.
const COLOURS: usize = 8;
