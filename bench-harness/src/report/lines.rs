//! [`Lines`]: a line for each engine, with its name at its end.

use std::fmt::Write;

use super::axis::Axis;
use super::bars::{WIDTH, figure};
use super::markup::{Attribute, Markup, at};
use super::words::short;

const LEFT: f64 = 58.0;
const NAME_WIDTH: f64 = 112.0;
const TOP: f64 = 10.0;
const FOOT: f64 = 40.0;
const HEIGHT_MIN: f64 = 262.0;
/// More lines than these have the room of two plots.
const LINES_MAX: usize = 8;
const WIDE: f64 = 2.0 * WIDTH + 14.0;
const WIDE_HEIGHT_MIN: f64 = 330.0;
/// Names of lines are at least this far apart.
const NAME_HEIGHT: f64 = 14.5;

/// A line.
pub(super) struct Line {
    /// The engine's name.
    pub(super) name: String,
    /// Its colour, a class of the style sheet.
    pub(super) colour: String,
    /// From the left.
    pub(super) points: Vec<(f64, f64)>,
}

/// A line for each engine.
pub(super) struct Lines {
    /// What is shown.
    pub(super) title: &'static str,
    /// What more there is to say.
    pub(super) note: &'static str,
    /// Along the bottom.
    pub(super) across: Axis,
    /// Along the left.
    pub(super) up: Axis,
    /// A figure of the left axis, with its unit.
    pub(super) show: fn(f64) -> String,
    /// A figure of the bottom axis, with its unit.
    pub(super) show_across: fn(f64) -> String,
    /// Whether points are shown: where there are few.
    pub(super) has_points: bool,
    /// The lines.
    pub(super) lines: Vec<Line>,
}

impl Lines {
    /// Adds the plot, unless there are no lines.
    pub(super) fn draw(&self, out: &mut Markup) {
        if self.lines.is_empty() {
            return;
        }
        let least = if self.is_wide() { WIDE_HEIGHT_MIN } else { HEIGHT_MIN };
        let height = least.max(self.lines.len() as f64 * NAME_HEIGHT + TOP + FOOT);
        figure(out, self.title, self.note, (self.width(), height), |out| {
            let bottom = height - FOOT;
            self.draw_grid(out, bottom);
            let ends: Vec<f64> = self.lines.iter().map(|line| self.end(line, bottom)).collect();
            let names = spread_out(&ends, TOP + 4.0, bottom);
            for (line, name) in self.lines.iter().zip(names) {
                self.draw_line(out, line, bottom, name);
            }
        });
    }

    fn is_wide(&self) -> bool {
        self.lines.len() > LINES_MAX
    }

    fn width(&self) -> f64 {
        if self.is_wide() { WIDE } else { WIDTH }
    }

