//! The HTML page.

use super::data::{Engine, Report, colour};
use super::markup::Markup;
use super::overview::Overview;
use super::words::{bytes, moment};
use super::{section, servers, trends};

const STYLE: &str = include_str!("style.css");

/// How to read the report; the same in both formats.
pub(super) const READING: &[(&str, &str)] = &[
    (
        "Ratios",
        "An engine's operations per second by those of the baseline, taken round by round, since \
         the machine's speed drifts; shown is the median of the rounds. Above 1 is faster. With \
         two or three rounds, differences below some ten percent say nothing.",
    ),
    (
        "Spread",
        "The thin line on a bar goes from the least to the greatest of the rounds. Bars whose \
         lines overlap may well be equal.",
    ),
    (
        "Latency",
        "The curve shows how long the given share of operations took at most: to the right, the \
         rare slow ones. A closed loop starts an operation when the last one is done, so its \
         latencies do not show how requests queue; an open loop's count from when an operation was \
         due.",
    ),
    (
        "Processor time, memory, bytes",
        "Those of the engine's own process. Background work is waited for and counted. Space \
         amplification is bytes on disk per live byte, write amplification bytes written to \
         storage per byte put; logs count.",
    ),
    (
        "Cannot",
        "The engine lacks what the workload needs, such as order or the durability asked for. No \
         figure is made up for it.",
    ),
];

/// The page.
pub(super) fn render(report: &Report) -> String {
    let mut out = Markup::default();
    out.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    out.raw("<meta name=\"color-scheme\" content=\"light dark\">");
    out.raw("<link rel=\"icon\" href=\"data:,\">");
    out.leaf("title", &[], &report.title);
    out.raw("<style>");
    out.raw(STYLE);
    out.raw("</style></head><body>");
    out.element("header", &[], |out| draw_header(out, report));
    out.element("main", &[], |out| {
        if !report.groups.is_empty() {
            draw_overview(out, report);
        }
        trends::draw(out, report);
        if !report.groups.is_empty() {
            out.element("section", &[("id", &"workloads")], |out| {
                out.leaf("h2", &[], "Workload by workload");
            });
        }
        for (number, group) in report.groups.iter().enumerate() {
            section::draw(out, report, group, number);
        }
        servers::draw(out, report);
        draw_setting(out, report);
    });
    out.raw("</body></html>\n");
    out.into_text()
}

fn draw_header(out: &mut Markup, report: &Report) {
    out.leaf("h1", &[], &report.title);
    if let Some(machine) = report.machines.first() {
        let memory = bytes(machine.memory_bytes as f64);
        let words = format!(
            "{} · {} cores · {memory} · {} · {}",
            machine.cpu_model,
            machine.cores,
            machine.kernel,
            moment(machine.started_unix_ms),
        );
        out.leaf("p", &[], words);
    }
    out.element("nav", &[], |out| {
        let link = |out: &mut Markup, target: &'static str, words: &'static str| {
            out.leaf("a", &[("href", &target)], words);
        };
        if !report.groups.is_empty() {
            link(out, "#overview", "Overview");
            link(out, "#workloads", "Workloads");
        }
        if !report.drives.is_empty() {
            link(out, "#servers", "Servers");
        }
        link(out, "#setting", "Machine and settings");
    });
}

fn draw_overview(out: &mut Markup, report: &Report) {
    out.element("section", &[("id", &"overview")], |out| {
        out.leaf("h2", &[], "Overview");
        let baseline = report.engine_name(report.baseline);
        let words = format!(
            "Operations per second relative to {baseline}, the median of the rounds; below it, \
             operations per second. Point at a cell for its spread, or for the reason why an \
             engine cannot do the workload."
        );
        out.leaf("p", &[("class", &"summary")], words);
        draw_key(out);
        Overview::of_workloads(report).draw(out);
        draw_reading(out);
    });
}

/// The colours of the heat table.
fn draw_key(out: &mut Markup) {
    out.element("p", &[("class", &"key")], |out| {
        for (class, share, words) in [
            ("heat-low", 100, "⅛ and less"),
            ("heat-low", 67, "¼"),
            ("heat-low", 33, "½"),
            ("heat-none", 0, "1"),
            ("heat-high", 33, "2"),
            ("heat-high", 67, "4"),
            ("heat-high", 100, "8 and more"),
        ] {
            let style = format!("--heat:{share}%");
            out.leaf("span", &[("class", &class), ("style", &style)], words);
        }
    });
}

fn draw_reading(out: &mut Markup) {
    out.element("details", &[("class", &"reading")], |out| {
        out.leaf("summary", &[], "How to read this");
        out.element("dl", &[], |out| {
            for (term, words) in READING {
                out.leaf("dt", &[], term);
                out.leaf("dd", &[], words);
            }
        });
    });
}

fn draw_setting(out: &mut Markup, report: &Report) {
    out.element("section", &[("id", &"setting")], |out| {
        out.leaf("h2", &[], "Machine and settings");
        for machine in &report.machines {
            out.element("dl", &[("class", &"facts")], |out| {
                for (term, words) in machine_facts(machine) {
                    out.leaf("dt", &[], term);
                    let class = if term == "Command" { "command" } else { "" };
                    out.leaf("dd", &[("class", &class)], words);
                }
            });
        }
        draw_settings(out, "Engines", &report.engines);
        draw_settings(out, "Server command lines", &report.servers);
    });
}

/// What is said of a machine, in both formats.
pub(super) fn machine_facts(machine: &crate::record::Machine) -> Vec<(&'static str, String)> {
    let confined = match machine.memory_cgroup {
        true => "each in a memory group of a quarter more than its budget and 64 MiB",
        false => "not confined: the page cache is beyond the budget",
    };
    let memory = bytes(machine.memory_bytes as f64);
    // Where the program lies is nobody's concern.
    let (program, rest) = machine.command.split_once(' ').unwrap_or((&machine.command, ""));
    let command = format!("{} {rest}", program.rsplit('/').next().unwrap_or(program));
    let mut facts = vec![
        ("Machine", format!("{}, {} cores, {memory}", machine.cpu_model, machine.cores)),
        ("System", format!("{}, files on {}", machine.kernel, machine.file_system)),
        ("Engines", confined.to_owned()),
        ("Begun", moment(machine.started_unix_ms)),
        ("Command", command.trim_end().to_owned()),
        ("Version", format!("ferrokit-bench {}", machine.version)),
    ];
    if let Some(load) = machine.load_before {
        let shared = if load > SHARED_LOAD { ": others used the machine, too" } else { "" };
        facts.push(("Load before", format!("{load:.2}{shared}")));
    }
    facts
}

/// Above this, a machine had other work before the first run.
const SHARED_LOAD: f64 = 0.5;

fn draw_settings(out: &mut Markup, title: &'static str, engines: &[Engine]) {
    if engines.is_empty() {
        return;
    }
    out.leaf("h4", &[], title);
    out.element("dl", &[("class", &"facts settings")], |out| {
        for (number, engine) in engines.iter().enumerate() {
            out.element("dt", &[], |out| {
                let class = format!("dot {}", colour(number));
                out.leaf("i", &[("class", &class)], "");
                out.text(&engine.name);
            });
            out.element("dd", &[], |out| {
                for settings in &engine.settings {
                    out.leaf("code", &[], settings);
                }
                if !engine.skipped_cases.is_empty() {
                    let skipped = format!("Conformance cases not passed: {}", engine.skipped_cases);
                    out.leaf("p", &[], skipped);
                }
            });
        }
    });
}
