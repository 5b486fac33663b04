//! The heat table: all workloads and engines, relative to the baseline.

use super::data::{Engine, Moment, Report, colour, ratio_of};
use super::markup::Markup;
use super::tables::{Table, ratio_words};
use super::words::{count, ratio};
use crate::ratio::{Ratio, median};

/// The factor at which the colour is full.
const FULL_COLOUR: f64 = 8.0;
/// More columns than these stand closer.
const ENGINES_MAX: usize = 10;

/// A heat table.
pub(super) struct Overview<'a> {
    /// The columns.
    pub(super) engines: &'a [Engine],
    /// The column that the others are relative to.
    pub(super) baseline: usize,
    /// What a row is.
    pub(super) head: &'static str,
    /// The figure's unit, behind the figure.
    pub(super) unit: &'static str,
    /// The rows.
    pub(super) rows: Vec<OverviewRow>,
}

/// A row: its name, where the page says more of it, and its cells.
pub(super) struct OverviewRow {
    /// Its name.
    pub(super) name: String,
    /// What tells it from others of its name.
    pub(super) variant: String,
    /// The identifier of its section.
    pub(super) target: String,
    /// In words.
    pub(super) summary: String,
    /// A cell for each engine; `None` if it was not asked for.
    pub(super) cells: Vec<Option<Cell>>,
}

/// What is known of an engine in a row.
pub(super) enum Cell {
    /// Its figures.
    Figures(Vec<(Moment, f64)>),
    /// Why there are none.
    Unsupported(String),
}

impl<'a> Overview<'a> {
    /// Of the workloads' throughput.
    pub(super) fn of_workloads(report: &'a Report) -> Self {
        let rows = report.groups.iter().enumerate().map(|(number, group)| {
            let mut cells: Vec<Option<Cell>> = report.engines.iter().map(|_| None).collect();
            for series in &group.series {
                let cell = match (&series.unsupported, series.runs.is_empty()) {
                    (Some(reason), true) => Cell::Unsupported(reason.clone()),
                    _ => Cell::Figures(
                        series.runs.iter().map(|(moment, run)| (*moment, run.ops_per_s)).collect(),
                    ),
                };
                if let Some(place) = cells.get_mut(series.engine) {
                    *place = Some(cell);
                }
            }
            OverviewRow {
                name: group.workload.clone(),
                variant: group.variant.clone(),
                target: format!("workload-{number}"),
                summary: group.summary.clone(),
                cells,
            }
        });
        let rows = rows.collect();
        let (engines, baseline) = (&report.engines, report.baseline);
        Self { engines, baseline, head: "workload", unit: "ops/s", rows }
    }

    /// Adds it as HTML.
    pub(super) fn draw(&self, out: &mut Markup) {
        out.element("div", &[("class", &"scroll")], |out| {
            let class = if self.engines.len() > ENGINES_MAX { "heat many" } else { "heat" };
            out.element("table", &[("class", &class)], |out| {
                out.element("thead", &[], |out| out.element("tr", &[], |out| self.draw_head(out)));
                out.element("tbody", &[], |out| {
                    for row in &self.rows {
                        out.element("tr", &[], |out| self.draw_row(out, row));
                    }
                });
            });
        });
    }

    fn draw_head(&self, out: &mut Markup) {
        out.leaf("th", &[("scope", &"col")], self.head);
        for (number, engine) in self.engines.iter().enumerate() {
            out.element("th", &[("scope", &"col")], |out| {
                let class = format!("dot {}", colour(number));
                out.leaf("i", &[("class", &class)], "");
                out.text(&engine.name);
                if number == self.baseline {
                    out.leaf("small", &[], "baseline");
                }
            });
        }
    }

    fn draw_row(&self, out: &mut Markup, row: &OverviewRow) {
        out.element("th", &[("scope", &"row"), ("title", &row.summary)], |out| {
            out.leaf("a", &[("href", &format!("#{}", row.target))], &row.name);
            if !row.variant.is_empty() {
                out.leaf("small", &[], &row.variant);
            }
        });
        for (number, cell) in row.cells.iter().enumerate() {
            self.draw_cell(out, row, number, cell.as_ref());
        }
    }

