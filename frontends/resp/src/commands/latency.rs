//! LATENCY: what took long, and how long commands take.

use std::fmt::Write;

use super::metering::distribution;
use super::table::{self, CommandInfo, flag};
use super::{Context, Handler, Outcome, Refusal, help};
use crate::observe::{Distribution, Sample, Series};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "latency",
    arity: -2,
    since: "2.8.13",
    complexity: "Depends on subcommand.",
    summary: "A container for latency diagnostics commands.",
    subcommands: &[
        CommandInfo {
            name: "latency|doctor",
            arity: 2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
            since: "2.8.13",
            summary: "Returns a human-readable latency analysis report.",
            handler: Handler::LatencyDoctor,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|graph",
            arity: 3,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
            since: "2.8.13",
            summary: "Returns a latency graph for an event.",
            handler: Handler::LatencyGraph,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|help",
            arity: 2,
            flags: flag::LOADING | flag::STALE,
            since: "2.8.13",
            summary: "Returns helpful text about the different subcommands.",
            handler: Handler::LatencyHelp,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|histogram",
            arity: -2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands with latency information \
                             being retrieved.",
            summary: "Returns the cumulative distribution of latencies of a subset or all \
                          commands.",
            handler: Handler::LatencyHistogram,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|history",
            arity: 3,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
            since: "2.8.13",
            summary: "Returns timestamp-latency samples for an event.",
            handler: Handler::LatencyHistory,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|latest",
            arity: 2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
            since: "2.8.13",
            summary: "Returns the latest latency samples for all events.",
            handler: Handler::LatencyLatest,
            ..CommandInfo::DEFAULT
        },
        CommandInfo {
            name: "latency|reset",
            arity: -2,
            flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            since: "2.8.13",
            summary: "Resets the latency data for one or more events.",
            handler: Handler::LatencyReset,
            ..CommandInfo::DEFAULT
        },
    ],
    handler: Handler::Container,
    ..CommandInfo::DEFAULT
}];

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn history(cx: &mut Context<'_>) -> Outcome {
    let series = cx.shared.latency.series(cx.args.at(2)).map(|(_, series)| series);
    let samples = series.unwrap_or_default().samples;
    cx.reply.array(samples.len());
    for sample in samples {
        cx.reply.array(2);
        cx.reply.integer(number(sample.at_secs));
        cx.reply.integer(number(sample.millis));
    }
    Ok(())
}

pub(super) fn latest(cx: &mut Context<'_>) -> Outcome {
    let all = cx.shared.latency.all();
    cx.reply.array(all.len());
    for (event, series) in all {
        let last = series.samples.back().copied().unwrap_or(Sample { at_secs: 0, millis: 0 });
        cx.reply.array(4);
        cx.reply.bulk(event.as_bytes());
        for value in [last.at_secs, last.millis, series.longest_millis] {
            cx.reply.integer(number(value));
        }
    }
    Ok(())
}

pub(super) fn reset(cx: &mut Context<'_>) -> Outcome {
    let latency = &cx.shared.latency;
    let reset = match cx.args.len() {
        2 => latency.reset(None),
        _ => cx.args.from(2).map(|event| latency.reset(Some(event))).sum(),
    };
    cx.reply.count(reset);
    Ok(())
}

/// How the times of commands are distributed: of all that ran, or of those asked for.
pub(super) fn histogram(cx: &mut Context<'_>) -> Outcome {
    let with_subcommands = |row: &'static CommandInfo| std::iter::once(row).chain(row.subcommands);
    let asked: Vec<&CommandInfo> = match cx.args.len() {
        2 => table::all().flat_map(with_subcommands).collect(),
        _ => cx.args.from(2).filter_map(table::by_full_name).flat_map(with_subcommands).collect(),
    };
    let distributions: Vec<(&str, Distribution)> = asked
        .into_iter()
        .map(|row| (row.name, distribution(cx.shared, row)))
        .filter(|(_, distribution)| distribution.total() > 0)
        .collect();
    cx.reply.map(distributions.len());
    for (name, distribution) in distributions {
        let steps = distribution.by_doubling_micros();
        cx.reply.bulk(name.as_bytes());
        cx.reply.map(2);
        cx.reply.bulk(b"calls");
        cx.reply.integer(number(distribution.total()));
        cx.reply.bulk(b"histogram_usec");
        cx.reply.map(steps.len());
        for (micros, count) in steps {
            cx.reply.integer(number(micros));
            cx.reply.integer(number(count));
        }
    }
    Ok(())
}

