//! [`Bars`]: a bar for each engine, with its figure beside it and the spread over rounds on it. All
//! begin at zero; with the figures there, no axis is needed.

use super::axis::Axis;
use super::markup::{Attribute, Markup, at};
use super::words::short;

/// A plot's width; heights follow from the number of bars.
pub(super) const WIDTH: f64 = 460.0;
const LABEL_WIDTH: f64 = 118.0;
const FIGURE_WIDTH: f64 = 78.0;
const ROW: f64 = 25.0;
const BAR: f64 = 15.0;
const TOP: f64 = 4.0;
const FOOT: f64 = 4.0;

/// A bar.
pub(super) struct Bar {
    /// The engine's name.
    pub(super) name: String,
    /// Its colour, a class of the style sheet.
    pub(super) colour: String,
    /// What it is made of, from the left.
    pub(super) parts: Vec<f64>,
    /// The least and the greatest over the rounds.
    pub(super) spread: Option<(f64, f64)>,
    /// What is said when it is pointed at.
    pub(super) hover: String,
}

/// A bar for each engine.
pub(super) struct Bars {
    /// What is shown.
    pub(super) title: &'static str,
    /// What more there is to say.
    pub(super) note: &'static str,
    /// A figure with its unit.
    pub(super) show: fn(f64) -> String,
    /// From the top.
    pub(super) bars: Vec<Bar>,
}

impl Bars {
    /// Adds the plot, unless there are no bars, or all are nothing.
    pub(super) fn draw(&self, out: &mut Markup) {
        let ends = self.bars.iter().flat_map(|bar| {
            let spread = bar.spread.map_or(0.0, |(_, high)| high);
            [bar.parts.iter().sum::<f64>(), spread]
        });
        if !ends.clone().any(|end| end > 0.0) {
            return;
        }
        let axis = Axis::linear("", ends, self.show);
        let height = TOP + self.bars.len() as f64 * ROW + FOOT;
        figure(out, self.title, self.note, (WIDTH, height), |out| {
            let (x, bottom) = (at(LABEL_WIDTH), at(height - FOOT));
            let zero: &[Attribute<'_>] =
                &[("class", &"grid"), ("x1", &x), ("x2", &x), ("y1", &at(TOP)), ("y2", &bottom)];
            out.shape("line", zero);
            for (number, bar) in self.bars.iter().enumerate() {
                self.draw_bar(out, &axis, bar, TOP + number as f64 * ROW);
            }
        });
    }

    fn draw_bar(&self, out: &mut Markup, axis: &Axis, bar: &Bar, top: f64) {
        let middle = top + ROW / 2.0;
        out.element("g", &[("class", &format!("row {}", bar.colour))], |out| {
            out.leaf("title", &[], &bar.hover);
            rectangle(out, "hit", (0.0, WIDTH), (top, ROW));
            words(out, "label end", LABEL_WIDTH - 10.0, middle, &short(&bar.name));
            let mut sum = 0.0;
            for (number, part) in bar.parts.iter().enumerate() {
                let (left, right) = (x(axis, sum), x(axis, sum + part));
                let class = if number == 0 { "bar" } else { "bar pale" };
                let across = (left, (right - left).max(1.0));
                rectangle(out, class, across, (middle - BAR / 2.0, BAR));
                sum += part;
            }
            let mut end = x(axis, sum);
            if let Some((low, high)) = bar.spread.filter(|(low, high)| low < high) {
                let (left, right) = (x(axis, low), x(axis, high));
                out.shape("path", &[("class", &"spread"), ("d", &whisker(left, right, middle))]);
                end = end.max(right);
            }
            words(out, "figure", end + 7.0, middle, &(self.show)(sum));
        });
    }
}

/// A rectangle, by its begin and its size in both directions.
fn rectangle(out: &mut Markup, class: &'static str, across: (f64, f64), down: (f64, f64)) {
    let [x, y, width, height] = [across.0, down.0, across.1, down.1].map(at);
    out.shape(
        "rect",
        &[
            ("class", &class),
            ("x", &x),
            ("y", &y),
            ("width", &width),
            ("height", &height),
            ("rx", &2),
        ],
    );
}

/// Words whose middle is at a height.
fn words(out: &mut Markup, class: &'static str, x: f64, middle: f64, text: &str) {
    let place: &[Attribute<'_>] = &[("class", &class), ("x", &at(x)), ("y", &at(middle + 4.5))];
    out.leaf("text", place, text);
}

/// A line from left to right with an end at both sides.
fn whisker(left: f64, right: f64, y: f64) -> String {
    let (top, bottom) = (y - 4.0, y + 4.0);
    format!(
        "M{left:.1} {y:.1}H{right:.1}M{left:.1} {top:.1}V{bottom:.1}M{right:.1} {top:.1}V{bottom:.1}"
    )
}

fn x(axis: &Axis, value: f64) -> f64 {
    LABEL_WIDTH + axis.place(value).unwrap_or(0.0) * (WIDTH - LABEL_WIDTH - FIGURE_WIDTH)
}

/// A plot with its title. One that is wider than [`WIDTH`] has the room of two.
pub(super) fn figure(
    out: &mut Markup,
    title: &'static str,
    note: &'static str,
    (width, height): (f64, f64),
    inside: impl FnOnce(&mut Markup),
) {
    let class: &[Attribute<'_>] = if width > WIDTH { &[("class", &"wide")] } else { &[] };
    out.element("figure", class, |out| {
        out.element("figcaption", &[], |out| {
            out.leaf("b", &[], title);
            if !note.is_empty() {
                out.text(" ");
                out.leaf("span", &[], note);
            }
        });
        let box_of = format!("0 0 {width:.0} {height:.0}");
        out.element(
            "svg",
            &[("viewBox", &box_of), ("role", &"img"), ("aria-label", &title)],
            inside,
        );
    });
}
