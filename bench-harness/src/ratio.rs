//! Medians, and ratios with their spread.

use serde::{Deserialize, Serialize};

/// The median of per-round ratios, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many rounds there are.
    pub rounds: usize,
}

impl Ratio {
    /// Of `subject` to `baseline`, round by round; `None` without rounds that have both.
    pub fn of(subject: &[f64], baseline: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = subject
            .iter()
            .zip(baseline)
            .filter(|(_, baseline)| **baseline > 0.0)
            .map(|(subject, baseline)| subject / baseline)
            .collect();
        Some(Self {
            median: median(&ratios)?,
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: ratios.len(),
        })
    }
}

/// The median: of an even number, the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 2.0]), Some(3.5));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine slows down by half from round to round: the ratio does not.
        let ratio = Ratio::of(&[400.0, 200.0, 110.0], &[200.0, 100.0, 50.0]).unwrap();
        assert_eq!(ratio, Ratio { median: 2.0, min: 2.0, max: 2.2, rounds: 3 });
        assert_eq!(Ratio::of(&[1.0], &[]), None);
        assert_eq!(Ratio::of(&[1.0], &[0.0]), None);
    }
}
