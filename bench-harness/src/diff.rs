//! Whether new results are slower than old ones.
//!
//! For each engine, workload and parameters (and each server and way to drive it) the rounds of both
//! files are two small samples. What is shown is the Hodges-Lehmann estimate of the ratio new / old
//! with its interval, see [`shift`](crate::diff::Shift). It is **slower** (or **faster**) if for
//! operations per second or for processor time per operation
//!
//! - the interval does not hold 1: the Mann-Whitney test tells the samples apart, and
//! - the estimate is off by more than the threshold.
//!
//! Both are needed: with many rounds a test finds differences too small to matter, with few the
//! estimate alone finds differences that are noise. Both figures are looked at, since on a shared
//! machine throughput depends on what else runs, and processor time does not nearly as much, but
//! throughput alone shows waiting. The verdict names the one that decided; if they contradict each
//! other, the slower one does. Latencies are shown, and do not decide: they follow throughput in a
//! closed loop.
//!
//! **Same** means that no difference was shown; the bound beside it is how far the narrower of the
//! two intervals reaches. With fewer than five rounds of each nothing can be shown at this level of
//! error, whatever the figures: it is **unknown**.
//!
//! A drift of the machine between two results is taken for a change of the program. Alternate:
//! run old, new, old, new, ..., one round each, and join the lines of each.

mod results;
mod shift;

use std::fmt::Write;

use ferrokit_engine::{Error, Result};

pub use results::{Results, Rounds, RowName};
pub use shift::Shift;

