//! INFO. Fields carry Redis' names where they mean the same; a figure that is not known is left
//! out.

mod engine;
mod process;
mod statistics;

use std::fmt::{Display, Write};

use super::table::{CommandInfo, category, flag};
use super::{Context, Handler, Outcome};
use crate::stats::{Counter, WorkerStats};

pub(super) const ROWS: &[CommandInfo] = &[CommandInfo {
    name: "info",
    arity: -1,
    flags: flag::LOADING | flag::STALE,
    categories: category::DANGEROUS,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    summary: "Returns information and statistics about the server.",
    handler: Handler::Info,
    ..CommandInfo::DEFAULT
}];

/// When a section is shown though it was not asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Without arguments, with `default`, `all` and `everything`.
    ByDefault,
    /// With `all` and `everything`.
    WithAll,
}

/// The sections in the order they are shown.
const SECTIONS: &[(&str, Shown)] = &[
    ("server", Shown::ByDefault),
    ("clients", Shown::ByDefault),
    ("memory", Shown::ByDefault),
    ("persistence", Shown::ByDefault),
    ("stats", Shown::ByDefault),
    ("replication", Shown::ByDefault),
    ("cpu", Shown::ByDefault),
    ("modules", Shown::ByDefault),
    ("engine", Shown::ByDefault),
    ("commandstats", Shown::WithAll),
    ("errorstats", Shown::ByDefault),
    ("latencystats", Shown::WithAll),
    ("cluster", Shown::ByDefault),
    ("keyspace", Shown::ByDefault),
];

/// Whether a section is asked for.
fn is_asked(cx: &Context<'_>, section: &str, shown: Shown) -> bool {
    let by_default = shown == Shown::ByDefault;
    if cx.args.len() == 1 {
        return by_default;
    }
    cx.args.from(1).any(|asked| {
        let is = |name: &str| asked.eq_ignore_ascii_case(name.as_bytes());
        is(section) || is("all") || is("everything") || by_default && is("default")
    })
}

pub(super) async fn info(cx: &mut Context<'_>) -> Outcome {
    let mut out = Text::default();
    for &(section, shown) in SECTIONS {
        if !is_asked(cx, section, shown) {
            continue;
        }
        match section {
            "server" => process::server(cx, &mut out),
            "clients" => process::clients(cx, &mut out),
            "memory" => process::memory(cx, &mut out),
            "persistence" => engine::persistence(cx, &mut out),
            "stats" => statistics::stats(cx, &mut out),
            "replication" => engine::replication(cx, &mut out),
            "cpu" => process::cpu(&mut out),
            "modules" => out.section("Modules"),
            "engine" => engine::engine(cx, &mut out),
            "commandstats" => statistics::commands(cx, &mut out),
            "errorstats" => statistics::errors(cx, &mut out),
            "latencystats" => statistics::latencies(cx, &mut out),
            "cluster" => {
                out.section("Cluster");
                out.field("cluster_enabled", 0);
            }
            _ => engine::keyspace(cx, &mut out).await?,
        }
    }
    cx.reply.verbatim(&out.0);
    Ok(())
}

/// The text of the reply.
#[derive(Default)]
struct Text(String);

impl Text {
    fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# {title}\r\n");
    }

    fn field(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Bytes, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        let _ = write!(self.0, "{name}:{bytes}\r\n{name}_human:{}\r\n", human(bytes));
    }
}

fn human(bytes: u64) -> String {
    let units = [(1_u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

/// A counter of all workers together.
fn sum(cx: &Context<'_>, counter: fn(&WorkerStats) -> &Counter) -> u64 {
    cx.shared.stats.iter().map(|stats| counter(stats).get()).sum()
}