/// Lines of a graph.
const GRAPH_LINES: u64 = 4;

pub(super) fn graph(cx: &mut Context<'_>) -> Outcome {
    let event = cx.args.at(2);
    let Some((event, series)) = cx.shared.latency.series(event) else {
        let event = super::shown(event);
        let text = format!("ERR No samples available for event '{event}'");
        return Err(Refusal::Text(text.into()));
    };
    let now = cx.shared.host.env.clock.now().0 / 1000;
    cx.reply.verbatim(&draw(event, &series, now));
    Ok(())
}

/// A column per sample, the older to the left, and below it how long ago that was.
fn draw(event: &str, series: &Series, now_secs: u64) -> String {
    let millis = || series.samples.iter().map(|sample| sample.millis);
    let (high, low) = (millis().max().unwrap_or(0), millis().min().unwrap_or(0));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}",
        series.longest_millis,
        "-".repeat(80)
    );
    let height = |millis: u64| match high - low {
        0 => 0,
        span => (millis - low) * GRAPH_LINES / (span + 1),
    };
    for line in (0..GRAPH_LINES).rev() {
        out.extend(millis().map(|millis| match height(millis) {
            at if at == line => '#',
            at if at > line => '|',
            _ => ' ',
        }));
        out.push('\n');
    }
    let ages: Vec<String> =
        series.samples.iter().map(|it| age(now_secs.saturating_sub(it.at_secs))).collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    for line in 0..longest {
        out.push('\n');
        out.extend(ages.iter().map(|age| age.chars().nth(line).unwrap_or(' ')));
    }
    out.push('\n');
    out
}

fn age(secs: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    match units.iter().find(|(size, _)| secs >= *size) {
        Some((size, unit)) => format!("{}{unit}", secs / size),
        None => format!("{secs}s"),
    }
}

/// In words: what was observed, and where to look.
pub(super) fn doctor(cx: &mut Context<'_>) -> Outcome {
    let settings = &cx.shared.settings;
    let (all, mut report) = (cx.shared.latency.all(), String::new());
    if all.is_empty() {
        report.push_str(if settings.latency_monitor_threshold.get() == 0 {
            "The latency monitor is off. Turn it on with CONFIG SET latency-monitor-threshold \
             MILLISECONDS.\n"
        } else {
            "Nothing took as long as latency-monitor-threshold.\n"
        });
    }
    for (event, series) in &all {
        let count = series.samples.len().max(1) as u64;
        let sum: u64 = series.samples.iter().map(|sample| sample.millis).sum();
        let _ = writeln!(
            report,
            "{event}: {count} seconds with slow events, {} ms on average, {} ms at worst.",
            sum / count,
            series.longest_millis
        );
    }
    let has = |event: &str| all.iter().any(|(name, _)| *name == event);
    if has("command") {
        let _ = writeln!(
            report,
            "Some commands do much at once: SLOWLOG GET shows those that take more than \
             slowlog-log-slower-than ({} microseconds).",
            settings.slowlog_log_slower_than.get()
        );
    }
    if has("fast-command") {
        report.push_str(
            "Commands that do little took long: the machine, or the device under the engine, is \
             slow or busy.\n",
        );
    }
    cx.reply.verbatim(&report);
    Ok(())
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the \
     specified command names.",
    "    If no commands are specified then all histograms are replied.",
];

pub(super) fn show_help(cx: &mut Context<'_>) -> Outcome {
    help::write(cx.reply, "LATENCY", HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_column_per_sample_and_its_age_below() {
        let samples = [(100, 10), (160, 30), (161, 50)];
        let series = Series {
            samples: samples.map(|(at_secs, millis)| Sample { at_secs, millis }).into(),
            longest_millis: 70,
        };
        let graph = draw("command", &series, 170);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 50 ms, low 10 ms (all time high 70 ms)");
        assert_eq!(lines[1], "-".repeat(80));
        assert_eq!(lines[2..], ["  #", "  |", " #|", "#||", "", "119", "m0s", " s "]);
    }
}
