//! [`Table`]: figures in rows, for both formats.

use std::fmt::Write;

use super::data::{Group, Report};
use super::markup::Markup;
use super::words::{bytes, count, factor, ratio, time_ns};
use crate::measurement::Measurement;
use crate::ratio::Ratio;

/// A table. The first cell of a row is its name.
pub(super) struct Table {
    /// The columns' heads.
    pub(super) head: Vec<String>,
    /// The rows. One with two cells has a remark in the place of figures.
    pub(super) rows: Vec<Vec<String>>,
}

/// A column of figures: its head, the figure if there is one, and how it is shown.
type Column = (&'static str, fn(&Measurement) -> Option<f64>, fn(f64) -> String);

const COLUMNS: &[Column] = &[
    ("p50", |m| Some(m.latency_ns.p50 as f64), time_ns),
    ("p99", |m| Some(m.latency_ns.p99 as f64), time_ns),
    ("p99.9", |m| Some(m.latency_ns.p999 as f64), time_ns),
    ("longest", |m| Some(m.latency_ns.max as f64), time_ns),
    ("CPU/op", |m| Some(m.cpu_us_per_operation() * 1e3), time_ns),
    ("resident", |m| Some(m.rss_bytes as f64), bytes),
    ("on disk", |m| Some(m.disk_bytes as f64), bytes),
    ("space amp.", Measurement::space_amplification, factor),
    ("write amp.", Measurement::write_amplification, factor),
    ("read/op", |m| Some(m.read_bytes as f64 / m.operations.max(1) as f64), bytes),
];

impl Table {
    /// The figures of a group: medians over the rounds.
    pub(super) fn of_group(report: &Report, group: &Group) -> Self {
        let head = ["engine", "ops/s", "ratio", "min–max"].into_iter();
        let head = head.chain(COLUMNS.iter().map(|(head, _, _)| *head));
        let row = |series: &super::data::Series| {
            let name = report.engine_name(series.engine).to_owned();
            if let (Some(reason), true) = (&series.unsupported, series.runs.is_empty()) {
                return vec![name, format!("cannot: {reason}")];
            }
            let speed = series.median(|m| m.ops_per_s).map_or_else(String::new, count);
            let [ratio, spread] = match series.engine == report.baseline {
                true => ["baseline".to_owned(), String::new()],
                false => ratio_words(group.ratio(series, report.baseline)),
            };
            let figures = COLUMNS.iter().map(|(_, figure, show)| {
                let known: Vec<f64> =
                    series.runs.iter().filter_map(|(_, run)| figure(run)).collect();
                crate::ratio::median(&known).map_or_else(|| "–".to_owned(), show)
            });
            [name, speed, ratio, spread].into_iter().chain(figures).collect()
        };
        Self {
            head: head.map(str::to_owned).collect(),
            rows: group.series.iter().map(row).collect(),
        }
    }

    /// Adds it as HTML.
    pub(super) fn draw(&self, out: &mut Markup) {
        let head = |out: &mut Markup| {
            self.head.iter().for_each(|head| out.leaf("th", &[("scope", &"col")], head));
        };
        let rows = |out: &mut Markup| {
            for row in &self.rows {
                out.element("tr", &[], |out| self.draw_row(out, row));
            }
        };
        out.element("div", &[("class", &"scroll")], |out| {
            out.element("table", &[("class", &"figures")], |out| {
                out.element("thead", &[], |out| out.element("tr", &[], head));
                out.element("tbody", &[], rows);
            });
        });
    }

    fn draw_row(&self, out: &mut Markup, row: &[String]) {
        let Some((name, cells)) = row.split_first() else { return };
        out.leaf("th", &[("scope", &"row")], name);
        let remark = self.head.len() - 1;
        match cells {
            [only] if remark > 1 => {
                out.leaf("td", &[("class", &"remark"), ("colspan", &remark)], only);
            }
            _ => cells.iter().for_each(|cell| out.leaf("td", &[], cell)),
        }
    }

    /// The table as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        };
        line(&mut self.head.iter().map(|cell| escape(cell)));
        line(&mut self.head.iter().enumerate().map(|(at, _)| match at {
            0 => "---".to_owned(),
            _ => "---:".to_owned(),
        }));
        for row in &self.rows {
            let blank = self.head.len().saturating_sub(row.len());
            let cells = row.iter().map(|cell| escape(cell));
            line(&mut cells.chain(std::iter::repeat_n(String::new(), blank)));
        }
        out
    }
}

/// A ratio and its spread. A ratio of different measuring processes has none, and says so.
pub(super) fn ratio_words(of: Option<Ratio>) -> [String; 2] {
    match of {
        None => ["–".to_owned(), String::new()],
        Some(of) if of.rounds == 0 => [ratio(of.median), "of other rounds".to_owned()],
        Some(of) => [ratio(of.median), format!("{}–{}", ratio(of.min), ratio(of.max))],
    }
}

/// Text of a file as text in Markdown, and in a cell of a table: nothing of it is markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '$' => {
                out.extend(['\\', character])
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_cell() {
        let table = Table {
            head: vec!["a".into(), "b".into()],
            rows: vec![vec!["x|y\n<b>_z_".into(), "1".into()], vec!["only".into()]],
        };
        assert_eq!(
            table.markdown(),
            "| a | b |\n| --- | ---: |\n| x\\|y &lt;b&gt;\\_z\\_ | 1 |\n| only |  |\n"
        );
    }
}
