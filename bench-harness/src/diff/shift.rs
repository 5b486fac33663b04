//! [`Shift`]: by what factor one small sample lies above another.

/// How often the interval fails to hold the ratio, on each side, at most: one in two hundred.
const ERROR: f64 = 0.005;
/// Rounds beyond this are not looked at: the distribution of the test takes the product of both
/// numbers.
const ROUNDS_MAX: usize = 200;

/// A ratio of two samples with a confidence interval of 99 %.
///
/// The estimate is that of Hodges and Lehmann (1963): the median of the ratios of every new figure
/// to every old one. The interval is the set of ratios that the Mann-Whitney test would not refuse,
/// from the test's exact distribution (Mann and Whitney 1947). Neither asks what the noise is
/// distributed like, one stray round does not move them, and they hold for five rounds as for fifty;
/// intervals of means, or of a bootstrap of so few rounds, are too narrow. No random numbers are
/// drawn: equal files give equal answers. The rounds are taken to be independent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The estimate.
    pub ratio: f64,
    /// The interval's begin; 0 if there are too few figures for an interval.
    pub low: f64,
    /// The interval's end; infinite if there are too few.
    pub high: f64,
}

impl Shift {
    /// Of figures, of which those above zero count; `None` if there are none of either.
    pub fn of(old: &[f64], new: &[f64]) -> Option<Self> {
        let logs = |figures: &[f64]| -> Vec<f64> {
            let usable = figures.iter().filter(|figure| **figure > 0.0 && figure.is_finite());
            usable.take(ROUNDS_MAX).map(|figure| figure.ln()).collect()
        };
        let (old, new) = (logs(old), logs(new));
        let mut differences: Vec<f64> =
            new.iter().flat_map(|new| old.iter().map(move |old| new - old)).collect();
        differences.sort_by(f64::total_cmp);
        let ratio = crate::ratio::median(&differences)?.exp();
        let interval = refused(old.len(), new.len()).and_then(|refused| {
            let last = differences.len().checked_sub(refused + 1)?;
            Some((differences.get(refused)?.exp(), differences.get(last)?.exp()))
        });
        let (low, high) = interval.unwrap_or((0.0, f64::INFINITY));
        Some(Self { ratio, low, high })
    }

    /// Whether there were enough figures for an interval.
    pub fn is_bounded(&self) -> bool {
        self.low > 0.0 && self.high.is_finite()
    }

    /// The ratio of old to new.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { ratio: 1.0 / self.ratio, low: 1.0 / self.high, high: 1.0 / self.low }
    }

    /// How far the interval reaches from 1, as a factor less 1.
    pub fn reach(&self) -> f64 {
        self.high.max(1.0 / self.low) - 1.0
    }
}

/// The greatest value of the Mann-Whitney statistic U that the test refuses on one side: as many
/// differences lie beyond the interval on each side, and one more. `None` if it refuses none.
fn refused(old: usize, new: usize) -> Option<usize> {
    let ways = ways(old, new);
    let all: f64 = ways.iter().sum();
    let mut below = 0.0;
    let accepted = ways.iter().position(|ways| {
        below += ways / all;
        below > ERROR
    })?;
    // U = 0 refused: the interval begins at the first difference.
    accepted.checked_sub(1)
}

/// In how many ways the statistic is 0, 1, ..., `old * new`: the coefficients of the Gaussian
/// binomial, the product over i of (1 - q^(new + i)) / (1 - q^i).
fn ways(old: usize, new: usize) -> Vec<f64> {
    let mut ways = vec![0.0; old * new + 1];
    if let Some(none) = ways.first_mut() {
        *none = 1.0;
    }
    for i in 1..=old {
        for at in (new + i..ways.len()).rev() {
            let less = ways.get(at - new - i).copied().unwrap_or(0.0);
            if let Some(own) = ways.get_mut(at) {
                *own -= less;
            }
        }
        for at in i..ways.len() {
            let less = ways.get(at - i).copied().unwrap_or(0.0);
            if let Some(own) = ways.get_mut(at) {
                *own += less;
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many of all subsets of ranks the statistic has each value.
    fn counted(old: usize, new: usize) -> Vec<f64> {
        let mut ways = vec![0.0; old * new + 1];
        for set in 0_u32..1 << (old + new) {
            if set.count_ones() as usize != old {
                continue;
            }
            let is_old = |rank: &usize| set >> rank & 1 == 1;
            let above = |rank: usize| (0..rank).filter(|other| !is_old(other)).count();
            let statistic: usize = (0..old + new).filter(is_old).map(above).sum();
            ways[statistic] += 1.0;
        }
        ways
    }

    #[test]
    fn the_distribution_is_exact() {
        for (old, new) in [(1, 1), (2, 3), (5, 5), (4, 7), (6, 2)] {
            assert_eq!(ways(old, new), counted(old, new), "{old} {new}");
        }
        let many = ways(ROUNDS_MAX, ROUNDS_MAX);
        assert!(many.iter().all(|ways| ways.is_finite()));
    }

    #[test]
    fn critical_values_are_those_of_the_tables() {
        // Two-sided 1 %, as printed in tables of the test.
        for (old, new, expected) in [
            (4, 4, None),
            (5, 5, Some(0)),
            (6, 6, Some(2)),
            (8, 8, Some(7)),
            (10, 10, Some(16)),
            (20, 20, Some(105)),
        ] {
            assert_eq!(refused(old, new), expected, "{old} {new}");
        }
    }

    #[test]
    fn an_estimate_is_the_median_of_all_ratios() {
        let shift = Shift::of(&[1.0, 2.0, 4.0], &[2.0, 4.0, 8.0]).unwrap();
        assert!((shift.ratio - 2.0).abs() < 1e-9 && !shift.is_bounded());
        assert_eq!(Shift::of(&[], &[1.0]), None);
        assert_eq!(Shift::of(&[0.0], &[1.0]), None);
        let old = [1.0, 1.01, 0.99, 1.02, 0.98];
        let new = old.map(|figure| figure * 1.1);
        let shift = Shift::of(&old, &new).unwrap();
        assert!((shift.ratio - 1.1).abs() < 1e-9);
        assert!((shift.low - 1.1 * 0.98 / 1.02).abs() < 1e-9, "{shift:?}");
        assert!((shift.inverse().ratio * shift.ratio - 1.0).abs() < 1e-9);
        // A stray round moves the end, not the estimate.
        let stray = Shift::of(&old, &[1.1, 1.111, 1.089, 1.122, 50.0]).unwrap();
        assert!((stray.ratio - 1.1).abs() < 0.02, "{stray:?}");
    }

    #[test]
    fn the_interval_fails_as_rarely_as_it_says() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::SmallRng::seed_from_u64(1);
        let mut sample = || -> Vec<f64> {
            // Skewed, as the time of rounds on a machine that others use.
            (0..6).map(|_| 1.0 - 0.2 * random.random::<f64>().max(1e-9).ln()).collect()
        };
        let trials = 4000;
        let failed = (0..trials)
            .filter(|_| {
                let shift = Shift::of(&sample(), &sample()).unwrap();
                !(shift.low..=shift.high).contains(&1.0)
            })
            .count();
        assert!(failed * 100 <= trials + trials / 2, "{failed} of {trials}");
    }
}