/// What is compared with what.
#[derive(Debug, Clone, clap::Args)]
pub struct DiffOptions {
    /// The old results: what `--json` wrote.
    old: String,
    /// The new ones.
    new: String,
    /// Changes up to this do not matter.
    #[arg(long, default_value = "3%", value_parser = parse_percent)]
    threshold: f64,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').map(str::trim_end).and_then(|text| text.parse().ok());
    match number {
        Some(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a threshold is a percentage, as 3%".to_owned()),
    }
}

/// Whether something became slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// By this figure.
    Slower(&'static str),
    /// By this figure, and by none slower.
    Faster(&'static str),
    /// No difference was shown. One of more than this would have been.
    Same(f64),
    /// There are too few rounds.
    Unknown,
    /// It was measured in the old results, and cannot be done in the new ones.
    Lost,
}

/// How the new results differ from the old ones in one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What was measured.
    pub name: RowName,
    /// Rounds of the old and of the new results.
    pub rounds: [usize; 2],
    /// Operations per second, new by old.
    pub ops_per_s: Option<Shift>,
    /// Processor time per operation.
    pub cpu: Option<Shift>,
    /// The median latency.
    pub p50: Option<Shift>,
    /// The 99th percentile of latency.
    pub p99: Option<Shift>,
    /// What follows.
    pub verdict: Verdict,
}

impl Difference {
    /// Of the rounds of one row.
    pub fn of(name: &RowName, old: &Rounds, new: &Rounds, threshold: f64) -> Self {
        let ops_per_s = Shift::of(&old.ops_per_s, &new.ops_per_s);
        let cpu = Shift::of(&old.cpu_ns, &new.cpu_ns);
        let p50 = Shift::of(&old.p50_ns, &new.p50_ns);
        let is_lost = new.ops_per_s.is_empty() && new.unsupported.is_some();
        Self {
            name: name.clone(),
            rounds: [old.ops_per_s.len(), new.ops_per_s.len()],
            ops_per_s,
            cpu,
            p50,
            p99: Shift::of(&old.p99_ns, &new.p99_ns),
            verdict: if is_lost {
                Verdict::Lost
            } else {
                decide([cpu, ops_per_s.map(Shift::inverse), p50], threshold)
            },
        }
    }
}

/// The figures that decide. Others' work on the machine shows in the first two more than in the
/// median of the latencies.
const FIGURES: [&str; 3] = ["processor time", "throughput", "median latency"];

/// Of all figures, more is slower.
fn decide(figures: [Option<Shift>; 3], threshold: f64) -> Verdict {
    let mut shifts = figures.into_iter();
    let costs = FIGURES.map(|name| (name, shifts.next().flatten()));
    let costs = costs.map(|(name, shift)| (name, shift.filter(|shift| shift.is_bounded())));
    let greater = |shift: &Shift| shift.low > 1.0 && shift.ratio > 1.0 + threshold;
    let less = |shift: &Shift| shift.high < 1.0 && shift.ratio < 1.0 / (1.0 + threshold);
    let find = |is: &dyn Fn(&Shift) -> bool| {
        costs.iter().find(|(_, shift)| shift.as_ref().is_some_and(is)).map(|(name, _)| *name)
    };
    if let Some(name) = find(&greater) {
        return Verdict::Slower(name);
    }
    if let Some(name) = find(&less) {
        return Verdict::Faster(name);
    }
    let reaches = costs.iter().filter_map(|(_, shift)| shift.as_ref().map(Shift::reach));
    reaches.min_by(f64::total_cmp).map_or(Verdict::Unknown, Verdict::Same)
}

/// Compares two results, row by row, in the order of the old ones.
pub fn compare(old: &Results, new: &Results, threshold: f64) -> Vec<Difference> {
    let measured = old.rows.iter().filter(|(_, rounds)| !rounds.ops_per_s.is_empty());
    measured
        .filter_map(|(name, old)| Some(Difference::of(name, old, new.get(name)?, threshold)))
        .collect()
}

/// Prints how two files differ; whether anything is slower.
///
/// # Errors
/// `Io`; `InvalidArgument` if a line is no record, or nothing was measured in both.
pub fn run(options: &DiffOptions) -> Result<bool> {
    let (old, new) = (Results::read(&options.old)?, Results::read(&options.new)?);
    let differences = compare(&old, &new, options.threshold);
    if differences.is_empty() {
        let message = "nothing was measured with the same parameters in both files";
        return Err(Error::invalid("bench.diff", message));
    }
    println!("{}", table(&differences, &old, &new, options));
    Ok(differences.iter().any(|row| matches!(row.verdict, Verdict::Slower(_) | Verdict::Lost)))
}

fn table(
    differences: &[Difference],
    old: &Results,
    new: &Results,
    options: &DiffOptions,
) -> String {
    let mut out = format!(
        "new by old ({} by {}), with an interval that holds it in 99 of 100 cases\n",
        options.new, options.old
    );
    let all = || old.rows.iter().chain(&new.rows).map(|(name, _)| name);
    let names: Vec<String> = differences.iter().map(|row| row.name.among(all())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let columns = ["ops/s", "CPU/op", "p50", "p99"].map(|head| format!("{head:>19}")).join(" ");
    let _ = writeln!(out, "{:width$} {:>7} {columns}  verdict", "", "rounds");
    for (row, name) in differences.iter().zip(&names) {
        let rounds = format!("{}, {}", row.rounds[0], row.rounds[1]);
        let figures = [row.ops_per_s, row.cpu, row.p50, row.p99].map(shown).join(" ");
        let _ =
            writeln!(out, "{name:width$} {rounds:>7} {figures}  {}", verdict_words(row.verdict));
    }
    for (results, other, file) in [(old, new, &options.old), (new, old, &options.new)] {
        for (name, _) in results.rows.iter().filter(|(name, _)| other.get(name).is_none()) {
            let _ = writeln!(out, "{} is in {file} only", name.among(all()));
        }
    }
    let count =
        |is: fn(&Verdict) -> bool| differences.iter().filter(|row| is(&row.verdict)).count();
    let slower = count(|verdict| matches!(verdict, Verdict::Slower(_) | Verdict::Lost));
    let faster = count(|verdict| matches!(verdict, Verdict::Faster(_)));
    let unknown = count(|verdict| *verdict == Verdict::Unknown);
    let _ = write!(
        out,
        "{slower} slower, {faster} faster, {} without a difference of more than {:.1} % shown",
        differences.len() - slower - faster - unknown,
        options.threshold * 100.0
    );
    if unknown > 0 {
        let _ = write!(out, ", {unknown} with too few rounds (five of each are enough)");
    }
    out
}

fn shown(shift: Option<Shift>) -> String {
    let words = match shift {
        None => "-".to_owned(),
        Some(shift) if shift.is_bounded() => {
            format!("{:.3} ({:.2}-{:.2})", shift.ratio, shift.low, shift.high)
        }
        Some(shift) => format!("{:.3}", shift.ratio),
    };
    format!("{words:>19}")
}

fn verdict_words(verdict: Verdict) -> String {
    match verdict {
        Verdict::Slower(figure) => format!("slower, by {figure}"),
        Verdict::Faster(figure) => format!("faster, by {figure}"),
        Verdict::Same(reach) => format!("same, within {:.1} %", reach * 100.0),
        Verdict::Unknown => "unknown: too few rounds".to_owned(),
        Verdict::Lost => "slower: it cannot do this any more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(ops_per_s: &[f64], cpu_ns: &[f64]) -> Rounds {
        let (ops_per_s, cpu_ns) = (ops_per_s.to_vec(), cpu_ns.to_vec());
        Rounds { ops_per_s, cpu_ns, ..Rounds::default() }
    }

    fn verdict(old: &Rounds, new: &Rounds) -> Verdict {
        Difference::of(&RowName::default(), old, new, 0.03).verdict
    }

    #[test]
    fn processor_time_shows_what_throughput_hides() {
        let noisy = [100.0, 60.0, 130.0, 90.0, 110.0];
        let old = rounds(&noisy, &[10.0, 10.1, 9.9, 10.05, 9.95]);
        let new = rounds(&noisy, &[10.5, 10.6, 10.4, 10.55, 10.45]);
        assert_eq!(verdict(&old, &new), Verdict::Slower("processor time"));
        assert_eq!(verdict(&new, &old), Verdict::Faster("processor time"));
        assert!(matches!(verdict(&old, &old), Verdict::Same(reach) if reach < 0.03));
    }

    #[test]
    fn waiting_shows_in_throughput() {
        let cpu = [10.0, 10.1, 9.9, 10.05, 9.95];
        let old = rounds(&[100.0, 101.0, 99.0, 100.5, 99.5], &cpu);
        let new = rounds(&[90.0, 91.0, 89.0, 90.5, 89.5], &cpu);
        assert_eq!(verdict(&old, &new), Verdict::Slower("throughput"));
        assert_eq!(verdict(&new, &old), Verdict::Faster("throughput"));
    }

    #[test]
    fn a_median_that_shifts_shows_where_the_sums_are_noise() {
        let noise = |p50: f64| Rounds {
            p50_ns: (0..6).map(|round| p50 + f64::from(round)).collect(),
            ..rounds(&[50.0, 100.0, 150.0, 60.0, 140.0, 90.0], &[1.0, 3.0, 2.0, 4.0, 1.5, 2.5])
        };
        assert_eq!(verdict(&noise(1000.0), &noise(1250.0)), Verdict::Slower("median latency"));
        assert!(matches!(verdict(&noise(1000.0), &noise(1000.0)), Verdict::Same(_)));
    }

    #[test]
    fn small_differences_and_few_rounds_decide_nothing() {
        let old = rounds(&[100.0, 101.0, 99.0, 100.5, 99.5], &[1.0; 5]);
        let new = rounds(&[97.5, 98.5, 96.5, 98.0, 97.0], &[1.02; 5]);
        assert!(matches!(verdict(&old, &new), Verdict::Same(_)));
        let few = rounds(&[50.0; 4], &[2.0; 4]);
        assert_eq!(verdict(&rounds(&[100.0; 4], &[1.0; 4]), &few), Verdict::Unknown);
    }

    #[test]
    fn what_cannot_be_done_any_more_is_slower() {
        let lost = Rounds { unsupported: Some("no".to_owned()), ..Rounds::default() };
        assert_eq!(verdict(&rounds(&[1.0; 5], &[1.0; 5]), &lost), Verdict::Lost);
    }

    #[test]
    fn thresholds_are_percentages() {
        assert_eq!(parse_percent("3%"), Ok(0.03));
        assert_eq!(parse_percent("2.5 %"), Ok(0.025));
        for wrong in ["3", "0.03", "-1%", "x%", "%", "nan%", "100%"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