    fn draw_grid(&self, out: &mut Markup, bottom: f64) {
        let right = self.width() - NAME_WIDTH;
        for (mark, words) in &self.up.marks {
            let Some(y) = self.y(*mark, bottom) else { continue };
            let (from, to, y, below) = (at(LEFT), at(right), at(y), at(y + 4.0));
            out.shape(
                "line",
                &[("class", &"grid"), ("x1", &from), ("x2", &to), ("y1", &y), ("y2", &y)],
            );
            let place: &[Attribute<'_>] =
                &[("class", &"mark end"), ("x", &at(LEFT - 6.0)), ("y", &below)];
            out.leaf("text", place, words);
        }
        for (mark, words) in &self.across.marks {
            let Some(x) = self.x(*mark) else { continue };
            let (x, top, end) = (at(x), at(TOP), at(bottom));
            out.shape(
                "line",
                &[("class", &"grid faint"), ("x1", &x), ("x2", &x), ("y1", &top), ("y2", &end)],
            );
            let place: &[Attribute<'_>] =
                &[("class", &"mark mid"), ("x", &x), ("y", &at(bottom + 15.0))];
            out.leaf("text", place, words);
        }
        let middle = at((LEFT + right) / 2.0);
        let place: &[Attribute<'_>] =
            &[("class", &"mark mid"), ("x", &middle), ("y", &at(bottom + 32.0))];
        out.leaf("text", place, self.across.title);
    }

    fn draw_line(&self, out: &mut Markup, line: &Line, bottom: f64, name: f64) {
        let places: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter_map(|(x, y)| Some((self.x(*x)?, self.y(*y, bottom)?)))
            .collect();
        let Some((last_x, last_y)) = places.last().copied() else { return };
        let path = path(&places);
        out.element("g", &[("class", &format!("series {}", line.colour))], |out| {
            let last = line.points.last().map_or(0.0, |(_, value)| *value);
            out.leaf("title", &[], format!("{}: {} at the end", line.name, (self.show)(last)));
            out.shape("path", &[("class", &"hit"), ("d", &path)]);
            out.shape("path", &[("class", &"line"), ("d", &path)]);
            if self.has_points {
                self.draw_points(out, line, bottom);
            }
            let right = self.width() - NAME_WIDTH;
            let leader = format!(
                "M{last_x:.1} {last_y:.1}L{:.1} {last_y:.1}L{:.1} {name:.1}",
                right.max(last_x),
                right + 10.0
            );
            out.shape("path", &[("class", &"leader"), ("d", &leader)]);
            let place: &[Attribute<'_>] =
                &[("class", &"label own"), ("x", &at(right + 13.0)), ("y", &at(name + 4.0))];
            out.leaf("text", place, short(&line.name));
        });
    }

    fn draw_points(&self, out: &mut Markup, line: &Line, bottom: f64) {
        for (across, up) in &line.points {
            let (Some(x), Some(y)) = (self.x(*across), self.y(*up, bottom)) else { continue };
            let place: &[Attribute<'_>] =
                &[("class", &"point"), ("cx", &at(x)), ("cy", &at(y)), ("r", &3.2)];
            out.element("circle", place, |out| {
                let (up, across) = ((self.show)(*up), (self.show_across)(*across));
                out.leaf("title", &[], format!("{}: {up} at {across}", line.name));
            });
        }
    }

    /// How high a line ends.
    fn end(&self, line: &Line, bottom: f64) -> f64 {
        let on_plot = |(x, y): &(f64, f64)| self.x(*x).and(self.y(*y, bottom));
        line.points.iter().rev().find_map(on_plot).unwrap_or(bottom)
    }

    fn x(&self, value: f64) -> Option<f64> {
        Some(LEFT + self.across.place(value)? * (self.width() - NAME_WIDTH - LEFT))
    }

    fn y(&self, value: f64, bottom: f64) -> Option<f64> {
        Some(bottom - self.up.place(value)? * (bottom - TOP))
    }
}

fn path(places: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (number, (x, y)) in places.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' });
    }
    path
}

/// Moves places apart, so that names at them do not cover each other, as little as that takes.
fn spread_out(places: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    let place = |index: usize| places.get(index).copied().unwrap_or(bottom);
    order.sort_by(|one, other| place(*one).total_cmp(&place(*other)));
    // Blocks of names that touch: each with the places it would like, centred on their mean.
    let mut blocks: Vec<(Vec<usize>, f64)> = Vec::new();
    for index in order {
        let mut block = (vec![index], place(index));
        while let Some(above) = blocks.pop_if(|above| reach(above) > reach_up(&block)) {
            let (count, added) = (above.0.len() as f64, block.0.len() as f64);
            let centre = (above.1 * count + block.1 * added) / (count + added);
            block = ([above.0, block.0].concat(), centre);
        }
        let half = block.0.len() as f64 * NAME_HEIGHT / 2.0;
        block.1 =
            block.1.min(bottom + NAME_HEIGHT / 2.0 - half).max(top - NAME_HEIGHT / 2.0 + half);
        blocks.push(block);
    }
    let mut moved = places.to_vec();
    let mut least = top;
    for (block, centre) in blocks {
        let first = centre - (block.len() - 1) as f64 * NAME_HEIGHT / 2.0;
        for (number, index) in block.into_iter().enumerate() {
            let wanted = (first + number as f64 * NAME_HEIGHT).max(least);
            least = wanted + NAME_HEIGHT;
            if let Some(place) = moved.get_mut(index) {
                *place = wanted;
            }
        }
    }
    moved
}

fn reach(block: &(Vec<usize>, f64)) -> f64 {
    block.1 + block.0.len() as f64 * NAME_HEIGHT / 2.0
}

fn reach_up(block: &(Vec<usize>, f64)) -> f64 {
    block.1 - block.0.len() as f64 * NAME_HEIGHT / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_cover_each_other_and_keep_their_order() {
        for places in [
            vec![],
            vec![50.0],
            vec![50.0, 50.0, 51.0],
            vec![10.0, 12.0, 200.0, 199.0, 100.0],
            vec![200.0; 12],
            vec![10.0; 12],
        ] {
            let mut moved = spread_out(&places, 14.0, 220.0);
            assert!(moved.iter().all(|place| (13.9..=220.1).contains(place)), "{moved:?}");
            for (one, other) in places.iter().zip(&moved) {
                let alone = places.iter().filter(|place| (*place - one).abs() < 40.0).count() == 1;
                assert!(!alone || (one - other).abs() < 5.0, "{places:?} {moved:?}");
            }
            moved.sort_by(f64::total_cmp);
            assert!(
                moved.windows(2).all(|pair| pair[1] - pair[0] >= NAME_HEIGHT - 0.01),
                "{moved:?}"
            );
        }
    }
}
