//! [`Axis`]: from figures to places on a plot, and the figures that are marked.

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal factors.
    Log,
}

/// An axis of a plot.
pub(super) struct Axis {
    /// What it shows.
    pub(super) title: &'static str,
    scale: Scale,
    low: f64,
    high: f64,
    /// Where there is a mark, and what it says.
    pub(super) marks: Vec<(f64, String)>,
}

/// More marks than this are too many.
const MARKS: usize = 6;

impl Axis {
    /// An axis from zero to `values`' greatest.
    pub(super) fn linear(
        title: &'static str,
        values: impl Iterator<Item = f64>,
        show: fn(f64) -> String,
    ) -> Self {
        let greatest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let step = round_up(greatest / 4.0);
        let marks = (0..=MARKS).map(|number| number as f64 * step);
        let marks: Vec<f64> = marks.take_while(|mark| *mark < greatest + step * 0.999).collect();
        let high = marks.last().copied().filter(|high| *high > 0.0).unwrap_or(1.0);
        let marks = marks.into_iter().map(|mark| (mark, show(mark))).collect();
        Self { title, scale: Scale::Linear, low: 0.0, high, marks }
    }

    /// An axis from a power of ten (or, over less than two, a 1, 2 or 5 of it) to another that
    /// have `values` between them. Values that are not above 0 have no place on it.
    pub(super) fn log(
        title: &'static str,
        values: impl Iterator<Item = f64>,
        show: fn(f64) -> String,
    ) -> Self {
        let (low, high) = bounds(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let decades = high.log10().ceil() as i32 - low.log10().floor() as i32;
        let factors: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = low.log10().floor() as i32;
        let grid: Vec<f64> = (first..=first + decades + 1)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
            .collect();
        // 1 % above counts as there: powers are not exact.
        let begin = grid.iter().rposition(|mark| *mark <= low * 1.01).unwrap_or(0);
        let mut end = grid.iter().position(|mark| *mark >= high * 0.99).unwrap_or(grid.len() - 1);
        end = end.max(begin + 1).min(grid.len() - 1);
        let inside = grid.get(begin..=end).unwrap_or_default();
        let every = inside.len().div_ceil(MARKS + 1);
        let marks = inside.iter().step_by(every).map(|mark| (*mark, show(*mark))).collect();
        let ends = (inside.first().copied(), inside.last().copied());
        let (low, high) = (ends.0.unwrap_or(low).min(low), ends.1.unwrap_or(high).max(high));
        Self { title, scale: Scale::Log, low, high, marks }
    }

    /// An axis with marks of its own.
    pub(super) fn marked(
        title: &'static str,
        scale: Scale,
        (low, high): (f64, f64),
        marks: Vec<(f64, String)>,
    ) -> Self {
        Self { title, scale, low, high, marks }
    }

    /// Where a value is: 0 at the axis' begin, 1 at its end; `None` if it is not on it.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Log => return None,
        };
        (place.is_finite() && (-0.01..=1.01).contains(&place)).then_some(place)
    }
}

/// The least and the greatest of finite values.
pub(super) fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The least of 1, 2, 2.5, 5 times a power of ten that is not less.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powi(value.log10().floor() as i32);
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= value * 0.9999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(axis: &Axis) -> Vec<f64> {
        axis.marks.iter().map(|(mark, _)| *mark).collect()
    }

    #[test]
    fn marks_are_round_and_few() {
        let show = |value: f64| value.to_string();
        let axis = Axis::linear("", [0.0, 930.0].into_iter(), show);
        assert_eq!(marks(&axis), [0.0, 250.0, 500.0, 750.0, 1000.0]);
        assert_eq!(axis.place(500.0), Some(0.5));
        let axis = Axis::log("", [150.0, 9.0e6].into_iter(), show);
        assert_eq!((marks(&axis).first(), marks(&axis).last()), (Some(&100.0), Some(&1e7)));
        assert!(axis.place(0.0).is_none() && axis.place(100.0).is_some());
        let axis = Axis::log("", [30.0, 70.0].into_iter(), show);
        assert_eq!(marks(&axis), [20.0, 50.0, 100.0]);
    }

    #[test]
    fn odd_values_neither_hang_nor_fail() {
        let show = |value: f64| value.to_string();
        for values in [
            vec![],
            vec![0.0],
            vec![-1.0],
            vec![f64::NAN, f64::INFINITY],
            vec![1e-300, 1e300],
            vec![5.0],
            vec![f64::MAX],
        ] {
            for axis in [
                Axis::linear("", values.iter().copied(), show),
                Axis::log("", values.iter().copied(), show),
            ] {
                assert!(axis.marks.len() <= 2 * MARKS, "{values:?}: {}", axis.marks.len());
                let _ = axis.place(5.0);
            }
        }
    }
}
