//! The report as Markdown: the tables without the plots.

use std::fmt::Write;

use super::data::{Engine, Group, Report};
use super::overview::Overview;
use super::page::{READING, machine_facts};
use super::servers::overviews;
use super::tables::{Table, escape};
use super::words::phrases;

/// The text.
pub(super) fn render(report: &Report) -> String {
    let mut out = format!("# {}\n", escape(&report.title));
    if !report.groups.is_empty() {
        let baseline = escape(report.engine_name(report.baseline));
        let _ = writeln!(
            out,
            "\n## Overview\n\nOperations per second relative to {baseline} (and as they are): \
             medians over the rounds.\n",
        );
        out.push_str(&Overview::of_workloads(report).table().markdown());
        out.push_str("\n## Workloads\n");
    }
    for group in &report.groups {
        write_group(&mut out, report, group);
    }
    if !report.drives.is_empty() {
        out.push_str("\n## Servers\n");
        for (title, overview) in overviews(report) {
            let _ = writeln!(out, "\n### {title}\n");
            out.push_str(&overview.table().markdown());
        }
        for drive in &report.drives {
            let _ = writeln!(out, "\n### {}: {}\n", escape(&drive.workload), drive.words());
            out.push_str(&drive.table(report).markdown());
        }
    }
    write_setting(&mut out, report);
    out
}

fn write_group(out: &mut String, report: &Report, group: &Group) {
    let _ = writeln!(out, "\n### {}\n\n{}.", escape(&group.name()), escape(&group.summary));
    let mut words = phrases(&group.parameters);
    words.retain(|phrase| !phrase.is_empty());
    words.push(format!("rounds: {}", group.rounds()));
    let _ = writeln!(out, "{}.\n", escape(&words.join(", ")));
    out.push_str(&Table::of_group(report, group).markdown());
}

fn write_setting(out: &mut String, report: &Report) {
    out.push_str("\n## Machine and settings\n\n");
    for machine in &report.machines {
        for (term, words) in machine_facts(machine) {
            let _ = writeln!(out, "- {term}: {}", escape(&words));
        }
        out.push('\n');
    }
    let engines = report.engines.iter().chain(&report.servers);
    let row = |engine: &Engine| {
        vec![engine.name.clone(), engine.settings.join("; "), engine.skipped_cases.clone()]
    };
    let head = ["engine", "settings", "conformance cases not passed"];
    let table = Table { head: head.map(str::to_owned).to_vec(), rows: engines.map(row).collect() };
    out.push_str(&table.markdown());
    out.push_str("\n## How to read this\n\n");
    for (term, words) in READING {
        let _ = writeln!(out, "- **{term}**: {words}");
    }
}