    fn draw_cell(&self, out: &mut Markup, row: &OverviewRow, number: usize, cell: Option<&Cell>) {
        let name = self.engines.get(number).map_or("", |engine| engine.name.as_str());
        match cell {
            None => out.leaf("td", &[("class", &"none"), ("title", &"not measured")], "·"),
            Some(Cell::Unsupported(reason)) => {
                let title = format!("{name}: {reason}");
                out.leaf("td", &[("class", &"cannot"), ("title", &title)], "cannot");
            }
            Some(Cell::Figures(figures)) => {
                let ratio_of = self.ratio(row, number, figures);
                let title = self.hover(name, figures, ratio_of);
                let middle = middle(figures).map_or_else(String::new, count);
                let Some(of) = ratio_of else {
                    return out.leaf("td", &[("class", &"plain"), ("title", &title)], middle);
                };
                let (class, share) = heat(of.median);
                let style = format!("--heat:{share}%");
                let class = if number == self.baseline { "heat-none" } else { class };
                let attributes: &[super::markup::Attribute<'_>] =
                    &[("class", &class), ("style", &style), ("title", &title)];
                out.element("td", attributes, |out| {
                    out.text(ratio(of.median));
                    out.leaf("small", &[], middle);
                });
            }
        }
    }

    fn hover(&self, name: &str, figures: &[(Moment, f64)], of: Option<Ratio>) -> String {
        let speed = middle(figures).map_or_else(String::new, count);
        let [_, spread] = ratio_words(of);
        let rounds = figures.len();
        let spread = if rounds > 1 { format!(", ratio {spread}") } else { String::new() };
        format!("{name}: {speed} {}, {rounds} rounds{spread}", self.unit)
            .replace(" 1 rounds", " 1 round")
    }

    fn ratio(&self, row: &OverviewRow, number: usize, own: &[(Moment, f64)]) -> Option<Ratio> {
        match row.cells.get(self.baseline) {
            Some(Some(Cell::Figures(baseline))) => ratio_of(own, baseline),
            _ if number == self.baseline => ratio_of(own, own),
            _ => None,
        }
    }

    /// The same as a table of words.
    pub(super) fn table(&self) -> Table {
        let head = self.engines.iter().map(|engine| engine.name.clone());
        let head = [self.head.to_owned()].into_iter().chain(head).collect();
        let row = |row: &OverviewRow| {
            let cells = row.cells.iter().enumerate().map(|(number, cell)| match cell {
                None => "·".to_owned(),
                Some(Cell::Unsupported(_)) => "cannot".to_owned(),
                Some(Cell::Figures(figures)) => {
                    let speed = middle(figures).map_or_else(String::new, count);
                    match self.ratio(row, number, figures) {
                        Some(of) if number != self.baseline => {
                            format!("{} ({speed})", ratio(of.median))
                        }
                        _ => speed,
                    }
                }
            });
            let name = match row.variant.is_empty() {
                true => row.name.clone(),
                false => format!("{} · {}", row.name, row.variant),
            };
            [name].into_iter().chain(cells).collect()
        };
        Table { head, rows: self.rows.iter().map(row).collect() }
    }
}

fn middle(figures: &[(Moment, f64)]) -> Option<f64> {
    median(&figures.iter().map(|(_, figure)| *figure).collect::<Vec<_>>())
}

/// The class and the strength, in percent, of a ratio's colour.
fn heat(ratio: f64) -> (&'static str, u32) {
    let strength = (ratio.max(1e-9).ln() / FULL_COLOUR.ln()).clamp(-1.0, 1.0);
    let class = if strength < 0.0 { "heat-low" } else { "heat-high" };
    (class, (strength.abs() * 100.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_by_factors() {
        assert_eq!(heat(1.0), ("heat-high", 0));
        assert_eq!(heat(8.0), ("heat-high", 100));
        assert_eq!(heat(0.5), ("heat-low", 33));
        assert_eq!(heat(2.0), ("heat-high", 33));
        assert_eq!(heat(0.0), ("heat-low", 100));
    }
}
